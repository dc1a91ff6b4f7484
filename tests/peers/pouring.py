"""As much as goes through: octets over one TCP connection, or small datagrams, for benchmarks of what lies between.

`Basin` takes everything and looks at none of it; `Pouring` sends for a time and says how much left. Small datagrams go
out many in a call (sendmmsg(2)), or Python itself would be what is measured. `python -m tests.peers.pouring` is the
process of either.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import sys
import time

from tests.peers.child import Child, Commands

AT_ONCE = 1 << 20
IN_A_CALL = 64
_libc = ctypes.CDLL(None, use_errno=True)


class Basin(Child):
    """Takes TCP and UDP at one address and port. Datagrams are left lying until the kernel drops them."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__("tests.peers.pouring", ["basin", address, str(port)])


class Pouring(Child):
    """Sends to a basin."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__("tests.peers.pouring", ["pour", address, str(port)])

    def octets(self, seconds: float) -> float:
        """Octets a second over a connection of its own."""
        return float(self.tell(kind="octets", seconds=seconds)["rate"])

    def datagrams(self, seconds: float, size: int = 64) -> float:
        """Datagrams a second that left; what came is for the caller to count."""
        return float(self.tell(kind="datagrams", seconds=seconds, size=size)["rate"])


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct mmsghdr on a 64-bit Linux."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("pieces", ctypes.POINTER(_Piece)),
        ("number", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint),
    )


def _octets(address: str, port: int, seconds: float) -> float:
    data = memoryview(os.urandom(AT_ONCE))
    with socket.create_connection((address, port)) as made:
        sent, began = 0, time.perf_counter()
        while (now := time.perf_counter()) < began + seconds:
            sent += made.send(data)
        return sent / (now - began)


def _datagrams(address: str, port: int, seconds: float, size: int) -> float:
    data = ctypes.create_string_buffer(size)
    piece = _Piece(ctypes.addressof(data), size)
    messages = (_Message * IN_A_CALL)(*[_Message(pieces=ctypes.pointer(piece), number=1) for _ in range(IN_A_CALL)])
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.connect((address, port))
        sent, began = 0, time.perf_counter()
        while (now := time.perf_counter()) < began + seconds:
            done = _libc.sendmmsg(made.fileno(), messages, IN_A_CALL, 0)
            if done < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            sent += done
        return sent / (now - began)


def _pour(address: str, port: int) -> None:
    commands = Commands()
    Commands.answer(ready=True)
    while True:
        for command in commands.read():
            seconds = float(command["seconds"])
            if command["kind"] == "octets":
                Commands.answer(rate=_octets(address, port, seconds))
            else:
                Commands.answer(rate=_datagrams(address, port, seconds, int(command["size"])))


def _take(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    buffer = bytearray(AT_ONCE)
    with (
        socket.create_server((address, port), family=family) as front,
        socket.socket(family, socket.SOCK_DGRAM) as lying,
        select.epoll() as poll,
    ):
        lying.bind((address, port))
        poll.register(0, select.EPOLLIN)
        poll.register(front.fileno(), select.EPOLLIN)
        lines: dict[int, socket.socket] = {}
        commands = Commands()
        Commands.answer(ready=True)
        while True:
            for number, _ in poll.poll():
                if number == 0:
                    commands.read()
                elif number == front.fileno():
                    new, _ = front.accept()
                    lines[new.fileno()] = new
                    poll.register(new.fileno(), select.EPOLLIN)
                elif not lines[number].recv_into(buffer):
                    poll.unregister(number)
                    lines.pop(number).close()


def main() -> None:
    """`pouring basin|pour ADDRESS PORT`"""
    what, address, port = sys.argv[1:]
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        (_take if what == "basin" else _pour)(address, int(port))


if __name__ == "__main__":
    main()
