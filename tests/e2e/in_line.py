"""Locum in line between a copier and a server, each in a network namespace, and what goes over the wire at both."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from tests.peers.freeradius import FreeRadius
from tests.peers.locum import Locum, table
from tests.peers.netns import COPIER, COPIER6, SERVER, SERVER6, Wire
from tests.peers.radclient import Run, radclient
from tests.peers.waiting import eventually

SECRET = "copier-secret"
AUTH, ACCT = 1812, 1813
ETH_P_ALL = 3
OF_ALL = 0xFFFF
PACKET_OUTGOING = 4


@dataclass
class Tap:
    """All frames at one interface, both ways, as they were on the wire."""

    socket: socket.socket
    seen: list[Ether] = field(default_factory=list)
    came: list[Ether] = field(default_factory=list)
    """Those of `seen` that came in, from the other end of the cable."""

    def frames(self) -> list[Ether]:
        """What has passed since it was opened."""
        while True:
            try:
                data, about = self.socket.recvfrom(OF_ALL)
            except BlockingIOError:
                return self.seen
            self.seen.append(Ether(data))
            if about[2] != PACKET_OUTGOING:
                self.came.append(self.seen[-1])

    def packets(self, port: int) -> list[Ether]:
        """Those of UDP or TCP from or to a port."""
        return [each for each in self.frames() if port in _ports(each)]


def _ports(frame: Ether) -> tuple[int, ...]:
    for layer in (UDP, TCP):
        if layer in frame:
            return frame[layer].sport, frame[layer].dport
    return ()


def ends(frame: Ether) -> tuple[str, str, str, str]:
    """The MAC addresses and the IP addresses of a frame, source first."""
    packet = frame[IPv6] if IPv6 in frame else frame[IP]
    return frame.src, frame.dst, packet.src, packet.dst


@contextmanager
def tap(line: Wire, namespace: str, interface: str) -> Iterator[Tap]:
    with line.inside(namespace):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        made.bind((interface, 0))
    made.setblocking(False)
    with made:
        yield Tap(made)


class InLine:
    """FreeRADIUS behind, a copier before, and Locum between them; it is started by the test."""

    def __init__(self, line: Wire, home: Path, *, mode: str = "bridge", offline: str = "1s") -> None:
        self.line = line
        self.home = home
        with line.inside(line.server):
            self.server = FreeRadius(
                home / "server",
                secret=SECRET,
                hosts=(SERVER, SERVER6),
                ports=(AUTH, ACCT),
                clients=("10.0.0.0/8", "fd00::/8"),
            )
        sides = {"mode": mode, "copier_side": "p0", "server_side": "p1"}
        self.locum = Locum(
            home / "locum",
            AUTH,
            ACCT,
            SECRET.encode(),
            address=[SERVER, SERVER6],
            binds=("0.0.0.0", "::"),
            upstream={"answer_timeout": "500ms", "probe_interval": "500ms"},
            offline={"delay": offline},
            client={"network": "10.0.0.0/8"},
            more=table("[inline]", sides),
        )
        self.locum.auth_port, self.locum.acct_port = AUTH, ACCT
        # The second listener is that of IPv6.
        v4, v6 = self.locum.config_text().rsplit("10.0.0.0/8", 1)
        self.locum.write_config(f"{v4}fd00::/8{v6}")

    def start_server(self) -> None:
        with self.line.inside(self.line.server):
            self.server.start()

    def start_locum(self) -> None:
        with self.line.inside(self.line.appliance):
            self.locum.start()

    def run_locum(self, *arguments: str) -> str:
        with self.line.inside(self.line.appliance):
            done = self.locum.run_to_its_end(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self) -> None:
        """Into the line, and frames pass."""
        self.run_locum("inline", "up")
        eventually(self.passes, 5, "frames pass the bridge")

    def passes(self) -> bool:
        return self.line.run(self.line.copier, ["ping", "-c1", "-W1", SERVER], check=False).returncode == 0

    def wait_until_probed(self) -> None:
        """Locum knows that the server answers Status-Server, so that silence tells it something."""
        query = "SELECT key FROM memory WHERE key LIKE 'status-auth:%'"
        eventually(lambda: self.locum.query(query), 10, "the server has answered a probe")

    def ask(self, command: str, requests: Sequence[dict[str, str]], *, v6: bool = False, **how: float) -> Run:
        """What radclient, as the copier, gets from the server's address."""
        port = AUTH if command == "auth" else ACCT
        with self.line.inside(self.line.copier):
            address = SERVER6 if v6 else SERVER
            return radclient(self.home / "copier", address, port, command, SECRET, requests, **how)  # type: ignore[arg-type]

    def login(self, card: str = "0A1B2C3D", *, v6: bool = False, **how: float) -> list[str]:
        request = {
            "User-Name": f'"{card}"',
            "NAS-IP-Address": COPIER,
            "NAS-Identifier": '"KM-1"',
            "Message-Authenticator": "0x00",
        }
        return self.ask("auth", [request], v6=v6, **how).codes


@contextmanager
def in_line(line: Wire, home: Path, **how: str) -> Iterator[InLine]:
    with ExitStack() as endings:
        made = InLine(line, home, **how)
        endings.callback(made.server.stop)
        endings.callback(made.locum.kill)
        yield made


__all__ = ["ACCT", "AUTH", "COPIER", "COPIER6", "SERVER", "SERVER6", "InLine", "Tap", "ends", "in_line", "tap"]
