"""Locum in line between a copier and a server, each in a network namespace, and what goes over the wire at both."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether

from tests.peers.freeradius import FreeRadius
from tests.peers.knocking import Knocking, knocking
from tests.peers.locum import Locum, table
from tests.peers.netns import COPIER, COPIER6, SERVER, SERVER6, Wire
from tests.peers.radclient import Run, radclient
from tests.peers.waiting import eventually

SECRET = "copier-secret"
AUTH, ACCT = 1812, 1813
ETH_P_ALL = 3
OF_ALL = 0xFFFF
PACKET_OUTGOING = 4
SOL_PACKET, PACKET_STATISTICS, SO_RCVBUFFORCE = 263, 6, 33
ROOM = 32 << 20
"""What a tap may hold: it is read at the end of a conversation, not while it goes on."""


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
                return self.all_seen()
            self.seen.append(Ether(data))
            if about[2] != PACKET_OUTGOING:
                self.came.append(self.seen[-1])

    def all_seen(self) -> list[Ether]:
        """What was read; fails if the kernel had no room for more."""
        _, dropped = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        assert dropped == 0, f"the tap lost {dropped} frames"
        return self.seen

    def packets(self, port: int) -> list[Ether]:
        """Those of UDP or TCP from or to a port."""
        return [each for each in self.frames() if port in _ports(each)]


def _ports(frame: Ether) -> tuple[int, ...]:
    for layer in (UDP, TCP):
        if layer in frame:
            return frame[layer].sport, frame[layer].dport
    return ()


def is_refusal(frame: Ether) -> bool:
    """Whether somebody says by ICMP that a destination is unreachable."""
    return ICMPv6DestUnreach in frame or (ICMP in frame and frame[ICMP].type == 3)


def is_ping(frame: Ether) -> bool:
    """Whether it is an echo, asked or answered."""
    return any(each in frame for each in (ICMPv6EchoRequest, ICMPv6EchoReply)) or (
        ICMP in frame and frame[ICMP].type in (0, 8)
    )


def ends(frame: Ether) -> tuple[str, str, str, str]:
    """The MAC addresses and the IP addresses of a frame, source first."""
    packet = frame[IPv6] if IPv6 in frame else frame[IP]
    return frame.src, frame.dst, packet.src, packet.dst


@contextmanager
def tap(line: Wire, namespace: str, interface: str) -> Iterator[Tap]:
    with listening(line, namespace, interface) as opened:
        yield Tap(opened)


@contextmanager
def listening(line: Wire, namespace: str, interface: str) -> Iterator[socket.socket]:
    """A socket that gets every frame of the interface, with room for them until they are read."""
    with line.inside(namespace):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with opened:
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        opened.bind((interface, 0))
        opened.setblocking(False)
        yield opened


class InLine:
    """FreeRADIUS behind, a copier before, and Locum between them; it is started by the test.

    `servers`: the addresses of the upstream, that of the server's machine if not given; `more`: TOML to append.
    """

    def __init__(
        self,
        line: Wire,
        home: Path,
        *,
        mode: str = "bridge",
        offline: str = "1s",
        probe_interval: str = "500ms",
        servers: Sequence[str] = (),
        binds: Sequence[str] = ("0.0.0.0", "::"),
        more: str = "",
    ) -> None:
        self.line = line
        servers = servers or line.server_at
        self.home = home
        with line.inside(line.server):
            self.server = FreeRadius(
                home / "server",
                secret=SECRET,
                hosts=servers,
                ports=(AUTH, ACCT),
                clients=("10.0.0.0/8", "fd00::/8"),
            )
        sides = {"mode": mode, "copier_side": "p0", "server_side": "p1"}
        self.locum = Locum(
            home / "locum",
            AUTH,
            ACCT,
            SECRET.encode(),
            address=list(servers),
            binds=binds,
            upstream={"answer_timeout": "500ms", "probe_interval": probe_interval},
            offline={"delay": offline},
            client={"network": "10.0.0.0/8"},
            more=table("[inline]", sides) + more,
        )
        self.locum.auth_port, self.locum.acct_port = AUTH, ACCT
        # The second listener is that of IPv6.
        v4, v6, rest = self.locum.config_text().split("10.0.0.0/8", 2)
        self.locum.write_config(f"{v4}10.0.0.0/8{v6}fd00::/8{rest}")

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
        return (
            self.line.run(self.line.copier, ["ping", "-c1", "-W1", self.line.server_at[0]], check=False).returncode == 0
        )

    def stand(self) -> None:
        """In line, with the server, and the kernel diverts."""
        self.start_server()
        self.up()
        self.start_locum()
        self.wait_until_diverting()

    def wait_until_diverting(self, within: float = 5.0) -> None:
        eventually(lambda: self.counters()["diverting"], within, "the kernel diverts")

    def counters(self) -> dict[str, Any]:
        """What `inline status --json` says."""
        told: dict[str, Any] = json.loads(self.run_locum("inline", "status", "--json"))
        return told

    def wait_until_probed(self, addresses: int = 1) -> None:
        """Locum knows that so many of the server's addresses answer Status-Server, so that silence tells something."""
        query = "SELECT key FROM memory WHERE key LIKE 'status-auth:%'"
        eventually(lambda: len(self.locum.query(query)) >= addresses, 10, "the server has answered a probe")

    def ask(
        self,
        command: str,
        requests: Sequence[dict[str, str]],
        *,
        v6: bool = False,
        namespace: str = "",
        to: tuple[str, int] | None = None,
        **how: float,
    ) -> Run:
        """What radclient, as the copier (or another), gets from the server's address (or another, with its port)."""
        address, port = to or (self.line.server_at[v6], AUTH if command == "auth" else ACCT)
        with self.line.inside(namespace or self.line.copier):
            return radclient(self.home / "copier", address, port, command, SECRET, requests, **how)  # type: ignore[arg-type]

    def login(self, card: str = "0A1B2C3D", *, name: str = "KM-1", **how: Any) -> list[str]:
        request = {
            "User-Name": f'"{card}"',
            "NAS-IP-Address": self.line.copier_at[0],
            "NAS-Identifier": f'"{name}"',
            "Message-Authenticator": "0x00",
        }
        return self.ask("auth", [request], **how).codes

    def record(self, session: str, card: str = "0A1B2C3D", *, name: str = "KM-1", **how: Any) -> list[str]:
        """The end of a session, as accounting."""
        request = {
            "User-Name": f'"{card}"',
            "Acct-Status-Type": "Stop",
            "Acct-Session-Id": f'"{session}"',
            "NAS-Identifier": f'"{name}"',
        }
        return self.ask("acct", [request], **how).codes

    def wait_until_decided(self, by: str, *cards: str) -> None:
        """The ledger has the logins of these cards, and who decided them."""
        eventually(lambda: {self.decided_by().get(card) for card in cards} == {by}, 5, f"decided by {by}: {cards}")

    def decided_by(self) -> dict[str, str]:
        """Who decided the login of each card, by the ledger."""
        query = "SELECT card, decided_by FROM logins JOIN personal USING (seq) ORDER BY seq"
        return {row["card"]: row["decided_by"] for row in self.locum.query(query)}


def login_goes_on(office: InLine, **how: Any) -> AbstractContextManager[Knocking]:
    """A login every 50 ms from the copier to the server, beside what is done in the block."""
    to = how.pop("to", None) or (office.line.server_at[how.pop("v6", False)], AUTH)
    return knocking(office.line, SECRET, to, **how)


@contextmanager
def in_line(line: Wire, home: Path, **how: Any) -> Iterator[InLine]:
    with ExitStack() as endings:
        made = InLine(line, home, **how)
        endings.callback(made.server.stop)
        endings.callback(made.locum.kill)
        yield made


__all__ = [
    "ACCT",
    "AUTH",
    "COPIER",
    "COPIER6",
    "SERVER",
    "SERVER6",
    "InLine",
    "Tap",
    "ends",
    "in_line",
    "login_goes_on",
    "tap",
]
