"""From a captured frame to the IP packet in it, and from there to the UDP datagram or TCP segment.

Ethernet II with tags (IEEE 802.1Q, 802.1ad), Linux "cooked" captures, raw IP and BSD loopback; IPv4 (RFC 791), IPv6
with its extension headers (RFC 8200), UDP (RFC 768), TCP (RFC 9293). The numbers of link layers are those of capture
files. Checksums are not checked: a frame that was captured on its way out often has none yet. Left out: IEEE 802.3
frames with LLC, tunnels, encrypted payloads.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from protocols.errors import Malformed

ETHERNET: Final = 1
TCP: Final = 6
UDP: Final = 17
IPV4: Final = 0x0800
IPV6: Final = 0x86DD
SYN, FIN, RST = 0x02, 0x01, 0x04

_TAGS = frozenset({0x8100, 0x88A8, 0x9100})
_RAW = frozenset({12, 14, 101, 228, 229})
_LOOPBACK = frozenset({0, 108})
_COOKED, _COOKED_2 = 113, 276
_MOST_TAGS = 4
_EXTENSIONS = frozenset({0, 43, 60, 135})
"""Hop-by-hop, routing, destination options, mobility: a next header and a length in units of eight octets."""
_AUTHENTICATION, _FRAGMENT = 51, 44
_MOST_EXTENSIONS = 8
_NO_MAC = b""

_V4 = struct.Struct("!BxHHHxB2x4s4s")
_V6 = struct.Struct("!IHBx16s16s")
_UDP = struct.Struct("!HHH")
_TCP = struct.Struct("!HHI4xBB")


@dataclass(frozen=True, slots=True)
class Fragment:
    """Which piece of a datagram a packet carries: `offset` in octets, `more` unless it is the last."""

    identifier: int
    offset: int
    more: bool


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet. `source` and `target` are addresses as text, MAC addresses are 6 octets, or none where the capture
    has none; `vlans`: the tags' numbers, outermost first. `protocol` and `payload`: what is behind the IP headers.
    """

    source: str
    target: str
    protocol: int
    payload: bytes
    source_mac: bytes = _NO_MAC
    target_mac: bytes = _NO_MAC
    vlans: tuple[int, ...] = ()
    fragment: Fragment | None = None


@dataclass(frozen=True, slots=True)
class Datagram:
    source_port: int
    target_port: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """`flags`: SYN, FIN, RST and the others as they stand in the header."""

    source_port: int
    target_port: int
    sequence: int
    flags: int
    data: bytes


def read(link: int, frame: bytes) -> Packet | None:
    """The IP packet in a frame of this link layer; None where it holds something else. Raises Malformed."""
    if link == ETHERNET:
        return _ethernet(frame)
    if link in _RAW:
        return _ip(0, frame)
    if link in _LOOPBACK:
        return _ip(0, frame[4:])
    if link == _COOKED:
        _need(frame, 16)
        return _tagged(frame, 14, frame[6:12] if frame[4:6] == b"\0\6" else _NO_MAC, _NO_MAC)
    if link == _COOKED_2:
        _need(frame, 20)
        mac = frame[12:18] if frame[11] == 6 else _NO_MAC
        return _ip(int.from_bytes(frame[:2], "big"), frame[20:], mac)
    raise Malformed("link-layer", f"number {link} is not read here")


def datagram(packet: Packet) -> Datagram:
    """The UDP datagram of a whole packet. Raises Malformed."""
    data = packet.payload
    _need(data, 8)
    source, target, length = _UDP.unpack_from(data)
    if length == 0:
        length = len(data)
    if length < 8:
        raise Malformed("udp-length", f"{length} octets, a header has 8")
    if length > len(data):
        raise Malformed("cut-short", f"{len(data)} of {length} octets of a datagram")
    return Datagram(source, target, data[8:length])


def segment(packet: Packet) -> Segment:
    """The TCP segment of a whole packet. Raises Malformed."""
    data = packet.payload
    _need(data, 20)
    source, target, sequence, offset, flags = _TCP.unpack_from(data)
    start = (offset >> 4) * 4
    if not 20 <= start <= len(data):
        raise Malformed("tcp-offset", f"data at octet {start} of {len(data)}")
    return Segment(source, target, sequence, flags, data[start:])


def _ethernet(frame: bytes) -> Packet | None:
    _need(frame, 14)
    return _tagged(frame, 12, frame[6:12], frame[:6])


def _tagged(frame: bytes, at: int, source_mac: bytes, target_mac: bytes) -> Packet | None:
    """The packet of a frame whose type field stands at `at`, behind which there may be tags."""
    vlans: list[int] = []
    kind = int.from_bytes(frame[at : at + 2], "big")
    while kind in _TAGS:
        _need(frame, at + 6)
        vlans.append(int.from_bytes(frame[at + 2 : at + 4], "big") & 0x0FFF)
        if len(vlans) > _MOST_TAGS:
            raise Malformed("vlan-tags", f"more than {_MOST_TAGS} of them")
        at += 4
        kind = int.from_bytes(frame[at : at + 2], "big")
    if kind not in (IPV4, IPV6):
        return None
    return _ip(kind, frame[at + 2 :], source_mac, target_mac, tuple(vlans))


def _ip(
    kind: int, data: bytes, source_mac: bytes = _NO_MAC, target_mac: bytes = _NO_MAC, vlans: tuple[int, ...] = ()
) -> Packet | None:
    """The packet, by the version that it says it has; `kind` 0: whatever it is."""
    version = data[0] >> 4 if data else 0
    if version == 4 and kind in (0, IPV4):
        return _ipv4(data, source_mac, target_mac, vlans)
    if version == 6 and kind in (0, IPV6):
        return _ipv6(data, source_mac, target_mac, vlans)
    if kind not in (0, IPV4, IPV6):
        return None
    raise Malformed("ip-version", f"{version}")


def _ipv4(data: bytes, source_mac: bytes, target_mac: bytes, vlans: tuple[int, ...]) -> Packet:
    _need(data, 20)
    first, length, identifier, place, protocol, source, target = _V4.unpack_from(data)
    start = (first & 0x0F) * 4
    # A frame on its way out may leave the length to the network card.
    length = length or len(data)
    if not 20 <= start <= length:
        raise Malformed("ip-length", f"a header of {start} in {length} octets")
    if length > len(data):
        raise Malformed("cut-short", f"{len(data)} of {length} octets of a packet")
    fragment = None
    if place & 0x3FFF:
        fragment = Fragment(identifier, (place & 0x1FFF) * 8, bool(place & 0x2000))
    names = str(IPv4Address(source)), str(IPv4Address(target))
    return Packet(*names, protocol, data[start:length], source_mac, target_mac, vlans, fragment)


def _ipv6(data: bytes, source_mac: bytes, target_mac: bytes, vlans: tuple[int, ...]) -> Packet:
    _need(data, 40)
    _, length, following, source, target = _V6.unpack_from(data)
    end = 40 + length if length else len(data)
    if end > len(data):
        raise Malformed("cut-short", f"{len(data)} of {end} octets of a packet")
    at, fragment = 40, None
    for _ in range(_MOST_EXTENSIONS):
        if following == _FRAGMENT and fragment is None:
            _need(data[:end], at + 8)
            place = int.from_bytes(data[at + 2 : at + 4], "big")
            identifier = int.from_bytes(data[at + 4 : at + 8], "big")
            if place & 0xFFF9:
                fragment = Fragment(identifier, place & 0xFFF8, bool(place & 1))
            size = 8
        elif following in _EXTENSIONS and (fragment is None or fragment.offset == 0):
            _need(data[:end], at + 8)
            size = (data[at + 1] + 1) * 8
        elif following == _AUTHENTICATION and (fragment is None or fragment.offset == 0):
            _need(data[:end], at + 8)
            size = (data[at + 1] + 2) * 4
        else:
            break
        following = data[at]
        at += size
        if fragment is not None:
            break  # what follows is part of the datagram, and may be in another piece
    if at > end:
        raise Malformed("ip-length", f"extension headers to octet {at} of {end}")
    names = str(IPv6Address(source)), str(IPv6Address(target))
    return Packet(*names, following, data[at:end], source_mac, target_mac, vlans, fragment)


def _need(data: bytes, size: int) -> None:
    if len(data) < size:
        raise Malformed("cut-short", f"{len(data)} octets where a header has {size}")
