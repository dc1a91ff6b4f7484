"""A server whose machine is gone is answered for on the copiers' side: when, for whom, and until when.

The flow on a fake clock; the link is the real one. Frames are made and read with `protocols`, which scapy has checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest

from protocols.neighbours import arp, ethernet, ndp
from protocols.neighbours.ethernet import Frame, mac_text
from proxy.commands import Command, Keep, SendFrame, Side, Tell, WatchFrames
from proxy.events import FrameReceived, Moment, Ticked
from proxy.link import Clock, Link, Signal, State
from proxy.neighbours import Guarded, Neighbours
from proxy.presence import CLAIMING, PERSISTS, PROBE_EVERY, PROBES, TABLE, TELL_EVERY, Sign, Stage
from storage.records import Remember
from tests.flows.drilling import with_drill
from tests.flows.house import House

Address = IPv4Address | IPv6Address
TICK = 1 / 16
WALL = 1_795_000_000_000
COPIER, SECOND, SERVER, OTHER = (bytes((2, 0, 0, 0, 0, number)) for number in (1, 3, 2, 9))
ADDRESSES: dict[int, tuple[Address, Address]] = {
    4: (IPv4Address("10.9.0.1"), IPv4Address("10.9.0.2")),
    6: (IPv6Address("fd00:9::1"), IPv6Address("fd00:9::2")),
}
NETWORKS = (ip_network("10.9.0.0/28"), ip_network("fd00:9::/64"))
SILENCE = PROBES * PROBE_EVERY
"""Seconds from the first probe to the word that nobody is there."""


def at(now: float) -> Moment:
    return Moment(now, WALL + int(now * 1000), bytes(32))


@dataclass
class Line:
    """One server, `hq`, and what Locum sends on either side. `memory` is what a restart would find."""

    version: int = 4
    tag: int | None = None
    memory: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.now = 100.0
        self.copier, self.server = ADDRESSES[self.version]
        self.link = Link("hq", 2.0, Clock("boot", 0), proven=True, began=at(self.now))
        self.told: list[Tell] = []
        self.sent: list[tuple[Side, Frame]] = []
        self.watched: dict[Side, WatchFrames] = {}
        self.start()

    def start(self) -> None:
        """As after a restart, which knows `memory` only."""
        self.flow = Neighbours(self.memory.get)
        self.run(self.flow.configure([Guarded(self.link, str(self.server), NETWORKS)]))

    def run(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, SendFrame):
                self.sent.append((command.side, ethernet.parse(command.data)))
            elif isinstance(command, WatchFrames):
                self.watched[command.side] = command
            elif isinstance(command, Tell):
                self.told.append(command)
            elif isinstance(command, Keep):
                assert isinstance(command.change, Remember)
                self.memory[command.change.key] = command.change.value

    @property
    def stage(self) -> Stage:
        (presence,) = self.flow.presences()
        return presence.stage

    def frame(self, side: Side, data: bytes) -> None:
        self.run(self.flow.handle(FrameReceived(side, data, at(self.now))))

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.run(self.flow.handle(Ticked(at(self.now))))

    def contact(self, signal: Signal) -> None:
        self.link.handle(signal, "x", at(self.now))

    # What stations say

    def ask(self, mac: bytes = COPIER, copier: Address | None = None, side: Side = Side.COPIERS) -> None:
        """Who has the server's address? To everybody."""
        self.frame(side, self.question(mac, copier or self.copier, self.server))

    def question(self, mac: bytes, asker: Address, wanted: Address) -> bytes:
        if isinstance(asker, IPv4Address) and isinstance(wanted, IPv4Address):
            message = arp.build(arp.Arp(arp.REQUEST, mac, asker, ethernet.NO_MAC, wanted))
            return ethernet.build(Frame(ethernet.BROADCAST, mac, ethernet.ARP, message, self.tag))
        assert isinstance(asker, IPv6Address)
        assert isinstance(wanted, IPv6Address)
        return ndp.solicitation(mac, asker, wanted, self.tag)

    def answer(self, mac: bytes = SERVER, side: Side = Side.SERVERS) -> None:
        """The server (or another) says to the copier that it has the server's address."""
        if isinstance(self.server, IPv4Address) and isinstance(self.copier, IPv4Address):
            self.frame(side, arp.reply(mac, self.server, COPIER, self.copier, self.tag))
        elif isinstance(self.server, IPv6Address) and isinstance(self.copier, IPv6Address):
            self.frame(side, ndp.advertisement(mac, self.server, COPIER, self.copier, self.tag))

    def own_probe(self) -> None:
        """The server, starting, asks whether anybody has its address."""
        if isinstance(self.server, IPv4Address):
            self.frame(Side.SERVERS, arp.probe(SERVER, self.server, self.tag))
        else:
            group = ndp.group_of(self.server)
            message = ndp.build(ndp.Neighbour(ndp.SOLICITATION, ndp.NOBODY, group, self.server, None))
            self.frame(Side.SERVERS, ethernet.build(Frame(b"\x33\x33" + group.packed[-4:], SERVER, 0x86DD, message)))

    def traffic(self, mac: bytes = SERVER) -> None:
        """Any packet of the server's."""
        self.frame(Side.SERVERS, ethernet.build(Frame(COPIER, mac, 0x0800, bytes(40), self.tag)))

    # What Locum said

    def answers(self) -> list[tuple[bytes, Address]]:
        """Whom the copiers' side was told that the server's MAC address has its address, in order."""
        found: list[tuple[bytes, Address]] = []
        for side, frame in self.sent:
            if side is Side.COPIERS:
                assert frame.source == SERVER
                assert frame.tag == self.tag
                if frame.kind == ethernet.ARP:
                    reply = arp.parse(frame.payload)
                    assert (reply.operation, reply.sender_mac, reply.sender) == (arp.REPLY, SERVER, self.server)
                    assert reply.target_mac == frame.target
                    found.append((frame.target, reply.target))
                else:
                    message = ndp.parse(frame.payload)
                    assert (message.kind, message.wanted, message.mac) == (ndp.ADVERTISEMENT, self.server, SERVER)
                    assert (message.source, message.flags) == (self.server, ndp.SOLICITED)
                    found.append((frame.target, message.target))
        return found

    def probes(self) -> list[Frame]:
        return [frame for side, frame in self.sent if side is Side.SERVERS]

    # A way to each stage

    def known(self) -> None:
        """The copier has asked, the server has answered."""
        self.ask()
        self.answer()
        self.pass_time(1)

    def gone(self) -> None:
        """The server's machine is gone, and Locum answers for it."""
        self.known()
        self.contact(Signal.CONTACT_FAILED)
        self.pass_time(SILENCE + 2 * TICK)
        assert self.stage is Stage.ANSWERING


@pytest.fixture(params=[4, 6])
def line(request: pytest.FixtureRequest) -> Line:
    return Line(request.param)


# When it answers


def test_nothing_is_sent_while_the_server_is_there(line: Line) -> None:
    line.known()
    for _ in range(20):
        line.ask()
        line.pass_time(1)
    assert line.sent == []


def test_the_server_is_probed_when_grace_begins_and_answered_for_when_it_stayed_silent(line: Line) -> None:
    line.known()
    line.contact(Signal.CONTACT_FAILED)
    assert line.link.state is State.GRACE
    line.pass_time(SILENCE)
    assert len(line.probes()) == PROBES
    line.ask()
    assert line.answers() == []
    line.pass_time(3 * TICK)
    assert line.answers() == [(COPIER, line.copier)]
    assert len(line.probes()) == PROBES


def test_a_probe_names_no_machine_of_locum(line: Line) -> None:
    line.gone()
    for frame in line.probes():
        assert frame.source == COPIER
        if line.version == 4:
            probe = arp.parse(frame.payload)
            assert (probe.sender, probe.sender_mac, probe.target) == (arp.NOBODY, COPIER, line.server)
        else:
            message = ndp.parse(frame.payload)
            assert (message.source, message.mac, message.wanted) == (line.copier, COPIER, line.server)


def test_a_question_during_the_probes_is_answered_after_them(line: Line) -> None:
    line.known()
    line.contact(Signal.CONTACT_FAILED)
    line.pass_time(0.5)
    line.ask()
    line.pass_time(0.4)
    assert line.answers() == []
    line.pass_time(SILENCE - 0.9 + 2 * TICK)
    assert line.answers() == [(COPIER, line.copier)]


def test_it_answers_offline_as_in_grace(line: Line) -> None:
    line.gone()
    line.contact(Signal.DELAY_PASSED)
    assert line.link.state is State.OFFLINE
    line.pass_time(60)
    line.ask()
    line.ask(SECOND, line.copier + 4)
    line.pass_time(2 * TICK)
    assert line.answers() == [(COPIER, line.copier), (SECOND, line.copier + 4)]


def test_a_question_is_left_to_the_server_first(line: Line) -> None:
    line.gone()
    line.ask()
    line.answer()
    line.pass_time(5)
    assert line.answers() == []
    assert line.stage is Stage.LISTENING


def test_each_question_is_answered_once(line: Line) -> None:
    line.gone()
    line.ask()
    line.ask()
    line.pass_time(1)
    line.ask()
    line.pass_time(1)
    assert len(line.answers()) == 2


def test_nothing_is_answered_while_no_mac_address_is_known(line: Line) -> None:
    line.ask()
    line.contact(Signal.CONTACT_FAILED)
    for _ in range(5):
        line.ask()
        line.pass_time(1)
    assert line.sent == []


def test_without_a_copier_that_asked_nothing_is_sent_at_all(line: Line) -> None:
    line.answer()
    line.contact(Signal.CONTACT_FAILED)
    line.pass_time(20)
    assert line.sent == []
    line.ask()
    line.pass_time(SILENCE + 3 * TICK)
    assert len(line.probes()) == PROBES
    assert line.answers() == [(COPIER, line.copier)]


# Until when


def end_by_traffic(line: Line) -> None:
    line.traffic()


def end_by_answer(line: Line) -> None:
    line.answer()


def end_by_own_probe(line: Line) -> None:
    line.own_probe()


def end_by_own_question(line: Line) -> None:
    line.frame(Side.SERVERS, line.question(SERVER, line.server, line.copier))


def end_by_another(line: Line) -> None:
    line.answer(OTHER)


SIGNS = [end_by_traffic, end_by_answer, end_by_own_probe, end_by_own_question, end_by_another]


@pytest.mark.parametrize("sign", SIGNS)
def test_it_stops_at_the_servers_first_frame(line: Line, sign: Callable[[Line], None]) -> None:
    line.gone()
    line.ask()
    sign(line)
    assert line.stage is Stage.LISTENING
    line.pass_time(5)
    assert line.answers() == []


@pytest.mark.parametrize("sign", SIGNS)
def test_the_server_is_heard_during_the_probes(line: Line, sign: Callable[[Line], None]) -> None:
    line.known()
    line.contact(Signal.CONTACT_FAILED)
    line.pass_time(0.5)
    before = len(line.probes())
    assert before
    sign(line)
    line.pass_time(5)
    assert len(line.probes()) == before
    assert line.stage is Stage.LISTENING


def test_a_server_whose_service_alone_is_down_is_never_answered_for(line: Line) -> None:
    line.known()
    line.contact(Signal.CONTACT_FAILED)
    for _ in range(30):
        line.ask()
        line.answer()
        line.pass_time(1)
    assert line.answers() == []


def test_a_server_that_goes_again_is_probed_again_once_a_question_stays_unanswered(line: Line) -> None:
    line.gone()
    line.traffic()
    line.pass_time(30)
    assert len(line.probes()) == PROBES
    line.ask()
    line.pass_time(SILENCE + 4 * TICK)
    assert len(line.probes()) == 2 * PROBES
    assert line.answers() == [(COPIER, line.copier)]


@pytest.mark.parametrize("steady", [Signal.CONTACT_STEADY])
def test_it_is_quiet_as_soon_as_the_upstream_is_back(line: Line, steady: Signal) -> None:
    line.gone()
    line.ask()
    line.contact(steady)
    assert line.link.state is State.RECOVERING
    line.pass_time(5)
    line.ask()
    line.pass_time(5)
    assert line.answers() == []
    assert line.stage is Stage.RESTING


def test_a_server_that_is_starting_is_not_disturbed_by_probes() -> None:
    """RFC 5227 section 2.1.1: it would take them for another's claim to its address."""
    line = Line()
    line.gone()
    line.own_probe()
    before = len(line.probes())
    began = line.now
    while line.now < began + CLAIMING - 2 * TICK:
        line.ask()
        line.pass_time(TICK)
    assert len(line.probes()) == before
    line.pass_time(4 * TICK)
    assert len(line.probes()) == before + 1


# For whom


@pytest.mark.parametrize(
    "asker",
    [
        lambda line: (OTHER, line.copier + 200 if line.version == 4 else IPv6Address("fd00:a::1")),
        lambda line: (OTHER, arp.NOBODY if line.version == 4 else IPv6Address("fe80::9")),
        lambda line: (ethernet.BROADCAST, line.copier),
        lambda line: (SERVER, line.copier),
    ],
    ids=["no client", "nobody's probe, or an unknown neighbour", "a group", "the server's own machine"],
)
def test_others_are_not_answered(line: Line, asker: Callable[[Line], tuple[bytes, Address]]) -> None:
    line.gone()
    mac, address = asker(line)
    line.frame(Side.COPIERS, line.question(mac, address, line.server))
    line.pass_time(3)
    assert line.answers() == []


def test_a_listener_for_everybody_does_not_answer_a_probe() -> None:
    """A station that is taking an address asks as nobody; an answer would tell it that the address is taken."""
    line = Line()
    line.run(line.flow.configure([Guarded(line.link, str(line.server), (ip_network("0.0.0.0/0"),))]))
    line.gone()
    line.frame(Side.COPIERS, arp.probe(OTHER, IPv4Address("10.9.0.2"), None))
    line.pass_time(3)
    assert line.answers() == []


def test_questions_on_the_servers_side_are_not_answered(line: Line) -> None:
    line.gone()
    line.ask(side=Side.SERVERS)
    line.pass_time(3)
    assert line.answers() == []


def test_questions_about_other_addresses_are_not_answered(line: Line) -> None:
    line.gone()
    line.frame(Side.COPIERS, line.question(COPIER, line.copier, line.server + 1))
    line.pass_time(3)
    assert line.answers() == []


def test_a_copier_is_known_by_its_mac_address_when_it_asks_from_a_link_local_one() -> None:
    line = Line(6)
    line.gone()
    local = IPv6Address("fe80::1")
    line.ask(COPIER, local)
    line.pass_time(1)
    assert line.answers() == [(COPIER, local)]


def test_only_the_clients_of_an_upstream_that_is_away_are_answered(line: Line) -> None:
    """Two servers on one machine: a listener whose upstream is online leaves its clients alone."""
    other = Link("books", 2.0, Clock("boot", 0), proven=True, began=at(line.now))
    library = line.copier + 200 if line.version == 4 else IPv6Address("fd00:b::1")
    elsewhere = (ip_network(f"{library}/{library.max_prefixlen}"),)
    both = [Guarded(line.link, str(line.server), NETWORKS), Guarded(other, str(line.server), elsewhere)]
    line.run(line.flow.configure(both))
    line.gone()
    line.ask(SECOND, library)
    line.ask()
    line.pass_time(1)
    assert line.answers() == [(COPIER, line.copier)]


def test_in_a_drill_nothing_is_probed_or_answered(house: House) -> None:
    with_drill(house)
    assert house.site.state_of("copier-1", house.upstream) is State.OFFLINE
    line = Line()
    line.run(line.flow.configure([Guarded(house.upstream.link, str(line.server), NETWORKS)]))
    line.known()
    for _ in range(10):
        line.ask()
        line.pass_time(1)
    assert line.sent == []


# VLANs


def test_answers_and_probes_have_the_tag_of_the_question(line: Line) -> None:
    line.tag = 0x600A
    line.gone()
    line.ask()
    line.pass_time(1)
    assert {frame.tag for _, frame in line.sent} == {0x600A}
    assert len(line.answers()) == 1


def test_a_question_in_another_vlan_is_not_answered(line: Line) -> None:
    line.tag = 10
    line.gone()
    line.tag = 11
    line.ask()
    line.tag = None
    line.ask()
    line.pass_time(3)
    assert [side for side, _ in line.sent if side is Side.COPIERS] == []


def test_a_tag_that_gives_a_priority_only_is_no_vlan(line: Line) -> None:
    line.gone()
    line.tag = 0xE000
    line.ask()
    line.pass_time(1)
    assert line.answers() == [(COPIER, line.copier)]


# The MAC address


def test_a_restart_knows_the_mac_address(line: Line) -> None:
    line.known()
    macs = {line.server: SERVER, line.copier: COPIER}
    assert line.memory == {f"neighbour:{address}": f"{mac_text(mac)}/0" for address, mac in macs.items()}
    line.contact(Signal.CONTACT_FAILED)
    line.start()
    line.pass_time(5)
    assert line.sent == []
    line.ask()
    line.pass_time(SILENCE + 3 * TICK)
    assert line.answers() == [(COPIER, line.copier)]


def test_the_same_mac_address_is_written_down_once(line: Line) -> None:
    line.known()
    line.memory.clear()
    line.known()
    assert line.memory == {}


def test_the_mac_address_is_not_learned_on_the_copiers_side(line: Line) -> None:
    line.answer(OTHER, Side.COPIERS)
    assert line.memory == {}


@pytest.mark.parametrize("mac", [ethernet.BROADCAST, ethernet.NO_MAC, b"\x01\0\x5e\0\0\1"])
def test_what_is_no_machines_mac_address_is_not_learned(line: Line, mac: bytes) -> None:
    line.answer(mac)
    assert line.memory == {}


@pytest.mark.parametrize("side", Side)
def test_another_mac_address_is_an_alarm_once(line: Line, side: Side) -> None:
    line.known()
    for _ in range(5):
        line.answer(OTHER, side)
        line.pass_time(1)
    (tell,) = line.told
    assert (tell.level, tell.alarm) == ("warning", "server")
    assert tell.text == f"hq: another machine says that it has the server's address {line.server}; look who it is"
    assert tell.context == {
        "upstream": "hq", "address": str(line.server), "mac": "02:00:00:00:00:02", "other": "02:00:00:00:00:09"
    }  # fmt: skip


def test_another_mac_address_that_stays_is_learned(line: Line) -> None:
    line.known()
    line.answer(OTHER)
    line.pass_time(PERSISTS - 1)
    line.answer(OTHER)
    assert line.memory[f"neighbour:{line.server}"] == f"{mac_text(SERVER)}/0"
    line.pass_time(1)
    line.answer(OTHER)
    assert line.memory[f"neighbour:{line.server}"] == f"{mac_text(OTHER)}/0"
    assert [tell.alarm for tell in line.told] == ["server", ""]


def test_of_two_machines_that_both_have_the_address_the_first_stays(line: Line) -> None:
    line.known()
    for _ in range(30):
        line.answer(OTHER)
        line.pass_time(1)
        line.answer()
        line.pass_time(1)
    assert line.memory[f"neighbour:{line.server}"] == f"{mac_text(SERVER)}/0"


def test_another_mac_address_on_the_copiers_side_is_never_learned(line: Line) -> None:
    line.known()
    for _ in range(30):
        line.answer(OTHER, Side.COPIERS)
        line.pass_time(1)
    assert line.memory[f"neighbour:{line.server}"] == f"{mac_text(SERVER)}/0"


def test_while_locum_answers_another_mac_address_is_not_learned(line: Line) -> None:
    line.gone()
    line.answer(OTHER)
    for _ in range(5):
        line.ask()
        line.pass_time(PERSISTS)
        assert line.stage is Stage.ANSWERING
        line.answer(OTHER)
    assert line.memory[f"neighbour:{line.server}"] == f"{mac_text(SERVER)}/0"


def test_the_alarms_have_an_end_however_many_there_are(line: Line) -> None:
    line.known()
    for number in range(200):
        line.answer(bytes((2, 0, 0, 0, 1, number)))
    assert len(line.told) == 8


# What is told, watched and counted


def test_beginning_and_end_are_told_but_not_of_each_blink(line: Line) -> None:
    line.gone()
    line.traffic()
    assert [tell.level for tell in line.told] == ["warning", "info"]
    for _ in range(10):
        line.ask()
        line.pass_time(2)
        line.traffic()
    assert len(line.told) == 2
    line.pass_time(TELL_EVERY)
    line.ask()
    line.pass_time(2)
    assert len(line.told) == 3


def test_frames_of_the_servers_machine_are_watched_only_while_it_is_unknown_or_doubted(line: Line) -> None:
    about = frozenset({line.server.packed})
    unknown = WatchFrames(Side.SERVERS, about, senders=about)
    assert line.watched == {Side.COPIERS: WatchFrames(Side.COPIERS, about), Side.SERVERS: unknown}
    line.known()
    partners = frozenset({SERVER})
    assert line.watched[Side.SERVERS] == WatchFrames(Side.SERVERS, about, partners=partners)
    line.contact(Signal.CONTACT_FAILED)
    line.pass_time(TICK)
    assert line.watched[Side.SERVERS] == WatchFrames(Side.SERVERS, about, frozenset({SERVER}), partners=partners)
    line.pass_time(5)
    assert line.watched[Side.SERVERS].stations == frozenset({SERVER})
    line.traffic()
    assert line.watched[Side.SERVERS].stations == frozenset()
    assert line.watched[Side.COPIERS].stations == frozenset()


def test_a_reload_keeps_what_is_known_of_addresses_that_stay(line: Line) -> None:
    line.gone()
    other = "10.9.0.7" if line.version == 4 else "fd00:9::7"
    line.run(line.flow.configure([Guarded(line.link, each, NETWORKS) for each in (str(line.server), other)]))
    assert {each.stage for each in line.flow.presences()} == {Stage.ANSWERING, Stage.RESTING}
    assert line.watched[Side.COPIERS].addresses == {line.server.packed, ip_address(other).packed}
    line.ask()
    line.pass_time(1)
    assert line.answers() == [(COPIER, line.copier)]
    line.run(line.flow.configure([]))
    line.ask()
    line.pass_time(3)
    assert len(line.answers()) == 1
    assert line.watched == {side: WatchFrames(side, frozenset()) for side in Side}


def test_both_addresses_of_a_machine_are_heard_by_a_frame_of_either() -> None:
    line = Line(4)
    six = ADDRESSES[6]
    line.run(line.flow.configure([Guarded(line.link, str(each), NETWORKS) for each in (line.server, six[1])]))
    line.known()
    line.frame(Side.COPIERS, ndp.solicitation(COPIER, IPv6Address("fd00:9::1"), IPv6Address("fd00:9::2"), None))
    line.frame(
        Side.SERVERS,
        ndp.advertisement(SERVER, IPv6Address("fd00:9::2"), COPIER, IPv6Address("fd00:9::1"), None),
    )
    line.contact(Signal.CONTACT_FAILED)
    line.pass_time(SILENCE + 2 * TICK)
    assert {each.stage for each in line.flow.presences()} == {Stage.ANSWERING}
    line.answer()
    assert {each.stage for each in line.flow.presences()} == {Stage.LISTENING}


def test_frames_that_cannot_be_read_are_counted(line: Line) -> None:
    line.frame(Side.COPIERS, bytes(9))
    line.frame(Side.COPIERS, bytes(12) + b"\x08\x06" + bytes(28))
    assert line.flow.malformed == {"frame-length": 1, "arp-kind": 1}


def test_the_table_has_every_pair() -> None:
    assert TABLE.keys() == {(stage, sign) for stage in Stage for sign in Sign}
    for stage in Stage:
        assert TABLE[stage, Sign.BACK] is Stage.RESTING
        assert TABLE[stage, Sign.HEARD] in (Stage.RESTING, Stage.LISTENING)
    answering = {pair for pair, to in TABLE.items() if to is Stage.ANSWERING and pair[0] is not Stage.ANSWERING}
    assert answering == {(Stage.PROBING, Sign.SILENT)}
