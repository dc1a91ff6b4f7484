"""Ethernet II frames with at most one 802.1Q tag, and MAC addresses as text. IEEE 802.3 section 3.1, 802.1Q section 9.

Written by hand; `definition.py` declares the same format and property tests hold the two together. Left out: padding to
60 octets and the checksum, which are the network card's; frames with a second tag, which keep it as what they carry.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from protocols.errors import Malformed

ARP: Final = 0x0806
IPV4: Final = 0x0800
IPV6: Final = 0x86DD
TAGGED: Final = 0x8100
BROADCAST: Final = b"\xff" * 6
NO_MAC: Final = bytes(6)

_HEADER = struct.Struct("!6s6sH")
_TAG = struct.Struct("!HH")


@dataclass(frozen=True, slots=True)
class Frame:
    """`target` and `source` are MAC addresses of 6 octets, `kind` an EtherType. `tag`: the control information of the
    802.1Q tag (priority and VLAN, 16 bits), None without one.
    """

    target: bytes
    source: bytes
    kind: int
    payload: bytes
    tag: int | None = None

    @property
    def vlan(self) -> int:
        return vlan_of(self.tag)


def vlan_of(tag: int | None) -> int:
    """The number of the VLAN; 0 without a tag, and with one that gives a priority only."""
    return 0 if tag is None else tag & 0x0FFF


def parse(data: bytes) -> Frame:
    """Read one frame. Raises Malformed."""
    if len(data) < _HEADER.size:
        raise Malformed("frame-length", f"{len(data)} octets, a header has {_HEADER.size}")
    target, source, kind = _HEADER.unpack_from(data)
    if kind != TAGGED:
        return Frame(target, source, kind, data[_HEADER.size :])
    behind = _HEADER.size + _TAG.size
    if len(data) < behind:
        raise Malformed("frame-length", f"{len(data)} octets, a tagged header has {behind}")
    tag, kind = _TAG.unpack_from(data, _HEADER.size)
    return Frame(target, source, kind, data[behind:], tag)


def build(frame: Frame) -> bytes:
    """The frame's octets. Raises Malformed for what no frame can hold."""
    if len(frame.target) != 6 or len(frame.source) != 6:
        raise Malformed("mac-length", "a MAC address has 6 octets")
    try:
        if frame.tag is None:
            return _HEADER.pack(frame.target, frame.source, frame.kind) + frame.payload
        tag = _TAG.pack(frame.tag, frame.kind)
    except struct.error as error:
        raise Malformed("frame-number", str(error)) from None
    return _HEADER.pack(frame.target, frame.source, TAGGED) + tag + frame.payload


def is_station(mac: bytes) -> bool:
    """Whether this can be the address of one network card: no group address, not all zero."""
    return len(mac) == 6 and not mac[0] & 1 and mac != NO_MAC


def mac_text(mac: bytes) -> str:
    """As people write it: 02:00:00:00:00:0b."""
    return mac.hex(":")


def mac_from(text: str) -> bytes:
    """The 6 octets of what `mac_text` wrote. Raises Malformed."""
    try:
        mac = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        mac = b""
    if len(mac) != 6:
        raise Malformed("mac-text", f"{text!r} is no MAC address")
    return mac
