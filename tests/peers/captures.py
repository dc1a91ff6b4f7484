"""Captures as a test makes them: frames built and written by scapy, none of our code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.utils import PcapNgWriter, PcapWriter

COPIER, SERVER = "10.7.0.31", "10.0.0.5"
COPIER_MAC, SERVER_MAC = "00:20:6b:11:22:33", "52:54:00:aa:bb:cc"
BEGAN = 1_795_000_000.0
"""Seconds since 1970: 18 November 2026."""

Peer = tuple[str, int]


@dataclass
class Tape:
    """What passes, in its order; each frame comes `step` seconds after the one before."""

    step: float = 0.010
    began: float = BEGAN
    vlan: int | None = None
    packets: list[Any] = field(default_factory=list)
    macs: dict[str, str] = field(default_factory=lambda: {COPIER: COPIER_MAC, SERVER: SERVER_MAC})

    def add(self, source: Peer, target: Peer, layer: Any) -> None:
        """An IP packet with this layer in it."""
        head = IPv6 if ":" in source[0] else IP
        ether = Ether(src=self.macs.get(source[0], COPIER_MAC), dst=self.macs.get(target[0], SERVER_MAC))
        packet = ether / Dot1Q(vlan=self.vlan) if self.vlan is not None else ether
        self.put(packet / head(src=source[0], dst=target[0]) / layer)

    def put(self, packet: Any) -> None:
        """A whole frame."""
        # Built once, so that every checksum and length is in it.
        built = packet.__class__(bytes(packet))
        built.time = self.began + len(self.packets) * self.step
        self.packets.append(built)

    def udp(self, source: Peer, target: Peer, data: bytes) -> None:
        self.add(source, target, UDP(sport=source[1], dport=target[1]) / data)

    def fragments(self, source: Peer, target: Peer, data: bytes, size: int = 512) -> None:
        """A datagram in IPv4 fragments."""
        whole = IP(src=source[0], dst=target[0], id=7) / UDP(sport=source[1], dport=target[1]) / data
        for piece in fragment(whole, fragsize=size):
            self.put(Ether(src=COPIER_MAC, dst=SERVER_MAC) / piece)

    def call(self, client: Peer, server: Peer) -> Stream:
        """A TCP connection, opened."""
        stream = Stream(self, client, server)
        stream.segment(True, "S")
        stream.segment(False, "SA")
        stream.segment(True, "A")
        return stream

    def write(self, path: Path, *, pcapng: bool = True) -> Path:
        writer = (PcapNgWriter if pcapng else PcapWriter)(str(path))
        for packet in self.packets:
            writer.write(packet)
        writer.close()
        return path


@dataclass
class Stream:
    """One TCP connection. Sequence numbers begin shortly before they wrap."""

    tape: Tape
    client: Peer
    server: Peer
    next: dict[bool, int] = field(default_factory=lambda: {True: 0xFFFFFF00, False: 77})

    def segment(self, from_client: bool, flags: str, data: bytes = b"") -> None:
        source, target = (self.client, self.server) if from_client else (self.server, self.client)
        numbers = {"seq": self.next[from_client], "ack": self.next[not from_client]}
        layer = TCP(sport=source[1], dport=target[1], flags=flags, **numbers)
        self.tape.add(source, target, layer / data if data else layer)
        self.next[from_client] = (self.next[from_client] + len(data) + ("S" in flags or "F" in flags)) % (1 << 32)

    def send(self, data: bytes, size: int = 1_400) -> None:
        """From the client."""
        self._say(True, data, size)

    def answer(self, data: bytes, size: int = 1_400) -> None:
        """From the server."""
        self._say(False, data, size)

    def close(self) -> None:
        self.segment(True, "FA")
        self.segment(False, "FA")
        self.segment(True, "A")

    def _say(self, from_client: bool, data: bytes, size: int) -> None:
        for at in range(0, len(data), size):
            self.segment(from_client, "PA", data[at : at + size])


def write(path: Path, frames: Iterable[bytes]) -> Path:
    """Raw frames, as they are."""
    writer = PcapWriter(str(path), linktype=1)
    writer.write_header(None)
    for number, frame in enumerate(frames):
        writer.write_packet(frame, sec=BEGAN + number)
    writer.close()
    return path
