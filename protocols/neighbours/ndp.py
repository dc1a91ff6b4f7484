"""Neighbour solicitations and advertisements of IPv6 on Ethernet. RFC 4861 sections 4.3, 4.4, 4.6.1 and 7.1, RFC 2464.

Everything that section 7.1 wants checked is checked, the ICMPv6 checksum (RFC 4443 section 2.3) too. Written by hand;
`definition.py` declares the same format and property tests hold the two together. Left out: routers' messages, and
messages behind extension headers, which no host sends (RFC 6980).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from protocols.errors import Malformed
from protocols.neighbours import ethernet

SOLICITATION: Final = 135
ADVERTISEMENT: Final = 136
SOLICITED: Final = 0x40
NOBODY: Final = IPv6Address(0)
ICMPV6: Final = 58
HOP_LIMIT: Final = 255
LINK_OPTION: Final = {SOLICITATION: 1, ADVERTISEMENT: 2}
"""The option that holds the sender's own MAC address, by the kind of message."""

_HEADER_SIZE = 40
_SMALLEST = 24
_IP = struct.Struct("!IHBB16s16s")
_PSEUDO = struct.Struct("!16s16sIxxxB")
_ICMP = struct.Struct("!BBHI16s")
_GROUP = bytes.fromhex("ff0200000000000000000001ff")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A message of `kind` SOLICITATION or ADVERTISEMENT about the address `wanted`.

    `mac`: what its link-layer address option says, None without one. `flags`: the first octet of those of an
    advertisement (router, solicited, override).
    """

    kind: int
    source: IPv6Address
    target: IPv6Address
    wanted: IPv6Address
    mac: bytes | None
    flags: int = 0


def is_neighbour(payload: bytes) -> bool:
    """Whether an IPv6 packet says that it is one of these messages, so that `parse` is the one to ask."""
    return len(payload) > _HEADER_SIZE and payload[6] == ICMPV6 and payload[_HEADER_SIZE] in LINK_OPTION


def parse(payload: bytes) -> Neighbour:
    """Read what a frame of kind `ethernet.IPV6` carries; what is behind the packet is padding. Raises Malformed."""
    if len(payload) < _HEADER_SIZE + _SMALLEST:
        raise Malformed("ndp-length", f"{len(payload)} octets, a message has {_HEADER_SIZE + _SMALLEST}")
    first, length, following, hops, source, target = _IP.unpack_from(payload)
    if first >> 28 != 6 or following != ICMPV6:
        raise Malformed("ndp-kind", "no ICMPv6 directly behind the IPv6 header")
    if not _SMALLEST <= length <= len(payload) - _HEADER_SIZE:
        raise Malformed("ndp-length", f"{length} octets said, {len(payload) - _HEADER_SIZE} there")
    body = payload[_HEADER_SIZE : _HEADER_SIZE + length]
    kind, code, _, flags, wanted = _ICMP.unpack_from(body)
    if kind not in LINK_OPTION or code:
        raise Malformed("ndp-kind", f"ICMPv6 type {kind}, code {code}")
    if hops != HOP_LIMIT:
        raise Malformed("ndp-hop-limit", f"{hops}: it has come through a router")
    if checksum(source, target, body):
        raise Malformed("ndp-checksum")
    found = Neighbour(
        kind, IPv6Address(source), IPv6Address(target), IPv6Address(wanted), _link(kind, body), flags >> 24
    )
    if wanted[0] == 0xFF:
        raise Malformed("ndp-wanted", f"{found.wanted} is a group")
    if kind == ADVERTISEMENT and target[0] == 0xFF and found.flags & SOLICITED:
        raise Malformed("ndp-flags", "solicited, yet sent to a group")
    if kind == SOLICITATION and found.source == NOBODY and (found.mac is not None or not target.startswith(_GROUP)):
        raise Malformed("ndp-source", "nobody asks, yet not in the way of RFC 4862")
    return found


def _link(kind: int, body: bytes) -> bytes | None:
    """The MAC address of the first option that has it; every option must fit."""
    found, at = None, _SMALLEST
    while at < len(body):
        size = body[at + 1] * 8 if at + 1 < len(body) else 0
        if not size or at + size > len(body):
            raise Malformed("ndp-option-length", f"option at octet {at} of {len(body)}")
        if body[at] == LINK_OPTION[kind]:
            if size != 8:
                raise Malformed("ndp-option-length", f"{size} octets with a MAC address")
            found = found or body[at + 2 : at + 8]
        at += size
    return found


def build(message: Neighbour) -> bytes:
    """The octets of the IPv6 packet. Raises Malformed for what no message can hold."""
    if message.kind not in LINK_OPTION or not 0 <= message.flags <= 0xFF:
        raise Malformed("ndp-kind", f"type {message.kind}, flags {message.flags}")
    if message.mac is not None and len(message.mac) != 6:
        raise Malformed("mac-length", "a MAC address has 6 octets")
    source, target = message.source.packed, message.target.packed
    option = b"" if message.mac is None else bytes((LINK_OPTION[message.kind], 1)) + message.mac
    rest = (message.flags << 24, message.wanted.packed)
    body = _ICMP.pack(message.kind, 0, 0, *rest) + option
    body = _ICMP.pack(message.kind, 0, checksum(source, target, body), *rest) + option
    return _IP.pack(6 << 28, len(body), ICMPV6, HOP_LIMIT, source, target) + body


def checksum(source: bytes, target: bytes, body: bytes) -> int:
    """The ICMPv6 checksum of `body`; 0 where the one in it is right."""
    data = _PSEUDO.pack(source, target, len(body), ICMPV6) + body + bytes(len(body) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def group_of(address: IPv6Address) -> IPv6Address:
    """The group in which an address is asked for (solicited-node, RFC 4291 section 2.7.1)."""
    return IPv6Address(_GROUP + address.packed[-3:])


def solicitation(mac: bytes, source: IPv6Address, wanted: IPv6Address, tag: int | None) -> bytes:
    """The frame with which the station `source` asks everybody for `wanted`."""
    group = group_of(wanted)
    message = build(Neighbour(SOLICITATION, source, group, wanted, mac))
    frame = ethernet.Frame(b"\x33\x33" + group.packed[-4:], mac, ethernet.IPV6, message, tag)
    return ethernet.build(frame)


def advertisement(mac: bytes, address: IPv6Address, to_mac: bytes, to: IPv6Address, tag: int | None) -> bytes:
    """The frame that answers `to`: `mac` has `address`.

    It does not override what `to` knows already: the word of the address's owner goes before that of one who answers
    for it (RFC 4861 section 7.2.8).
    """
    message = build(Neighbour(ADVERTISEMENT, address, to, address, mac, SOLICITED))
    return ethernet.build(ethernet.Frame(to_mac, mac, ethernet.IPV6, message, tag))
