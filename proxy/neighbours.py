"""Frames of ARP and neighbour discovery on both sides of the line, and the addresses of servers that they are about.

What is learned of a server's address and when it is answered for, `presence.py` says; here is whose word counts.
Servers are learned on the servers' side. Questions are answered on the copiers' side, to clients of a listener alone
whose upstream is away; in a drill the server is there, and nothing is answered. A client that asks from a link-local
address is known by the MAC address that a client's address was heard from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from protocols.errors import Malformed
from protocols.neighbours import arp, ethernet, ndp
from proxy.commands import Command, Side, WatchFrames
from proxy.events import Event, FrameReceived, Ticked
from proxy.link import Link
from proxy.presence import Address, Presence, Station

MOST_CLIENTS = 4096


@dataclass(frozen=True, slots=True)
class Guarded:
    """A numeric address of the server that `link` is the state of, and the networks of its listeners' clients."""

    link: Link
    address: str
    clients: tuple[IPv4Network | IPv6Network, ...]


class Neighbours:
    """`remembered` reads what `Remember` kept. `malformed` counts frames that could not be read, by reason."""

    def __init__(self, remembered: Callable[[str], str | None]) -> None:
        self.malformed: Counter[str] = Counter()
        self._remembered = remembered
        self._guarded: dict[Address, list[Guarded]] = {}
        self._presences: dict[Address, Presence] = {}
        self._clients: dict[bytes, Address] = {}
        self._watched_at_servers = WatchFrames(Side.SERVERS, frozenset())

    def configure(self, guarded: Iterable[Guarded]) -> list[Command]:
        """Watch these addresses from now on, and no others; of those that stay, what is known stays."""
        self._guarded = {}
        for each in guarded:
            self._guarded.setdefault(ip_address(each.address), []).append(each)
        before, self._presences = self._presences, {}
        for address, several in self._guarded.items():
            name = ", ".join(dict.fromkeys(each.link.upstream for each in several))
            kept = before.get(address) or Presence(name, address, self._remembered(f"neighbour:{address}") or "")
            kept.name = name
            self._presences[address] = kept
        self._watched_at_servers = self._at_servers()
        return [WatchFrames(Side.COPIERS, self._watched), self._watched_at_servers]

    def presences(self) -> list[Presence]:
        """How each address stands, for status."""
        return list(self._presences.values())

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, FrameReceived):
            commands = self._received(event)
        elif isinstance(event, Ticked):
            commands = []
            for address, presence in self._presences.items():
                away = any(not each.link.state.relays for each in self._guarded[address])
                commands += presence.tick(away, event.at)
        else:
            return []
        watched = self._at_servers()
        if watched != self._watched_at_servers:
            self._watched_at_servers = watched
            commands.append(watched)
        return commands

    @property
    def _watched(self) -> frozenset[bytes]:
        return frozenset(address.packed for address in self._presences)

    def _at_servers(self) -> WatchFrames:
        """Any frame tells the MAC address of a server of which none is known, and that one in doubt is there."""
        standing = self._presences.values()
        doubted = frozenset(each.mac for each in standing if each.mac is not None and each.is_doubted)
        unknown = frozenset(each.address.packed for each in standing if each.mac is None)
        return WatchFrames(Side.SERVERS, self._watched, doubted, unknown)

    def _received(self, event: FrameReceived) -> list[Command]:
        commands: list[Command] = []
        try:
            frame = ethernet.parse(event.data)
            if event.side is Side.SERVERS:
                for presence in self._presences.values():
                    if presence.mac == frame.source:
                        commands += presence.heard(event.at)
            if frame.kind == ethernet.ARP:
                commands += self._arp(arp.parse(frame.payload), frame, event)
            elif frame.kind == ethernet.IPV6 and ndp.is_neighbour(frame.payload):
                commands += self._ndp(ndp.parse(frame.payload), frame, event)
            elif event.side is Side.SERVERS:
                sender = self._presences.get(address) if (address := _sender(frame)) is not None else None
                if sender is not None and sender.mac is None:
                    commands += sender.claimed(frame.source, frame.vlan, event.side, event.at)
        except Malformed as error:
            self.malformed[error.reason] += 1
        return commands

    def _arp(self, message: arp.Arp, frame: ethernet.Frame, event: FrameReceived) -> list[Command]:
        mac = message.sender_mac
        claimed, wanted = self._presences.get(message.sender), self._presences.get(message.target)
        if claimed is not None:
            return claimed.claimed(mac, frame.vlan, event.side, event.at)
        if wanted is None or message.operation != arp.REQUEST:
            return []
        if message.sender == arp.NOBODY:
            return wanted.probed_itself(event.at) if mac == wanted.mac else []
        return self._asked(wanted, Station(mac, message.sender, frame.tag), event)

    def _ndp(self, message: ndp.Neighbour, frame: ethernet.Frame, event: FrameReceived) -> list[Command]:
        claimed, wanted = self._presences.get(message.source), self._presences.get(message.wanted)
        if message.kind == ndp.ADVERTISEMENT and wanted is not None:
            return wanted.claimed(message.mac, frame.vlan, event.side, event.at)
        if claimed is not None:
            mac = message.mac if message.kind == ndp.SOLICITATION else None
            return claimed.claimed(mac, frame.vlan, event.side, event.at)
        if wanted is None:
            return []
        if message.source == ndp.NOBODY:
            return wanted.probed_itself(event.at) if frame.source == wanted.mac else []
        return self._asked(wanted, Station(message.mac or frame.source, message.source, frame.tag), event)

    def _asked(self, wanted: Presence, station: Station, event: FrameReceived) -> list[Command]:
        if event.side is Side.COPIERS and ethernet.is_station(station.mac):
            client = self._client(station)
            within = [each for each in self._guarded[wanted.address] if any(client in net for net in each.clients)]
            if within:
                self._know(station)
                wanted.asked(station, event.at, in_need=any(not each.link.state.relays for each in within))
        return []

    def _client(self, station: Station) -> Address:
        return self._clients.get(station.mac, station.address) if station.address.is_link_local else station.address

    def _know(self, station: Station) -> None:
        if not station.address.is_link_local:
            self._clients.pop(station.mac, None)
            self._clients[station.mac] = station.address
            if len(self._clients) > MOST_CLIENTS:
                del self._clients[next(iter(self._clients))]


def _sender(frame: ethernet.Frame) -> Address | None:
    """The source address of an IP packet, RFC 791 section 3.1 and RFC 8200 section 3."""
    if frame.kind == ethernet.IPV4 and len(frame.payload) >= 20:
        return ip_address(frame.payload[12:16])
    if frame.kind == ethernet.IPV6 and len(frame.payload) >= 40:
        return ip_address(frame.payload[8:24])
    return None
