"""A copier, an appliance and a server in network namespaces of their own, joined by veth pairs, for one test.

    copier  c0 ---- p0  appliance  p1 ---- s0  server

Copier and server are in one subnet, 10.9.0.0/24 and fd00:9::/64; the appliance's interfaces have no address. What the
test puts between them is the test's. All of it ends with the test, processes first. A test may ask for more: other
copiers on the same switch, a gateway before the server, two subnets with the appliance as their router.
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
Place = tuple[str, str]
"""The IPv4 and the IPv6 address of a machine."""
ROUTED_COPIER: Place = ("10.9.1.1", "fd00:9:1::1")
ROUTED_SERVER: Place = ("10.9.2.2", "fd00:9:2::2")
ROUTER: tuple[Place, Place] = ("10.9.1.254", "fd00:9:1::fe"), ("10.9.2.254", "fd00:9:2::fe")
"""On the copiers' side, on the server's side."""
FAR_SERVER: Place = ("10.10.0.2", "fd00:10::2")
GATEWAY: tuple[Place, Place] = ("10.9.0.254", "fd00:9::fe"), ("10.10.0.254", "fd00:10::fe")
CLONE_NEWNET = 0x40000000
_numbers = count()
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Wire:
    """The three namespaces' names, the MAC addresses of the copier and the server, and where they are."""

    copier: str
    appliance: str
    server: str
    copier_mac: str = ""
    server_mac: str = ""
    copier_at: Place = (COPIER, COPIER6)
    server_at: Place = (SERVER, SERVER6)
    processes: list[subprocess.Popen[Any]] = field(default_factory=list)
    more: list[str] = field(default_factory=list)
    """Other namespaces."""

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

    def namespace(self, letter: str) -> str:
        """One more namespace; its name."""
        name = f"{self.appliance[:-1]}{letter}"
        self.more.append(name)
        subprocess.run(["ip", "netns", "add", name], capture_output=True, check=True)
        self.ip(name, "link", "set", "lo", "up")
        return name

    def cable(self, one: str, name: str, other: str, port: str) -> None:
        """A cable from interface `name` of namespace `one` to `port` of `other`; both are made."""
        peer = ["type", "veth", "peer", "name", port, "netns", other]
        subprocess.run(["ip", "link", "add", name, "netns", one, *peer], capture_output=True, check=True)

    def address(self, namespace: str, interface: str, place: Place) -> None:
        """Both addresses, and the interface up."""
        self.ip(namespace, "addr", "add", f"{place[0]}/24", "dev", interface)
        self.ip(namespace, "addr", "add", f"{place[1]}/64", "dev", interface, "nodad")
        self.ip(namespace, "link", "set", interface, "up")

    def link_again(self, namespace: str, interface: str, v6: str) -> None:
        """The interface is up again, with the IPv6 address that the kernel took from it."""
        self.ip(namespace, "link", "set", interface, "up")
        self.ip(namespace, "addr", "replace", f"{v6}/64", "dev", interface, "nodad")

    def default_route(self, namespace: str, gateway: Place) -> None:
        for version, address in zip(("-4", "-6"), gateway, strict=True):
            self.ip(namespace, version, "route", "replace", "default", "via", address)

    def forwards(self, namespace: str) -> None:
        """It is a router from here on."""
        self.run(namespace, ["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])

    def mac(self, namespace: str, interface: str) -> str:
        return self.run(namespace, ["cat", f"/sys/class/net/{interface}/address"]).stdout.strip()

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(10)
        for namespace in (self.copier, self.appliance, self.server, *self.more):
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
            made.cable(made.copier, "c0", made.appliance, "p0")
            made.cable(made.server, "s0", made.appliance, "p1")
        except subprocess.CalledProcessError as error:
            skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        for namespace in (made.copier, made.appliance, made.server):
            made.ip(namespace, "link", "set", "lo", "up")
        made.address(made.copier, "c0", made.copier_at)
        made.address(made.server, "s0", made.server_at)
        made.copier_mac, made.server_mac = made.mac(made.copier, "c0"), made.mac(made.server, "s0")
        yield made
    finally:
        made.end()


def with_copiers(made: Wire, *places: Place) -> list[str]:
    """Other copiers beside the first, all on one switch before the appliance; their namespaces, each with a `c0`."""
    switch = made.namespace("w")
    made.ip(switch, "link", "add", "sw0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
    made.ip(switch, "link", "set", "sw0", "up")
    made.ip(made.copier, "link", "delete", "c0")
    others = [made.namespace(f"d{number}") for number in range(len(places))]
    for number, (namespace, place) in enumerate(zip((made.copier, *others), (made.copier_at, *places), strict=True)):
        made.cable(namespace, "c0", switch, f"w{number}")
        made.ip(switch, "link", "set", f"w{number}", "master", "sw0", "up")
        made.address(namespace, "c0", place)
    made.cable(switch, "uplink", made.appliance, "p0")
    made.ip(switch, "link", "set", "uplink", "master", "sw0", "up")
    made.copier_mac = made.mac(made.copier, "c0")
    return others


def behind_gateway(made: Wire) -> str:
    """The server is in another subnet, 10.10.0.0/24, behind a gateway on the servers' side; its namespace.

    Its interfaces: `g0` towards the copiers, `g1` towards the server.
    """
    gateway = made.namespace("g")
    made.ip(made.server, "link", "delete", "s0")
    made.cable(gateway, "g0", made.appliance, "p1")
    made.cable(made.server, "s0", gateway, "g1")
    made.server_at = FAR_SERVER
    made.server_mac = made.mac(made.server, "s0")
    made.address(made.server, "s0", FAR_SERVER)
    for interface, place in zip(("g0", "g1"), GATEWAY, strict=True):
        made.address(gateway, interface, place)
    made.forwards(gateway)
    made.default_route(made.copier, GATEWAY[0])
    made.default_route(made.server, GATEWAY[1])
    return gateway


def with_router(made: Wire) -> None:
    """The appliance routes between two subnets: 10.9.1.0/24 of the copier and 10.9.2.0/24 of the server."""
    made.copier_at, made.server_at = ROUTED_COPIER, ROUTED_SERVER
    ends = ((made.copier, "c0", ROUTED_COPIER), (made.server, "s0", ROUTED_SERVER))
    for (namespace, interface, place), port, ours in zip(ends, ("p0", "p1"), ROUTER, strict=True):
        made.ip(namespace, "addr", "flush", "dev", interface)
        made.address(namespace, interface, place)
        made.address(made.appliance, port, ours)
        made.default_route(namespace, ours)
    made.forwards(made.appliance)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
