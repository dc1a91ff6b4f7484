"""Who talks to whom: copiers with their makers and models, servers, dialects, VLANs, gathered from what passes.

A copier is who speaks to a server in one of the dialects. A MAC address that several addresses share is a gateway's,
and says nothing of who made the copier behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from appliance.seeing import naming
from appliance.seeing.conversations import ENCRYPTED
from appliance.seeing.makers import maker_of
from appliance.seeing.said import Said
from protocols.capture import frames
from protocols.capture.frames import UDP, Packet
from protocols.capture.streams import Peer
from protocols.errors import ProtocolError
from protocols.terminal.messages import Hello

MOST = 20_000
"""Addresses that are remembered."""
_SHARED = 4


@dataclass(slots=True)
class Talk:
    """What a copier says to a server in a dialect. `messages`: how many were seen, of both. `ports`: the server's;
    `accounting_ports`: those to which records go in RADIUS.
    """

    server: str
    dialect: str
    ports: set[int] = field(default_factory=set)
    accounting_ports: set[int] = field(default_factory=set)
    encrypted: bool = False
    messages: int = 0


@dataclass(slots=True)
class Copier:
    """One that talks to a server. `names`: what it calls itself in the dialects."""

    address: str
    mac: str = ""
    maker: str = ""
    model: str = ""
    names: set[str] = field(default_factory=set)
    vlans: set[int] = field(default_factory=set)
    interfaces: set[str] = field(default_factory=set)
    talks: dict[tuple[str, str], Talk] = field(default_factory=dict)


@dataclass(slots=True)
class _Machine:
    mac: bytes = b""
    model: str = ""
    vlans: set[int] = field(default_factory=set)
    interfaces: set[str] = field(default_factory=set)


class Sightings:
    """Everything that was seen. `interface`: on which the frames that come now were heard, "" if that says nothing."""

    def __init__(self) -> None:
        self.interface = ""
        self._machines: dict[str, _Machine] = {}
        self._sharing: dict[bytes, set[str]] = {}
        self._copiers: dict[str, Copier] = {}

    def packet(self, at: int, packet: Packet) -> None:
        """An IP packet has passed."""
        machine = self._machine(packet.source)
        if machine is None:
            return
        machine.mac = packet.source_mac or machine.mac
        machine.vlans.update(packet.vlans)
        if self.interface:
            machine.interfaces.add(self.interface)
        if packet.source_mac and (packet.source_mac in self._sharing or len(self._sharing) < MOST):
            sharing = self._sharing.setdefault(packet.source_mac, set())
            if len(sharing) < _SHARED and not ip_address(packet.source).is_link_local:
                sharing.add(packet.source)
        if packet.protocol == UDP:
            machine.model = _model(packet) or machine.model

    def said(self, said: Said) -> None:
        """Something was said in a dialect."""
        device, server = (said.source, said.target) if said.from_device else (said.target, said.source)
        if said.answers is None and not said.from_device:
            return  # who asked is not in the capture
        copier = self._copiers.get(device[0])
        if copier is None:
            if len(self._copiers) >= MOST:
                return
            copier = self._copiers[device[0]] = Copier(device[0])
        self._count(copier, server, said)
        if said.device and said.device != device[0]:
            copier.names.add(said.device)
        if isinstance(said.message, Hello):
            copier.model = said.message.model or copier.model

    def copiers(self) -> list[Copier]:
        """All that were seen, in the order of their addresses."""
        for copier in self._copiers.values():
            machine = self._machines.get(copier.address, _Machine())
            if not self._is_gateway(machine.mac):
                copier.mac, copier.maker = machine.mac.hex(":"), maker_of(machine.mac)
            copier.model = copier.model or machine.model
            copier.vlans, copier.interfaces = machine.vlans, machine.interfaces
        return sorted(self._copiers.values(), key=lambda each: _order(each.address))

    def interfaces_of(self, address: str) -> set[str]:
        """Where frames of this address were heard."""
        return self._machines.get(address, _Machine()).interfaces

    def _machine(self, address: str) -> _Machine | None:
        machine = self._machines.get(address)
        if machine is None and len(self._machines) < MOST:
            machine = self._machines[address] = _Machine()
        return machine

    def _is_gateway(self, mac: bytes) -> bool:
        versions = [ip_address(each).version for each in self._sharing.get(mac, ())]
        return len(versions) != len(set(versions))

    @staticmethod
    def _count(copier: Copier, server: Peer, said: Said) -> None:
        key = (server[0], said.dialect)
        talk = copier.talks.setdefault(key, Talk(*key))
        (talk.accounting_ports if said.name.startswith("Accounting-") else talk.ports).add(server[1])
        talk.encrypted = talk.encrypted or said.name == ENCRYPTED
        talk.messages += 1


def _order(address: str) -> tuple[int, Any]:
    parsed = ip_address(address)
    return parsed.version, int(parsed)


def _model(packet: Packet) -> str:
    try:
        datagram = frames.datagram(packet)
    except ProtocolError:
        return ""
    readers: dict[int, Callable[[bytes], str]] = {naming.SNMP_PORT: naming.by_snmp, naming.MDNS_PORT: naming.by_mdns}
    read = readers.get(datagram.source_port)
    return read(datagram.data) if read is not None else ""
