"""ARP for IPv4 on Ethernet (RFC 826), and the probe for an address of RFC 5227 section 2.1.1.

Written by hand; `definition.py` declares the same format and property tests hold the two together. Octets behind a
message are padding. Left out: other hardware and other protocols, reverse and inverse ARP (RFC 903, RFC 2390).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from protocols.errors import Malformed
from protocols.neighbours import ethernet

REQUEST: Final = 1
REPLY: Final = 2
SIZE: Final = 28
NOBODY: Final = IPv4Address(0)

_HEAD: Final = (1, 0x0800, 6, 4)
_MESSAGE = struct.Struct("!HHBBH6s4s6s4s")


@dataclass(frozen=True, slots=True)
class Arp:
    """`operation`: REQUEST or REPLY. In a request `target_mac` means nothing; a probe is a request of NOBODY."""

    operation: int
    sender_mac: bytes
    sender: IPv4Address
    target_mac: bytes
    target: IPv4Address


def parse(payload: bytes) -> Arp:
    """Read what a frame of kind `ethernet.ARP` carries. Raises Malformed."""
    if len(payload) < SIZE:
        raise Malformed("arp-length", f"{len(payload)} octets, a message has {SIZE}")
    *head, operation, sender_mac, sender, target_mac, target = _MESSAGE.unpack_from(payload)
    if tuple(head) != _HEAD:
        raise Malformed("arp-kind", f"{head} is not IPv4 on Ethernet")
    if operation not in (REQUEST, REPLY):
        raise Malformed("arp-operation", f"{operation} is neither request nor reply")
    return Arp(operation, sender_mac, IPv4Address(sender), target_mac, IPv4Address(target))


def build(message: Arp) -> bytes:
    """The message's octets. Raises Malformed for what no message can hold."""
    if message.operation not in (REQUEST, REPLY):
        raise Malformed("arp-operation", f"{message.operation} is neither request nor reply")
    if len(message.sender_mac) != 6 or len(message.target_mac) != 6:
        raise Malformed("mac-length", "a MAC address has 6 octets")
    sender, target = message.sender.packed, message.target.packed
    return _MESSAGE.pack(*_HEAD, message.operation, message.sender_mac, sender, message.target_mac, target)


def probe(mac: bytes, wanted: IPv4Address, tag: int | None) -> bytes:
    """The frame that asks for an address without saying who asks, so that nobody's cache is changed by it."""
    message = build(Arp(REQUEST, mac, NOBODY, ethernet.NO_MAC, wanted))
    return ethernet.build(ethernet.Frame(ethernet.BROADCAST, mac, ethernet.ARP, message, tag))


def question(mac: bytes, address: IPv4Address, wanted: IPv4Address, tag: int | None) -> bytes:
    """The frame with which the station `address` asks everybody for `wanted`."""
    message = build(Arp(REQUEST, mac, address, ethernet.NO_MAC, wanted))
    return ethernet.build(ethernet.Frame(ethernet.BROADCAST, mac, ethernet.ARP, message, tag))


def reply(mac: bytes, address: IPv4Address, to_mac: bytes, to: IPv4Address, tag: int | None) -> bytes:
    """The frame that tells `to` that `mac` has `address`, and nobody else."""
    message = build(Arp(REPLY, mac, address, to_mac, to))
    return ethernet.build(ethernet.Frame(to_mac, mac, ethernet.ARP, message, tag))
