"""Frames of ARP and neighbour discovery on both sides of the line, and the addresses of servers that they are about.

What is learned of a server's address and when it is answered for, `presence.py` says; here is whose word counts.
Servers are learned on the servers' side. Questions are answered on the copiers' side, to clients of a listener alone
whose upstream is away; in a drill the server is there, and nothing is answered. A client that asks from a link-local
address is known by the MAC address that a client's address was heard from. On the servers' side it is the questions of
the servers themselves, and of the gateway that their packets come from, that may be answered for copiers that are off
(`absent.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from protocols.errors import Malformed
from protocols.neighbours import arp, ethernet, ndp
from proxy.absent import Copiers
from proxy.commands import Command, Side, WatchFrames
from proxy.events import Event, FrameReceived, Ticked
from proxy.lessons import Lessons
from proxy.link import Link
from proxy.presence import REMEMBERED, Address, Presence, Station

MOST_CLIENTS = 4096


@dataclass(frozen=True, slots=True)
class Guarded:
    """A numeric address of the server that `link` is the state of, and the networks of its listeners' clients."""

    link: Link
    address: str
    clients: tuple[IPv4Network | IPv6Network, ...]


class Neighbours:
    """`remembered` reads what `Remember` kept; `kept`: the addresses that it kept a MAC address for. `spoken_as`: the
    addresses of devices as which Locum speaks now. `malformed` counts frames that could not be read, by reason.
    """

    def __init__(
        self,
        remembered: Callable[[str], str | None],
        kept: Iterable[str] = (),
        spoken_as: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.malformed: Counter[str] = Counter()
        self._lessons = Lessons()
        self.copiers = Copiers(remembered, kept, spoken_as, self._lessons)
        self._remembered = remembered
        self._guarded: dict[Address, list[Guarded]] = {}
        self._presences: dict[Address, Presence] = {}
        self._clients: dict[bytes, Address] = {}
        self._watching: dict[Side, WatchFrames] = {}

    def configure(self, guarded: Iterable[Guarded]) -> list[Command]:
        """Watch these addresses from now on, and no others; of those that stay, what is known stays."""
        self._guarded = {}
        for each in guarded:
            self._guarded.setdefault(ip_address(each.address), []).append(each)
        before, self._presences = self._presences, {}
        for address in before.keys() - self._guarded.keys():
            self._lessons.forget(address)
        for address, several in self._guarded.items():
            name = ", ".join(dict.fromkeys(each.link.upstream for each in several))
            kept = before.get(address) or Presence(name, address, self._remembered(f"{REMEMBERED}{address}") or "")
            kept.name = name
            self._presences[address] = kept
        self.copiers.configure(self._is_client)
        self._teach()
        self._watching = {}
        return [*self._watch(), *self._lessons.all()]

    def presences(self) -> list[Presence]:
        """How each address stands, for status."""
        return list(self._presences.values())

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, FrameReceived):
            commands = self._received(event)
        elif isinstance(event, Ticked):
            commands = []
            self._teach()
            for address, presence in self._presences.items():
                away = any(not each.link.state.relays for each in self._guarded[address])
                commands += presence.tick(away, event.at)
            commands += self.copiers.tick(self._is_client, event.at)
        else:
            return []
        return commands + self._watch()

    def _watch(self) -> list[Command]:
        """Any frame tells the MAC address of a server of which none is known, and that one in doubt is there."""
        standing = self._presences.values()
        watched = frozenset(address.packed for address in self._presences)
        doubted = frozenset(each.mac for each in standing if each.mac is not None and each.is_doubted)
        unknown = frozenset(each.address.packed for each in standing if each.mac is None)
        partners = self._servers
        commands: list[Command] = []
        for wanted in (
            WatchFrames(Side.COPIERS, watched, senders=self.copiers.unknown, partners=partners),
            WatchFrames(Side.SERVERS, watched, doubted, unknown, partners),
        ):
            if self._watching.get(wanted.side) != wanted:
                self._watching[wanted.side] = wanted
                commands.append(wanted)
        return commands

    @property
    def _servers(self) -> frozenset[bytes]:
        """The MAC addresses that the servers' packets come from: their own, or a gateway's."""
        return frozenset(each.mac for each in self._presences.values() if each.mac is not None)

    def _teach(self) -> None:
        for address, presence in self._presences.items():
            if presence.mac is not None:
                self._lessons.learn(address, presence.mac, presence.vlan)

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
            elif (address := _sender(frame)) is not None:
                sender = self._presences.get(address)
                if event.side is Side.COPIERS:
                    commands += self._copier(address, frame.source, frame, event)
                elif sender is not None and sender.mac is None:
                    commands += sender.claimed(frame.source, frame.vlan, event.side, event.at)
        except Malformed as error:
            self.malformed[error.reason] += 1
        return commands

    def _arp(self, message: arp.Arp, frame: ethernet.Frame, event: FrameReceived) -> list[Command]:
        mac = message.sender_mac
        asker = Station(mac, message.sender, frame.tag)
        claimed, wanted = self._presences.get(message.sender), self._presences.get(message.target)
        commands = self._copier(message.sender, mac, frame, event)
        if claimed is not None:
            commands += claimed.claimed(mac, frame.vlan, event.side, event.at)
        if message.operation != arp.REQUEST:
            return commands
        self._asked_for_copier(asker, message.target, event)
        if wanted is None or claimed is not None:
            return commands
        if message.sender == arp.NOBODY:
            return commands + (wanted.probed_itself(event.at) if mac == wanted.mac else [])
        return commands + self._asked(wanted, asker, event)

    def _ndp(self, message: ndp.Neighbour, frame: ethernet.Frame, event: FrameReceived) -> list[Command]:
        asker = Station(message.mac or frame.source, message.source, frame.tag)
        claimed, wanted = self._presences.get(message.source), self._presences.get(message.wanted)
        if message.kind == ndp.ADVERTISEMENT:
            commands = self._copier(message.wanted, asker.mac, frame, event)
            if wanted is not None:
                return commands + wanted.claimed(message.mac, frame.vlan, event.side, event.at)
            return commands + (claimed.claimed(None, frame.vlan, event.side, event.at) if claimed is not None else [])
        commands = self._copier(message.source, asker.mac, frame, event)
        if claimed is not None:
            commands += claimed.claimed(message.mac, frame.vlan, event.side, event.at)
        self._asked_for_copier(asker, message.wanted, event)
        if wanted is None or claimed is not None:
            return commands
        if message.source == ndp.NOBODY:
            return commands + (wanted.probed_itself(event.at) if frame.source == wanted.mac else [])
        return commands + self._asked(wanted, asker, event)

    def _copier(self, address: Address, mac: bytes, frame: ethernet.Frame, event: FrameReceived) -> list[Command]:
        """Somebody speaks from this address, or says that he has it."""
        if not self._is_client(address):
            return []
        if event.side is Side.COPIERS:
            return self.copiers.heard(address, mac, frame.vlan, event.at)
        return self.copiers.moved(address, mac)

    def _asked_for_copier(self, asker: Station, wanted: Address, event: FrameReceived) -> None:
        """A probe for an address (of nobody, RFC 5227 section 2.1.1, RFC 4862 section 5.4.2) is its owner's to hear."""
        somebody = not asker.address.is_unspecified and asker.address != wanted
        if event.side is Side.SERVERS and somebody and asker.mac in self._servers:
            self.copiers.asked(asker, wanted, event.at)

    def _is_client(self, address: Address) -> bool:
        """Whether it is in the network of some listener's clients, and no server's."""
        if address in self._presences or address.is_unspecified or address.is_link_local:
            return False
        return any(address in net for several in self._guarded.values() for each in several for net in each.clients)

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
