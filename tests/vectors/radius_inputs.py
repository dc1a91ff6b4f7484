"""Packets, tables and captures that nobody here wrote, read from the shared data beside the project."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

RADIUS_PORTS = {1645, 1646, 1812, 1813, 3799}
LINUX_COOKED = 113
ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"

RFC_SECRET = b"xyzzy5461"
NAS_SECRET = b"nearbuy"


def need_data() -> Path:
    """The folder of shared data, or skip and say so."""
    if not DATA.is_dir():
        print("skipped: no shared data beside the project")
        pytest.skip("no shared data beside the project")
    return DATA


def rfc_rows(name: str) -> list[list[str]]:
    """The columns of a table of RFC packets, the packet in the last one."""
    text = (need_data() / "radius" / "rfc" / name).read_text("utf-8")
    # RFC 2865 section 7.3 prints 16 as the length of a State of 8 octets; the packet's own Length fits 10.
    text = text.replace("18103332373639343330", "180a3332373639343330")
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]


def nas_packet(name: str) -> bytes:
    """A recorded packet of a real NAS."""
    return (need_data() / "radius" / "packets" / f"{name}.packet").read_bytes()


def captured(name: str) -> list[bytes]:
    """The UDP payloads to or from RADIUS ports in a capture."""
    pytest.importorskip("scapy")
    from scapy.utils import RawPcapReader

    payloads = []
    reader = RawPcapReader(str(need_data() / "pcap" / "radius" / name))
    for frame, _ in reader:
        payload = _udp_payload(frame, 16 if reader.linktype == LINUX_COOKED else 14)
        if payload is not None:
            payloads.append(payload)
    return payloads


def captures() -> list[str]:
    """The names of all captures."""
    return sorted(path.name for path in (need_data() / "pcap" / "radius").glob("*.pcap"))


def _udp_payload(frame: bytes, at: int) -> bytes | None:
    # IPv4 at octet `at`, without a look at fragments; then UDP.
    if frame[at - 2 : at] != b"\x08\x00" or frame[at + 9] != 17:
        return None
    udp = at + (frame[at] & 0x0F) * 4
    ports = {int.from_bytes(frame[udp : udp + 2], "big"), int.from_bytes(frame[udp + 2 : udp + 4], "big")}
    length = int.from_bytes(frame[udp + 4 : udp + 6], "big")
    return frame[udp + 8 : udp + length] if ports & RADIUS_PORTS else None


@dataclass(frozen=True, slots=True)
class Vector:
    """A line of FreeRADIUS's decode tables: `kind` is decode-pair or decode-proto, `expected` the text it must give."""

    where: str
    kind: str
    data: bytes
    expected: str

    @property
    def refused(self) -> bool:
        """Whether the bytes must be refused."""
        return self.expected.startswith("ERROR")


@functools.cache
def vectors() -> list[Vector]:
    """All decode lines; "-" stands for the bytes that the encode line before gave."""
    found = []
    for path in sorted((need_data() / "radius" / "freeradius-vectors").glob("*.txt")):
        command, last_hex = "", ""
        for count, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            word, _, rest = line.partition(" ")
            if word.startswith(("decode-", "encode-", "pair", "raw")):
                command = line
            elif word == "match" and command:
                kind, _, given = command.partition(" ")
                if kind.startswith("decode"):
                    data = last_hex if given == "-" else given.replace(" ", "")
                    if re.fullmatch(r"([0-9a-fA-F]{2})+", data):
                        found.append(Vector(f"{path.name}:{count}", kind, bytes.fromhex(data), rest.strip()))
                else:
                    last_hex = rest.replace(" ", "") if kind.startswith("encode") else ""
                command = ""
    return found


def everything() -> list[bytes]:
    """Every datagram of the tables and recordings, as seeds to be damaged; empty where there is no shared data."""
    if not DATA.is_dir():
        return []
    names = ("rfc2865_section7.tsv", "rfc5997_section6.tsv")
    seeds = [bytes.fromhex(row[-1]) for name in names for row in rfc_rows(name)]
    seeds += [path.read_bytes() for path in sorted((DATA / "radius" / "packets").iterdir())]
    return seeds + [vector.data for vector in vectors() if vector.kind == "decode-proto"]
