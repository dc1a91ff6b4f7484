"""A copier, an appliance and a server in network namespaces of their own, joined by veth pairs, for one test.

    copier  c0 ---- p0  appliance  p1 ---- s0  server

Copier and server are in one subnet, 10.9.0.0/24 and fd00:9::/64; the appliance's interfaces have no address. What the
test puts between them is the test's. All of it ends with the test, processes first.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.peers.skips import need_program, need_root, skip

COPIER, SERVER = "10.9.0.1", "10.9.0.2"
COPIER6, SERVER6 = "fd00:9::1", "fd00:9::2"
CLONE_NEWNET = 0x40000000
_numbers = count()
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Wire:
    """The three namespaces' names, and the MAC addresses of the copier and the server."""

    copier: str
    appliance: str
    server: str
    copier_mac: str = ""
    server_mac: str = ""
    processes: list[subprocess.Popen[Any]] = field(default_factory=list)

    def command(self, namespace: str, arguments: Sequence[str]) -> list[str]:
        """The same program, in a namespace."""
        return ["ip", "netns", "exec", namespace, *arguments]

    def run(self, namespace: str, arguments: Sequence[str], **how: Any) -> subprocess.CompletedProcess[str]:
        """Run a program to its end there; it must succeed unless `check=False`."""
        how = {"capture_output": True, "text": True, "timeout": 30, "check": True, **how}
        done = subprocess.run(self.command(namespace, arguments), **{**how, "check": False})
        if how["check"] and done.returncode:
            raise AssertionError(f"{' '.join(arguments)} in {namespace}: {done.stdout}{done.stderr}")
        return done

    def popen(self, namespace: str, arguments: Sequence[str], **how: Any) -> subprocess.Popen[Any]:
        """Start a program there; it is killed when the test ends."""
        process = subprocess.Popen(self.command(namespace, arguments), **how)
        self.processes.append(process)
        return process

    @contextmanager
    def inside(self, namespace: str) -> Iterator[None]:
        """This thread is in that namespace: sockets that it makes and processes that it starts are too (setns(2))."""
        with open("/proc/thread-self/ns/net") as here, open(f"/run/netns/{namespace}") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(here.fileno())

    def ip(self, namespace: str, *arguments: str) -> str:
        return self.run(namespace, ["ip", *arguments]).stdout

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(10)
        for namespace in (self.copier, self.appliance, self.server):
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)


@contextmanager
def wire() -> Iterator[Wire]:
    """Skips where namespaces cannot be made."""
    need_root()
    need_program("ip", "iproute2")
    tag = f"lo{os.getpid()}x{next(_numbers)}"
    made = Wire(f"{tag}c", f"{tag}a", f"{tag}s")
    try:
        try:
            for namespace in (made.copier, made.appliance, made.server):
                subprocess.run(["ip", "netns", "add", namespace], capture_output=True, check=True)
            _cable(made, made.copier, "c0", "p0")
            _cable(made, made.server, "s0", "p1")
        except subprocess.CalledProcessError as error:
            skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        _address(made, made.copier, "c0", COPIER, COPIER6)
        _address(made, made.server, "s0", SERVER, SERVER6)
        made.ip(made.appliance, "link", "set", "lo", "up")
        made.copier_mac, made.server_mac = mac_of(made, made.copier, "c0"), mac_of(made, made.server, "s0")
        yield made
    finally:
        made.end()


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mac_of(made: Wire, namespace: str, interface: str) -> str:
    return made.run(namespace, ["cat", f"/sys/class/net/{interface}/address"]).stdout.strip()


def _cable(made: Wire, end: str, name: str, port: str) -> None:
    peer = ["type", "veth", "peer", "name", port, "netns", made.appliance]
    subprocess.run(["ip", "link", "add", name, "netns", end, *peer], capture_output=True, check=True)


def _address(made: Wire, namespace: str, interface: str, v4: str, v6: str) -> None:
    made.ip(namespace, "link", "set", "lo", "up")
    made.ip(namespace, "addr", "add", f"{v4}/24", "dev", interface)
    made.ip(namespace, "addr", "add", f"{v6}/64", "dev", interface, "nodad")
    made.ip(namespace, "link", "set", interface, "up")
