"""What the kernel's rules must know to send frames: the MAC addresses of copiers and servers, told to them again and
again.

The rules learn them from frames that pass, and have forgotten them after a start of the machine or `inline up`. Then
nothing could be sent to a server, nor as a copier that is off. What Locum remembers is told on the loopback interface;
the rules take what they do not know better, and drop it (`appliance/inline/rules.py`). Each is an ARP reply; an IPv6
address stands behind it, and 0.0.0.0 in its place, for nft reads no Ethernet header on the loopback interface.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv4Address

from protocols.neighbours import arp, ethernet
from proxy.commands import Command, TeachRules
from proxy.presence import Address

ROUND = 100
"""Calls of `some`, ticks, in which everything is told once: five seconds."""


class Lessons:
    """All that is known now, each address with its MAC address and VLAN."""

    def __init__(self) -> None:
        self._known: OrderedDict[Address, tuple[bytes, int]] = OrderedDict()

    def learn(self, address: Address, mac: bytes, vlan: int) -> None:
        self._known[address] = mac, vlan

    def forget(self, address: Address) -> None:
        self._known.pop(address, None)

    def all(self) -> list[Command]:
        """Tell everything: the rules may know nothing."""
        return [_told(address, *station) for address, station in self._known.items()]

    def some(self) -> list[Command]:
        """Tell the next few."""
        commands: list[Command] = []
        for _ in range(-(-len(self._known) // ROUND)):
            address = next(iter(self._known))
            self._known.move_to_end(address)
            commands.append(_told(address, *self._known[address]))
        return commands


def _told(address: Address, mac: bytes, vlan: int) -> TeachRules:
    tag = vlan or None
    if isinstance(address, IPv4Address):
        return TeachRules(arp.reply(mac, address, ethernet.NO_MAC, address, tag))
    return TeachRules(arp.reply(mac, arp.NOBODY, ethernet.NO_MAC, arp.NOBODY, tag) + address.packed)
