"""Copiers that are switched off while Locum speaks as them: what is known of them, and answering for them.

In line a probe or a record that waited goes to the server from a copier's address. The server, or the gateway on the
way to it, then asks who has that address; when the copier is off nobody says, and the answer to Locum never comes. So
Locum tells the copier's own MAC address, on the servers' side, to the one who asked: while something of Locum's is
under way from that address, and after the question was put twice more on the copiers' side, in the asker's name, so
that a copier that is there answers it itself. Such a question is no probe of RFC 5227: a copier that comes up at that
moment takes it for no conflict. Each question stands by itself; what is heard of the copier ends it. RFC 826, RFC 4861
section 7.2. Whose frames count, `neighbours.py` says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from protocols.neighbours import arp, ethernet, ndp
from protocols.neighbours.ethernet import mac_text, vlan_of
from proxy.commands import Command, Keep, SendFrame, Side
from proxy.events import Moment
from proxy.lessons import Lessons
from proxy.presence import REMEMBERED, Address, Station, recalled
from storage.records import Remember

REPEATS = 2
REPEAT_EVERY = 0.1
"""Seconds between a question, its repetitions, and the answer. Short, for the server's answer waits; a copier that
wakes up later says the same.
"""
KEEP_EVERY = 60.0
"""Seconds after which another MAC address of one copier is written down again."""
UNKNOWN_EVERY = 1.0
MOST_COPIERS = 4096
MOST_QUESTIONS = 1024
MOST_UNKNOWN = 8
"""Copiers whose next packet is waited for at a time: the filter for frames is to stay short (`net/packets.py`)."""


@dataclass(slots=True)
class _Copier:
    mac: bytes
    vlan: int
    kept: str
    keep_again: float = float("-inf")

    @property
    def text(self) -> str:
        return f"{mac_text(self.mac)}/{self.vlan}"


@dataclass(slots=True)
class _Question:
    asked: float
    repeated: int = 0


class Copiers:
    """`remembered` reads what `Remember` kept, `kept` gives the addresses that it kept something for. `spoken_as`: the
    addresses as which Locum speaks now. `answered` counts answers.
    """

    def __init__(
        self,
        remembered: Callable[[str], str | None],
        kept: Iterable[str],
        spoken_as: Callable[[], Collection[str]],
        lessons: Lessons,
    ) -> None:
        self.answered = 0
        self._spoken_as = spoken_as
        self._lessons = lessons
        self._copiers: OrderedDict[Address, _Copier] = OrderedDict()
        self._questions: dict[tuple[Address, Station], _Question] = {}
        self._unknown: frozenset[bytes] = frozenset()
        self._look_again = float("-inf")
        for each in [*kept][-MOST_COPIERS:]:
            text = remembered(REMEMBERED + each) or ""
            mac, vlan = recalled(text)
            if mac is not None:
                self._copiers[ip_address(each)] = _Copier(mac, vlan, text)

    def configure(self, is_client: Callable[[Address], bool]) -> None:
        """Nothing is known of others than clients any more."""
        for address in [each for each in self._copiers if not is_client(each)]:
            self._drop(address)
        for address, copier in self._copiers.items():
            self._lessons.learn(address, copier.mac, copier.vlan)

    @property
    def unknown(self) -> frozenset[bytes]:
        """Addresses as which Locum speaks, and whose MAC address is not known: any packet of theirs tells it."""
        return self._unknown

    def heard(self, address: Address, mac: bytes, vlan: int, at: Moment) -> list[Command]:
        """A client on the copiers' side: it answers for itself, and this is its MAC address from now on."""
        self._settle(address)
        if not ethernet.is_station(mac):
            return []
        copier = self._copiers.setdefault(address, _Copier(mac, vlan, ""))
        copier.mac, copier.vlan = mac, vlan
        self._copiers.move_to_end(address)
        self._lessons.learn(address, mac, vlan)
        if len(self._copiers) > MOST_COPIERS:
            self._drop(next(iter(self._copiers)))
        if copier.text == copier.kept or at.now < copier.keep_again:
            return []
        copier.kept, copier.keep_again = copier.text, at.now + KEEP_EVERY
        return [Keep(Remember(f"{REMEMBERED}{address}", copier.text), wait=False)]

    def moved(self, address: Address, mac: bytes) -> list[Command]:
        """The address was heard on the servers' side: whoever has it answers for itself there."""
        copier = self._copiers.get(address)
        if copier is None:
            return []
        if copier.mac == mac:
            self._settle(address)
            return []
        self._drop(address)
        return [Keep(Remember(f"{REMEMBERED}{address}", ""), wait=False)]

    def asked(self, asker: Station, wanted: Address, at: Moment) -> None:
        """A server of ours, or its gateway, asks for an address."""
        copier = self._copiers.get(wanted)
        if copier is None or copier.vlan != vlan_of(asker.tag) or copier.mac == asker.mac:
            return
        if len(self._questions) < MOST_QUESTIONS and str(wanted) in self._spoken_as():
            self._questions.setdefault((wanted, asker), _Question(at.now))

    def tick(self, is_client: Callable[[Address], bool], at: Moment) -> list[Command]:
        commands: list[Command] = []
        for (wanted, asker), question in list(self._questions.items()):
            if at.now < question.asked + (question.repeated + 1) * REPEAT_EVERY:
                continue
            if question.repeated < REPEATS:
                question.repeated += 1
                commands += _repetition(asker, wanted)
            else:
                del self._questions[wanted, asker]
                commands += self._answer(asker, wanted)
        if at.now >= self._look_again:
            self._look_again = at.now + UNKNOWN_EVERY
            spoken = (ip_address(each) for each in sorted(self._spoken_as()))
            unknown = [each.packed for each in spoken if each not in self._copiers and is_client(each)]
            self._unknown = frozenset(unknown[:MOST_UNKNOWN])
        return commands + self._lessons.some()

    def _answer(self, asker: Station, wanted: Address) -> list[Command]:
        copier = self._copiers[wanted]
        self.answered += 1
        if isinstance(wanted, IPv4Address) and isinstance(asker.address, IPv4Address):
            return [SendFrame(Side.SERVERS, arp.reply(copier.mac, wanted, asker.mac, asker.address, asker.tag))]
        if isinstance(wanted, IPv6Address) and isinstance(asker.address, IPv6Address):
            frame = ndp.advertisement(copier.mac, wanted, asker.mac, asker.address, asker.tag)
            return [SendFrame(Side.SERVERS, frame)]
        return []

    def _settle(self, address: Address) -> None:
        for key in [key for key in self._questions if key[0] == address]:
            del self._questions[key]

    def _drop(self, address: Address) -> None:
        self._settle(address)
        self._lessons.forget(address)
        del self._copiers[address]


def _repetition(asker: Station, wanted: Address) -> list[Command]:
    """The asker's question, put to the copiers' side once more."""
    if isinstance(wanted, IPv4Address) and isinstance(asker.address, IPv4Address):
        return [SendFrame(Side.COPIERS, arp.question(asker.mac, asker.address, wanted, asker.tag))]
    if isinstance(wanted, IPv6Address) and isinstance(asker.address, IPv6Address):
        return [SendFrame(Side.COPIERS, ndp.solicitation(asker.mac, asker.address, wanted, asker.tag))]
    return []
