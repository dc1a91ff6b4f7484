"""Whether a server's address is there on its own network, and answering for it while it is not. One table, at the end.

A host that is gone answers neither ARP nor neighbour solicitations, so that copiers on its subnet send it nothing that
Locum could answer. While the upstream is away (grace, offline) and probes on the servers' side stayed silent, Locum
tells those who ask the MAC address that the server had; it leaves each question to the server for a moment first. Any
sign of the server ends it at once; an unanswered question leads to new probes. RFC 5227 section 2.1.1, RFC 4861
sections 7.2 and 7.2.8. Whose frames count, `neighbours.py` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from protocols.errors import Malformed
from protocols.neighbours import arp, ethernet, ndp
from protocols.neighbours.ethernet import mac_text, vlan_of
from proxy.commands import Command, Keep, SendFrame, Side, Tell
from proxy.events import Moment
from storage.records import Remember

Address = IPv4Address | IPv6Address

PROBES = 3
PROBE_EVERY = 0.3
"""Seconds. RFC 5227 has one to two, for an address that somebody may want to keep; here the server has been silent for
its `answer_timeout` already.
"""
SERVER_FIRST = 0.05
"""Seconds that a question is left to the server."""
CLAIMING = 3.0
"""Seconds after a server's own probe for its address in which Locum sends none: a server that is starting takes a probe
of another's for a claim (RFC 5227 section 2.1.1).
"""
PERSISTS = 10.0
"""Seconds after which another MAC address that still has the server's address is taken for the server's."""
TELL_EVERY = 60.0
MOST_ASKS = 1024
REMEMBERED = "neighbour:"
"""With the address behind it: the key under which a MAC address is kept."""
MOST_STRANGERS = 8


class Stage(StrEnum):
    RESTING = "resting"
    LISTENING = "listening"
    DOUBTING = "doubting"
    PROBING = "probing"
    ANSWERING = "answering"


class Sign(StrEnum):
    AWAY = "the upstream is away"
    BACK = "the upstream is back"
    UNANSWERED = "a question stayed unanswered"
    READY = "probes can be sent"
    SILENT = "the probes stayed silent"
    HEARD = "the server was heard"


@dataclass(frozen=True, slots=True)
class Station:
    """Who asks: MAC address, IP address, and the 802.1Q tag of the frame."""

    mac: bytes
    address: Address
    tag: int | None


class Presence:
    """One address of the server `name`. `remembered`: what `Remember` last kept under `key`, "" nothing.

    `mac`: the server's last, None while none is known, and `vlan` the one it is in. `answered` counts answers.
    """

    def __init__(self, name: str, address: Address, remembered: str) -> None:
        self.name = name
        self.address = address
        self.key = f"{REMEMBERED}{address}"
        self.mac, self.vlan = recalled(remembered)
        self.stage = Stage.RESTING
        self.answered = 0
        self._station: Station | None = None
        self._asks: dict[Station, float] = {}
        self._probes = 0
        self._next_probe = 0.0
        self._claiming_until = float("-inf")
        self._strangers: set[bytes] = set()
        self._follower: tuple[bytes, int, float] | None = None
        self._told_at = float("-inf")
        self._began_told = False

    @property
    def is_doubted(self) -> bool:
        """Whether any frame of the server's matters now."""
        return self.stage in (Stage.PROBING, Stage.ANSWERING)

    def asked(self, station: Station, at: Moment, *, in_need: bool) -> None:
        """A client asks for the address, on the copiers' side. `in_need`: its upstream is away."""
        known = self.mac is not None
        if known and (vlan_of(station.tag) != self.vlan or station.mac == self.mac):
            return
        self._station = station
        if known and in_need and self.stage is not Stage.RESTING and len(self._asks) < MOST_ASKS:
            self._asks.setdefault(station, at.now)

    def heard(self, at: Moment) -> list[Command]:
        """A frame of the server's: it is there."""
        return self._handle(Sign.HEARD, at)

    def probed_itself(self, at: Moment) -> list[Command]:
        """The server is about to take its address, and asks whether it is free."""
        self._claiming_until = at.now + CLAIMING
        return self.heard(at)

    def claimed(self, mac: bytes | None, vlan: int, side: Side, at: Moment) -> list[Command]:
        """Somebody says that the address is his; `mac` None: without saying at which MAC address."""
        answering = self.stage is Stage.ANSWERING
        commands = self.heard(at)
        if mac is None or not ethernet.is_station(mac):
            return commands
        if mac == self.mac:
            self._follower = None
            return commands if vlan == self.vlan or side is Side.COPIERS else commands + self._learn(mac, vlan)
        if self.mac is None:
            return commands + (self._learn(mac, vlan) if side is Side.SERVERS else [])
        return commands + self._stranger(mac, vlan, side, answering, at)

    def tick(self, away: bool, at: Moment) -> list[Command]:
        """`away`: the upstream of one of the address's listeners is in grace or offline."""
        commands = self._handle(Sign.AWAY if away else Sign.BACK, at)
        due = [station for station, asked in self._asks.items() if at.now >= asked + SERVER_FIRST]
        if self.stage is Stage.LISTENING and due:
            commands += self._handle(Sign.UNANSWERED, at)
        if self.stage is Stage.DOUBTING and self.mac and self._station and at.now >= self._claiming_until:
            commands += self._handle(Sign.READY, at)
        if self.stage is Stage.PROBING and at.now >= self._next_probe:
            commands += self._handle(Sign.SILENT, at) if self._probes == PROBES else self._probe(at)
        if self.stage is Stage.ANSWERING:
            for station in due:
                del self._asks[station]
                commands += self._answer(station)
        return commands

    def _handle(self, sign: Sign, at: Moment) -> list[Command]:
        before, self.stage = self.stage, TABLE[self.stage, sign]
        if sign in (Sign.HEARD, Sign.BACK):
            self._asks.clear()
        if self.stage is before:
            return []
        if self.stage is Stage.PROBING:
            self._probes, self._next_probe = 0, at.now
        if self.stage is Stage.ANSWERING:
            return self._begun(at)
        return self._ended() if before is Stage.ANSWERING else []

    def _probe(self, at: Moment) -> list[Command]:
        station = self._station
        if station is None:
            return []
        self._probes += 1
        self._next_probe = at.now + PROBE_EVERY
        if isinstance(self.address, IPv4Address):
            return [SendFrame(Side.SERVERS, arp.probe(station.mac, self.address, station.tag))]
        if isinstance(station.address, IPv6Address):
            # In the copier's name, not nobody's: a server that is just starting would take that for another's claim to
            # its address, and give it up (RFC 4862 section 5.4.3).
            frame = ndp.solicitation(station.mac, station.address, self.address, station.tag)
            return [SendFrame(Side.SERVERS, frame)]
        return []

    def _answer(self, station: Station) -> list[Command]:
        if self.mac is None:
            return []
        self.answered += 1
        to = station.address
        if isinstance(self.address, IPv4Address) and isinstance(to, IPv4Address):
            frame = arp.reply(self.mac, self.address, station.mac, to, station.tag)
        elif isinstance(self.address, IPv6Address) and isinstance(to, IPv6Address):
            frame = ndp.advertisement(self.mac, self.address, station.mac, to, station.tag)
        else:
            return []
        return [SendFrame(Side.COPIERS, frame)]

    def _learn(self, mac: bytes, vlan: int) -> list[Command]:
        self.mac, self.vlan, self._follower = mac, vlan, None
        if self._station is not None and vlan_of(self._station.tag) != vlan:
            self._station = None
        return [Keep(Remember(self.key, f"{mac_text(mac)}/{vlan}"), wait=False)]

    def _stranger(self, mac: bytes, vlan: int, side: Side, answering: bool, at: Moment) -> list[Command]:
        """Another MAC address has the server's address: told once, learned when that lasts."""
        commands: list[Command] = []
        context = self._context() | {"other": mac_text(mac)}
        if mac not in self._strangers and len(self._strangers) < MOST_STRANGERS:
            self._strangers.add(mac)
            text = f"{self.name}: another machine says that it has the server's address {self.address}; look who it is"
            commands.append(Tell("warning", text, context, alarm="server"))
        if side is Side.COPIERS:
            return commands
        follower = self._follower
        if follower is None or follower[:2] != (mac, vlan) or answering:
            self._follower = (mac, vlan, at.now)
        elif at.now - follower[2] >= PERSISTS:
            text = f"{self.name}: {self.address} is another machine's for good; Locum takes it for the server's"
            commands += [*self._learn(mac, vlan), Tell("warning", text, context)]
        return commands

    def _begun(self, at: Moment) -> list[Command]:
        self._began_told = at.now - self._told_at >= TELL_EVERY
        if not self._began_told:
            return []
        self._told_at = at.now
        text = f"{self.name}: the server's machine is gone; Locum tells copiers its MAC address for {self.address}"
        return [Tell("warning", text, self._context())]

    def _ended(self) -> list[Command]:
        if not self._began_told:
            return []
        text = f"{self.name}: {self.address} is heard again; Locum does not answer for its MAC address any more"
        return [Tell("info", text, self._context())]

    def _context(self) -> dict[str, str | int]:
        return {"upstream": self.name, "address": str(self.address), "mac": mac_text(self.mac or b"")}


def recalled(text: str) -> tuple[bytes | None, int]:
    """The MAC address and the VLAN of what was kept for an address; None if it is nothing."""
    mac, _, vlan = text.partition("/")
    try:
        return ethernet.mac_from(mac), int(vlan)
    except (Malformed, ValueError):
        return None, 0


TABLE: dict[tuple[Stage, Sign], Stage] = {
    (Stage.RESTING, Sign.AWAY): Stage.DOUBTING,
    (Stage.RESTING, Sign.BACK): Stage.RESTING,
    (Stage.RESTING, Sign.UNANSWERED): Stage.RESTING,
    (Stage.RESTING, Sign.READY): Stage.RESTING,
    (Stage.RESTING, Sign.SILENT): Stage.RESTING,
    (Stage.RESTING, Sign.HEARD): Stage.RESTING,
    (Stage.LISTENING, Sign.AWAY): Stage.LISTENING,
    (Stage.LISTENING, Sign.BACK): Stage.RESTING,
    (Stage.LISTENING, Sign.UNANSWERED): Stage.DOUBTING,
    (Stage.LISTENING, Sign.READY): Stage.LISTENING,
    (Stage.LISTENING, Sign.SILENT): Stage.LISTENING,
    (Stage.LISTENING, Sign.HEARD): Stage.LISTENING,
    (Stage.DOUBTING, Sign.AWAY): Stage.DOUBTING,
    (Stage.DOUBTING, Sign.BACK): Stage.RESTING,
    (Stage.DOUBTING, Sign.UNANSWERED): Stage.DOUBTING,
    (Stage.DOUBTING, Sign.READY): Stage.PROBING,
    (Stage.DOUBTING, Sign.SILENT): Stage.DOUBTING,
    (Stage.DOUBTING, Sign.HEARD): Stage.LISTENING,
    (Stage.PROBING, Sign.AWAY): Stage.PROBING,
    (Stage.PROBING, Sign.BACK): Stage.RESTING,
    (Stage.PROBING, Sign.UNANSWERED): Stage.PROBING,
    (Stage.PROBING, Sign.READY): Stage.PROBING,
    (Stage.PROBING, Sign.SILENT): Stage.ANSWERING,
    (Stage.PROBING, Sign.HEARD): Stage.LISTENING,
    (Stage.ANSWERING, Sign.AWAY): Stage.ANSWERING,
    (Stage.ANSWERING, Sign.BACK): Stage.RESTING,
    (Stage.ANSWERING, Sign.UNANSWERED): Stage.ANSWERING,
    (Stage.ANSWERING, Sign.READY): Stage.ANSWERING,
    (Stage.ANSWERING, Sign.SILENT): Stage.ANSWERING,
    (Stage.ANSWERING, Sign.HEARD): Stage.LISTENING,
}
