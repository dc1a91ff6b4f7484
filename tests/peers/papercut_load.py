"""A client of the Web Services that keeps nothing, for benchmarks: how many jobs a second a window allows.

`count` calls of `processJob` over TLS, as many connections as the window is wide, on each the next call as soon as the
last is answered. Plain sockets, ssl and epoll, no library between; `python -m tests.peers.papercut_load` is the
process.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import sys
import time
from xmlrpc.client import dumps

from tests.peers.child import Child, Commands
from tests.peers.ports import LOOPBACK


class PapercutLoad(Child):
    """Connected when the constructor returns."""

    def __init__(self, port: int, certificate: str, window: int, token: str) -> None:
        super().__init__("tests.peers.papercut_load", [str(port), certificate, str(window), token])

    def jobs(self, count: int) -> float:
        """Jobs a second."""
        told = self.tell(count=count)
        if "failed" in told:
            raise RuntimeError(f"the bare client: {told['failed']}")
        return count / float(told["seconds"])


def _request(token: str, number: int) -> bytes:
    details = f"user=user{number % 200},server=device,printer=bare,total-pages=3,comment=bare:{number}"
    body = dumps((token, details), "api.processJob").encode()
    head = f"POST /rpc/api/xmlrpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def _whole(data: bytes) -> bool:
    """Whether an answer is complete."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(body) >= int(value)
    raise OSError(f"an answer without a length: {head!r}")


def _run(lines: list[ssl.SSLSocket], token: str, count: int) -> float:
    requests = [_request(token, number) for number in range(count)]
    requests.reverse()
    poll, by_number, heard = select.epoll(), {line.fileno(): line for line in lines}, dict.fromkeys(lines, b"")
    answered, began = 0, time.perf_counter()
    for line in lines:
        poll.register(line.fileno(), select.EPOLLIN)
        line.send(requests.pop())
    while answered < count:
        ready = poll.poll(30)
        if not ready:
            raise OSError(f"only {answered} of {count} were answered")
        for number, _ in ready:
            line = by_number[number]
            with contextlib.suppress(ssl.SSLWantReadError):
                got = line.recv(65536)
                if not got:
                    raise OSError("the connection was closed")
                heard[line] += got
            if not _whole(heard[line]):
                continue
            if b"<fault>" in heard[line]:
                raise OSError(f"a fault: {heard[line]!r}")
            heard[line] = b""
            answered += 1
            if requests:
                line.send(requests.pop())
    return time.perf_counter() - began


def main() -> None:
    """`papercut_load PORT CERTIFICATE WINDOW TOKEN`"""
    context = ssl.create_default_context(cafile=sys.argv[2])
    lines = []
    for _ in range(int(sys.argv[3])):
        plain = socket.create_connection((LOOPBACK[4], int(sys.argv[1])), 10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = context.wrap_socket(plain, server_hostname="localhost")
        line.setblocking(False)
        lines.append(line)
    commands = Commands()
    Commands.answer(ready=True)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            for command in commands.read():
                try:
                    Commands.answer(seconds=_run(lines, sys.argv[4], int(command["count"])))
                except OSError as error:
                    Commands.answer(failed=str(error))


if __name__ == "__main__":
    main()
