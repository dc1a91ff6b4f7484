"""A socket that hears every frame of an interface, and nothing else of this machine: packet(7).

It is opened as root (CAP_NET_RAW) and read as somebody who may do nothing. Tags that the kernel took out of a frame are
put back where they stood.
"""

from __future__ import annotations

import grp
import os
import pwd
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from appliance.seeing import sieve
from appliance.seeing.files import LARGEST_FRAME, Frame
from protocols.capture.frames import ETHERNET

SERVICE_USERS = ("locum", "nobody")
BUFFER = 8 << 20
PATIENCE = 0.2
"""Seconds between two looks at whether it is time to end."""

_SOL_PACKET, _ADD_MEMBERSHIP, _STATISTICS, _AUXDATA = 263, 1, 6, 8
_PROMISCUOUS = 1
_ALL = 0x0003
_TIMESTAMP = 35
_AUXILIARY = struct.Struct("IIIHHHH")
_TIME = struct.Struct("qq")
_TAG_THERE, _TAG_KIND_THERE = 0x10, 0x40
_DOT1Q = 0x8100


class CannotListen(Exception):
    """The interface cannot be listened to. The text is one line: what, where, what to do."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame, and the interface on which it was heard. `going_out`: this machine sent it, or handed it on."""

    frame: Frame
    interface: str
    going_out: bool


class Listening:
    """Open sockets, one an interface. A context manager."""

    def __init__(self, interfaces: Sequence[str], ports: Sequence[int] = ()) -> None:
        """`ports`: only what comes from or goes to one of them; without any: everything. Raises CannotListen."""
        self._sockets: dict[int, tuple[str, socket.socket]] = {}
        try:
            for name in interfaces:
                opened = _opened(name, ports)
                self._sockets[opened.fileno()] = (name, opened)
        except CannotListen:
            self.close()
            raise

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hear nothing more."""
        for _, opened in self._sockets.values():
            opened.close()

    def frames(self, seconds: float | None, stopped: Callable[[], bool]) -> Iterator[Heard]:
        """What is heard, for so long or until it is `stopped`: all that had come by then, however late it is read.
        Raises CannotListen if an interface goes.
        """
        until = float("inf") if seconds is None else time.monotonic() + seconds
        poll = select.poll()
        for descriptor in self._sockets:
            poll.register(descriptor, select.POLLIN)
        ended = False
        while True:
            if not ended and (stopped() or time.monotonic() >= until):
                ended = True
                for _, opened in self._sockets.values():
                    sieve.attach(opened, sieve.NOTHING)
            ready = poll.poll(0 if ended else PATIENCE * 1000)
            for descriptor, _ in ready:
                name, opened = self._sockets[descriptor]
                try:
                    yield _received(name, opened)
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise CannotListen(f"{name}: cannot be heard any more ({error.strerror})") from error
            if ended and not ready:
                return

    def dropped(self) -> int:
        """How many frames came faster than they were read, since the last time this was asked."""
        many = 0
        for _, opened in self._sockets.values():
            many += struct.unpack("II", opened.getsockopt(_SOL_PACKET, _STATISTICS, 8))[1]
        return many


def give_up_root() -> None:
    """Become the service's user, or else nobody; where this is not root already, nothing is given up."""
    if os.geteuid() != 0:
        return
    for name in SERVICE_USERS:
        with suppress(KeyError):
            someone = pwd.getpwnam(name)
            become(someone.pw_uid, someone.pw_gid)
            return


def become(user: int, group: int) -> None:
    """Become somebody else for good; only root can. Raises OSError."""
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)


def service_user() -> tuple[int, int] | None:
    """Number and group of the service's user, if there is one."""
    with suppress(KeyError):
        return pwd.getpwnam(SERVICE_USERS[0]).pw_uid, grp.getgrnam(SERVICE_USERS[0]).gr_gid
    return None


def _opened(name: str, ports: Sequence[int]) -> socket.socket:
    try:
        index = socket.if_nametoindex(name)
    except (OSError, ValueError):
        known = ", ".join(each for _, each in socket.if_nameindex())
        raise CannotListen(f"there is no interface {name}; there are {known}") from None
    try:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        raise CannotListen(f"{name}: only root may listen to it; run it with sudo") from None
    try:
        if ports:
            sieve.attach(opened, sieve.program(ports))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        opened.setsockopt(_SOL_PACKET, _AUXDATA, 1)
        opened.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
        membership = struct.pack("iHH8s", index, _PROMISCUOUS, 0, b"")
        opened.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, membership)
        opened.bind((name, _ALL))
        opened.setblocking(False)
    except OSError as error:
        opened.close()
        raise CannotListen(f"{name}: cannot be listened to ({error.strerror})") from error
    return opened


def _received(name: str, opened: socket.socket) -> Heard:
    data, about, _, whence = opened.recvmsg(LARGEST_FRAME, 256)
    at = time.time_ns() // 1_000_000
    for level, kind, content in about:
        if (level, kind) == (socket.SOL_SOCKET, _TIMESTAMP) and len(content) == _TIME.size:
            seconds, nanoseconds = _TIME.unpack(content)
            at = seconds * 1000 + nanoseconds // 1_000_000
        elif (level, kind) == (_SOL_PACKET, _AUXDATA) and len(content) >= _AUXILIARY.size:
            data = _with_tag(data, content)
    return Heard(Frame(at, ETHERNET, data), name, whence[2] == socket.PACKET_OUTGOING)


def _with_tag(data: bytes, content: bytes) -> bytes:
    status, _, _, _, _, tag, kind = _AUXILIARY.unpack_from(content)
    if not (status & _TAG_THERE or tag):
        return data
    number = kind if status & _TAG_KIND_THERE else _DOT1Q
    return data[:12] + struct.pack("!HH", number, tag) + data[12:]
