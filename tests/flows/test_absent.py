"""A copier that is off is answered for on the servers' side: when, to whom, with which MAC address, and when not.

The flow on a fake clock. Frames are made and read with `protocols`, which scapy has checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest

from protocols.neighbours import arp, ethernet, ndp
from protocols.neighbours.ethernet import Frame, mac_text
from proxy.absent import KEEP_EVERY, MOST_UNKNOWN, REPEAT_EVERY, REPEATS
from proxy.commands import Command, Keep, SendFrame, Side, TeachRules, Tell, WatchFrames
from proxy.events import FrameReceived, Moment, Ticked
from proxy.lessons import ROUND
from proxy.link import Clock, Link
from proxy.neighbours import Guarded, Neighbours
from proxy.presence import REMEMBERED, Address
from storage.records import Remember

TICK = 1 / 32
WALL = 1_795_000_000_000
COPIER, SERVER, OTHER, GATEWAY = (bytes((2, 0, 0, 0, 0, number)) for number in (1, 2, 9, 7))
NETWORKS = (ip_network("10.9.0.0/28"), ip_network("fd00:9::/112"))
ADDRESSES: dict[int, tuple[Address, Address, Address, Address]] = {
    4: tuple(ip_address(f"10.9.0.{number}") for number in (1, 2, 7, 200)),  # type: ignore[dict-item]
    6: tuple(ip_address(f"fd00:9::{number}") for number in ("1", "2", "7", "1:1")),  # type: ignore[dict-item]
}
ANSWERED_AFTER = (REPEATS + 1) * REPEAT_EVERY


def at(now: float) -> Moment:
    return Moment(now, WALL + int(now * 1000), bytes(32))


@dataclass
class Night:
    """One server, and what Locum sends on either side. `memory` is what a restart would find."""

    version: int = 4
    tag: int | None = None
    memory: dict[str, str] = field(default_factory=dict)
    speaks_as: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.now = 100.0
        self.copier, self.server, self.gateway, self.stranger = ADDRESSES[self.version]
        self.link = Link("hq", 2.0, Clock("boot", 0), proven=True, began=at(self.now))
        self.told: list[Tell] = []
        self.sent: list[tuple[Side, Frame]] = []
        self.taught: list[tuple[str, str, int]] = []
        self.watched: dict[Side, WatchFrames] = {}
        self.start()

    def start(self) -> None:
        kept = [key.removeprefix(REMEMBERED) for key in self.memory]
        self.flow = Neighbours(self.memory.get, kept, lambda: self.speaks_as)
        self.run(self.flow.configure([Guarded(self.link, str(self.server), NETWORKS)]))

    def run(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, SendFrame):
                self.sent.append((command.side, ethernet.parse(command.data)))
            elif isinstance(command, TeachRules):
                self.taught.append(lesson(command.data))
            elif isinstance(command, WatchFrames):
                self.watched[command.side] = command
            elif isinstance(command, Tell):
                self.told.append(command)
            elif isinstance(command, Keep):
                assert isinstance(command.change, Remember)
                self.memory[command.change.key] = command.change.value

    def frame(self, side: Side, data: bytes) -> None:
        self.run(self.flow.handle(FrameReceived(side, data, at(self.now))))

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.run(self.flow.handle(Ticked(at(self.now))))

    # What stations say

    def ask(self, mac: bytes, asker: Address, wanted: Address, side: Side = Side.SERVERS) -> None:
        if isinstance(asker, IPv4Address) and isinstance(wanted, IPv4Address):
            self.frame(side, arp.question(mac, asker, wanted, self.tag))
        elif isinstance(asker, IPv6Address) and isinstance(wanted, IPv6Address):
            self.frame(side, ndp.solicitation(mac, asker, wanted, self.tag))

    def asked(self) -> None:
        """The server asks for the copier."""
        self.ask(SERVER, self.server, self.copier)

    def says(self, mac: bytes = COPIER, side: Side = Side.COPIERS) -> None:
        """Somebody answers the server that he has the copier's address."""
        if isinstance(self.copier, IPv4Address) and isinstance(self.server, IPv4Address):
            self.frame(side, arp.reply(mac, self.copier, SERVER, self.server, self.tag))
        elif isinstance(self.copier, IPv6Address) and isinstance(self.server, IPv6Address):
            self.frame(side, ndp.advertisement(mac, self.copier, SERVER, self.server, self.tag))

    def probe(self, mac: bytes, wanted: Address, side: Side) -> None:
        """Of somebody who is about to take an address."""
        if isinstance(wanted, IPv4Address):
            self.frame(side, arp.probe(mac, wanted, self.tag))
        else:
            group = ndp.group_of(wanted)
            message = ndp.build(ndp.Neighbour(ndp.SOLICITATION, ndp.NOBODY, group, wanted, None))
            self.frame(side, ethernet.build(Frame(b"\x33\x33" + group.packed[-4:], mac, 0x86DD, message, self.tag)))

    def packet(self, mac: bytes, source: Address, side: Side) -> None:
        """Any IP packet."""
        kind, place, size = (0x0800, 12, 20) if self.version == 4 else (0x86DD, 8, 40)
        header = bytearray(size)
        header[place : place + len(source.packed)] = source.packed
        self.frame(side, ethernet.build(Frame(SERVER, mac, kind, bytes(header), self.tag)))

    # A way to it

    def known(self) -> None:
        """By day, the copier has asked for the server, and the server answered."""
        self.ask(COPIER, self.copier, self.server, Side.COPIERS)
        if isinstance(self.server, IPv4Address) and isinstance(self.copier, IPv4Address):
            self.frame(Side.SERVERS, arp.reply(SERVER, self.server, COPIER, self.copier, self.tag))
        elif isinstance(self.server, IPv6Address) and isinstance(self.copier, IPv6Address):
            self.frame(Side.SERVERS, ndp.advertisement(SERVER, self.server, COPIER, self.copier, self.tag))

    def off(self) -> None:
        """And now it is off, while Locum speaks as it."""
        self.known()
        self.speaks_as.add(str(self.copier))
        self.sent.clear()

    # What Locum said

    def answers(self) -> list[tuple[bytes, Address, bytes]]:
        """Whom the servers' side was told that the copier's address has which MAC address, in order."""
        return [_answer(frame, self) for side, frame in self.sent if side is Side.SERVERS]

    def repetitions(self) -> Iterator[Frame]:
        return (frame for side, frame in self.sent if side is Side.COPIERS)


def _answer(frame: Frame, night: Night) -> tuple[bytes, Address, bytes]:
    assert frame.tag == night.tag
    if frame.kind == ethernet.ARP:
        reply = arp.parse(frame.payload)
        assert (reply.operation, reply.sender, reply.sender_mac) == (arp.REPLY, night.copier, frame.source)
        assert reply.target_mac == frame.target
        return frame.target, reply.target, reply.sender_mac
    message = ndp.parse(frame.payload)
    assert (message.kind, message.wanted, message.mac) == (ndp.ADVERTISEMENT, night.copier, frame.source)
    assert (message.source, message.flags) == (night.copier, ndp.SOLICITED)
    return frame.target, message.target, frame.source


def lesson(data: bytes) -> tuple[str, str, int]:
    frame = ethernet.parse(data)
    message = arp.parse(frame.payload)
    rest = frame.payload[arp.SIZE :]
    address = ip_address(rest) if message.sender == arp.NOBODY else message.sender
    return str(address), mac_text(message.sender_mac), frame.vlan


@pytest.fixture(params=[4, 6])
def night(request: pytest.FixtureRequest) -> Night:
    return Night(request.param)


# When it answers


def test_the_server_is_told_the_copiers_own_mac_address_once_nobody_else_said_it(night: Night) -> None:
    night.off()
    night.asked()
    night.pass_time(ANSWERED_AFTER - TICK)
    assert night.answers() == []
    night.pass_time(3 * TICK)
    assert night.answers() == [(SERVER, night.server, COPIER)]
    night.pass_time(10)
    assert len(night.answers()) == 1


def test_first_the_question_is_put_to_the_copiers_side_again_in_the_askers_name(night: Night) -> None:
    """It says who asks: a copier that is taking its address sees no conflict in it (RFC 5227 section 2.1.1)."""
    night.off()
    night.asked()
    night.pass_time(1)
    frames = list(night.repetitions())
    assert len(frames) == REPEATS
    for frame in frames:
        assert frame.source == SERVER
        if night.version == 4:
            question = arp.parse(frame.payload)
            assert (question.sender, question.sender_mac, question.target) == (night.server, SERVER, night.copier)
        else:
            message = ndp.parse(frame.payload)
            assert (message.source, message.mac, message.wanted) == (night.server, SERVER, night.copier)


def test_a_question_that_is_repeated_gets_one_answer_and_a_later_one_its_own(night: Night) -> None:
    night.off()
    for _ in range(3):
        night.asked()
        night.pass_time(TICK)
    night.pass_time(5)
    assert len(night.answers()) == 1
    night.asked()
    night.pass_time(1)
    assert len(night.answers()) == 2


def test_the_gateway_whose_mac_address_the_servers_packets_have_is_answered(night: Night) -> None:
    night.ask(COPIER, night.copier, night.server, Side.COPIERS)
    night.packet(GATEWAY, night.server, Side.SERVERS)
    assert night.watched[Side.SERVERS].partners == night.watched[Side.COPIERS].partners == {GATEWAY}
    night.speaks_as.add(str(night.copier))
    night.ask(GATEWAY, night.gateway, night.copier)
    night.pass_time(1)
    assert night.answers() == [(GATEWAY, night.gateway, COPIER)]


def test_a_restart_answers_from_what_it_remembers(night: Night) -> None:
    night.off()
    night.start()
    night.asked()
    night.pass_time(1)
    assert night.answers() == [(SERVER, night.server, COPIER)]


def test_the_tag_of_the_question_is_that_of_the_answer(night: Night) -> None:
    night.tag = 0x600A
    night.off()
    assert night.memory[f"{REMEMBERED}{night.copier}"] == f"{mac_text(COPIER)}/10"
    night.asked()
    night.pass_time(1)
    assert night.answers() == [(SERVER, night.server, COPIER)]
    assert {frame.tag for frame in night.repetitions()} == {0x600A}
    night.tag = 0x0014
    night.sent.clear()
    night.asked()
    night.pass_time(1)
    assert night.sent == [], "another VLAN is another network"


# When it does not


def test_a_copier_that_is_there_answers_for_itself(night: Night) -> None:
    night.off()
    night.asked()
    night.pass_time(2 * TICK)
    night.says()
    night.pass_time(5)
    assert night.sent == []


def test_it_ends_at_once_when_the_copier_is_heard(night: Night) -> None:
    night.off()
    night.asked()
    night.pass_time(ANSWERED_AFTER - TICK)
    night.ask(COPIER, night.copier, night.server, Side.COPIERS)
    night.pass_time(5)
    assert night.answers() == []


def test_while_nothing_of_locums_is_under_way_from_the_copier_nothing_is_said(night: Night) -> None:
    night.off()
    night.speaks_as.clear()
    night.asked()
    night.pass_time(5)
    assert night.sent == []


def test_for_what_is_not_known_nothing_is_said(night: Night) -> None:
    night.known()
    other = night.copier + 3
    night.speaks_as |= {str(other), str(night.stranger)}
    night.ask(SERVER, night.server, other)
    night.ask(OTHER, night.stranger, night.server, Side.COPIERS)
    night.ask(SERVER, night.server, night.stranger)
    night.pass_time(5)
    assert night.sent == [], "nor for one that is no client"


def test_whoever_else_asks_is_not_answered(night: Night) -> None:
    night.off()
    night.ask(OTHER, night.gateway, night.copier)
    night.ask(SERVER, night.server, night.copier, Side.COPIERS)
    night.pass_time(5)
    assert night.sent == []


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("mac", [COPIER, SERVER, OTHER])
def test_who_is_about_to_take_the_address_is_not_answered(night: Night, side: Side, mac: bytes) -> None:
    """RFC 5227 section 2.1.1 and RFC 4862 section 5.4: an answer would be a conflict."""
    night.off()
    for _ in range(3):
        night.probe(mac, night.copier, side)
        night.pass_time(1)
    assert night.sent == []


# Addresses move


def test_another_mac_address_is_learned_without_an_alarm(night: Night) -> None:
    night.off()
    night.asked()
    night.says(OTHER)
    night.pass_time(5)
    assert (night.sent, night.told) == ([], [])
    night.asked()
    night.pass_time(1)
    assert night.answers() == [(SERVER, night.server, OTHER)]


def test_an_address_that_is_on_the_servers_side_now_is_forgotten(night: Night) -> None:
    night.off()
    night.asked()
    night.says(OTHER, Side.SERVERS)
    night.pass_time(5)
    night.start()
    night.asked()
    night.pass_time(5)
    assert night.sent == []


def test_a_machine_that_says_the_same_on_the_servers_side_changes_nothing(night: Night) -> None:
    night.off()
    night.asked()
    night.says(COPIER, Side.SERVERS)
    night.pass_time(5)
    assert night.sent == []
    night.asked()
    night.pass_time(1)
    assert len(night.answers()) == 1


def test_what_changes_all_the_time_is_written_down_once_a_minute(night: Night) -> None:
    night.off()
    key = f"{REMEMBERED}{night.copier}"
    written = []
    for number in range(40):
        night.memory.pop(key, None)
        night.says((COPIER, OTHER)[number % 2])
        written.append(key in night.memory)
        night.pass_time(4)
    assert 2 <= sum(written) <= 160 / KEEP_EVERY + 1


def test_any_packet_tells_the_mac_address_of_one_whom_locum_speaks_as(night: Night) -> None:
    """A copier that has a gateway on the way to the server asks nobody for the server."""
    night.speaks_as |= {str(night.copier), str(night.stranger), str(night.server)}
    night.pass_time(1.1)
    assert night.watched[Side.COPIERS].senders == {night.copier.packed}, "clients alone"
    night.packet(COPIER, night.copier, Side.COPIERS)
    night.pass_time(1.1)
    assert night.watched[Side.COPIERS].senders == frozenset()
    assert night.memory[f"{REMEMBERED}{night.copier}"] == f"{mac_text(COPIER)}/0"


def test_the_filter_stays_short_however_many_are_unknown(night: Night) -> None:
    night.speaks_as |= {str(night.copier + number) for number in (0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)}
    night.pass_time(1.1)
    assert len(night.watched[Side.COPIERS].senders) == MOST_UNKNOWN


# What the kernel's rules are told


def test_the_rules_are_told_what_is_remembered_before_anything_is_sent(night: Night) -> None:
    night.known()
    night.taught.clear()
    night.start()
    assert night.taught == [(str(night.copier), mac_text(COPIER), 0), (str(night.server), mac_text(SERVER), 0)]


def test_they_are_told_again_and_again_for_they_may_be_made_anew(night: Night) -> None:
    night.known()
    night.start()
    night.taught.clear()
    night.pass_time(ROUND * TICK)
    assert {address for address, _, _ in night.taught} == {str(night.copier), str(night.server)}


def test_a_round_tells_everything_however_much_it_is(night: Night) -> None:
    night.known()
    for number in range(3, 13):
        night.ask(OTHER, night.copier + number, night.server, Side.COPIERS)
    night.taught.clear()
    night.pass_time(ROUND * TICK)
    assert len({address for address, _, _ in night.taught}) == 12


def test_the_rules_are_told_the_vlan_too(night: Night) -> None:
    night.tag = 0x600A
    night.known()
    night.start()
    assert (str(night.copier), mac_text(COPIER), 10) in night.taught
