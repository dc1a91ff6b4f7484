"""Traps kept, event in, command out: acknowledged when they are kept and never before, forwarded in order, bounded."""

from __future__ import annotations

import pytest

from protocols.snmp import messages, usm
from protocols.snmp.messages import Message, Pdu, Varbind
from proxy.commands import Command, Keep, Send
from proxy.events import Kept, Moment, NotKept, Received, Refused, Ticked
from proxy.snmp import oids, traps
from proxy.snmp.settings import TrapSettings
from proxy.snmp.traps import TrapStore
from proxy.tally import Tally
from storage.answers import Stored
from storage.records import Trap, TrapForwarded

BACK = ("snmp", "traps", "server")
UNNOTICED = 16.0


class Bench:
    """A store, its clock, its server's state and its ledger."""

    def __init__(self, **settings: object) -> None:
        self.now, self.there, self.seq = 1000.0, True, 0
        self.tally = Tally()
        wanted = TrapSettings("10.0.0.5", **settings)  # type: ignore[arg-type]
        self.store = TrapStore(wanted, lambda: self.there, self.tally, lambda address: "OLD-1", UNNOTICED)

    @property
    def at(self) -> Moment:
        return Moment(self.now, 1_700_000_000_000 + int(self.now * 1000), bytes(32))

    def come(self, number: int, pdu: Pdu = Pdu.TRAP, community: bytes = b"old", port: int = 5000) -> list[Command]:
        return self.raw(encoded(number, pdu, community), port)

    def raw(self, data: bytes, port: int = 5000) -> list[Command]:
        return self.store.handle(Received(self.store.front, ("10.7.0.31", port, ""), data, self.at))

    def keep(self, commands: list[Command]) -> list[Command]:
        """What the driver does when the commit has succeeded."""
        found: list[Command] = []
        for each in commands:
            if isinstance(each, Keep) and each.token is not None:
                self.seq += 1
                found += each.then
                found += self.store.handle(Kept(each.token, Stored(self.seq, "id"), self.at))
        return found

    def comes_and_is_kept(self, number: int, pdu: Pdu = Pdu.TRAP) -> list[Command]:
        return self.keep(self.come(number, pdu))

    def tick(self, seconds: float) -> list[Command]:
        self.now += seconds
        return self.store.handle(Ticked(self.at))


def encoded(number: int, pdu: Pdu = Pdu.TRAP, community: bytes = b"old") -> bytes:
    return messages.encode(
        Message(messages.V2C, community, pdu, number, 0, 0, (Varbind(oids.SYS_UPTIME, "timeticks", number),))
    )


def forwarded(commands: list[Command]) -> list[bytes]:
    return [each.data for each in commands if isinstance(each, Send) and each.channel == BACK]


def outcomes(commands: list[Command]) -> list[tuple[int, str]]:
    kept = [each.change for each in commands if isinstance(each, Keep)]
    return [(each.seq, each.outcome) for each in kept if isinstance(each, TrapForwarded)]


def test_an_inform_is_acknowledged_by_the_commit_alone() -> None:
    bench = Bench()
    (keep,) = bench.come(7, Pdu.INFORM)
    assert isinstance(keep, Keep)
    assert keep.change == Trap(bench.at.wall, "OLD-1", "10.7.0.31", "2c", "inform", encoded(7, Pdu.INFORM))
    assert keep.then == (Send(bench.store.front, encoded(7, Pdu.RESPONSE), ("10.7.0.31", 5000, "")),)


def test_what_could_not_be_kept_is_never_acknowledged_and_may_come_again() -> None:
    bench = Bench()
    (keep,) = bench.come(7, Pdu.INFORM)
    assert isinstance(keep, Keep)
    assert bench.come(7, Pdu.INFORM) == [], "it is being kept"
    assert bench.store.handle(NotKept(keep.token, "disk full", bench.at)) == []
    assert bench.store.waiting == 0
    assert len(bench.come(7, Pdu.INFORM)) == 1


def test_a_trap_that_cannot_be_kept_reaches_the_server_that_is_there() -> None:
    bench = Bench()
    (keep,) = bench.come(7)
    assert isinstance(keep, Keep)
    assert forwarded(bench.store.handle(NotKept(keep.token, "disk full", bench.at))) == [encoded(7)]
    assert bench.tally.counts["trap-not-kept"] == 1


def test_an_inform_that_comes_again_is_acknowledged_again_and_kept_once() -> None:
    bench = Bench()
    bench.comes_and_is_kept(7, Pdu.INFORM)
    assert bench.come(7, Pdu.INFORM) == [Send(bench.store.front, encoded(7, Pdu.RESPONSE), ("10.7.0.31", 5000, ""))]
    assert isinstance(bench.come(7, Pdu.INFORM, port=6000)[0], Keep), "another port is another sender"


def test_while_the_server_is_there_a_trap_goes_on_as_it_came() -> None:
    bench = Bench()
    assert forwarded(bench.comes_and_is_kept(1)) == [encoded(1)]
    assert outcomes(bench.tick(UNNOTICED - 0.1)) == [], "the server may be away already"
    assert outcomes(bench.tick(0.2)) == [(1, "sent")]


def test_what_was_sent_before_an_outage_was_noticed_is_sent_again_in_order_behind_a_mark() -> None:
    bench = Bench()
    bench.comes_and_is_kept(1)
    bench.tick(UNNOTICED)
    bench.comes_and_is_kept(2)
    bench.comes_and_is_kept(3, Pdu.INFORM)
    for _ in range(traps.TRIES):
        bench.tick(traps.ANSWER_WITHIN)
    bench.there = False
    assert outcomes(bench.tick(0)) == []
    assert bench.store.waiting == 2
    bench.comes_and_is_kept(4)
    bench.there = True
    again = forwarded(bench.tick(0))
    assert again[1::2] == [encoded(2), encoded(3, Pdu.INFORM)]
    assert messages.decode(again[0]).pdu is Pdu.TRAP


def test_what_waited_goes_out_in_order_each_behind_its_mark() -> None:
    bench = Bench()
    bench.there = False
    arrived = bench.at.wall
    for number in (1, 2, 3):
        assert forwarded(bench.comes_and_is_kept(number)) == []
    bench.now += 3600
    bench.there = True
    sent = forwarded(bench.tick(0))
    assert sent[1::2] == [encoded(1), encoded(2), encoded(3)]
    mark = messages.decode(sent[0])
    said = {each.oid: each.value for each in mark.varbinds}
    assert (mark.community, mark.pdu, said[oids.SNMP_TRAP]) == (b"old", Pdu.TRAP, oids.TRAP_KEPT)
    assert (said[oids.KEPT_ENTRY], said[oids.KEPT_FROM]) == (1, b"10.7.0.31")
    assert said[oids.SNMP_TRAP_ADDRESS] == bytes((10, 7, 0, 31))
    assert said[oids.KEPT_ARRIVED] == traps.times.text(arrived).encode()


def test_what_comes_while_others_wait_stays_behind_them() -> None:
    bench = Bench()
    bench.there = False
    bench.comes_and_is_kept(1)
    bench.there = True
    assert [each for each in forwarded(bench.comes_and_is_kept(2)) if each in (encoded(1), encoded(2))] == [
        encoded(1), encoded(2),
    ]  # fmt: skip


def test_an_informs_answer_is_waited_for_before_the_next_goes_out() -> None:
    bench = Bench()
    assert forwarded(bench.comes_and_is_kept(1, Pdu.INFORM)) == [encoded(1, Pdu.INFORM)]
    assert forwarded(bench.comes_and_is_kept(2)) == []
    assert forwarded(bench.tick(traps.ANSWER_WITHIN)) == [encoded(1, Pdu.INFORM)], "asked again"
    wrong = bench.store.handle(Received(BACK, ("", 0, ""), encoded(9, Pdu.RESPONSE), bench.at))
    assert wrong == []
    found = bench.store.handle(Received(BACK, ("", 0, ""), encoded(1, Pdu.RESPONSE), bench.at))
    assert outcomes(found) == [(1, "acknowledged")]
    assert encoded(2) in forwarded(found)


def test_an_inform_that_nobody_answers_does_not_hold_up_the_rest_for_ever() -> None:
    bench = Bench()
    bench.comes_and_is_kept(1, Pdu.INFORM)
    bench.comes_and_is_kept(2)
    found: list[Command] = []
    for _ in range(traps.TRIES):
        found = bench.tick(traps.ANSWER_WITHIN)
    assert encoded(2) in forwarded(found)
    assert outcomes(bench.tick(UNNOTICED)) == [(1, "unanswered"), (2, "sent")]


def test_an_inform_of_which_nothing_was_heard_when_the_server_went_waits_for_its_return() -> None:
    bench = Bench()
    bench.comes_and_is_kept(1, Pdu.INFORM)
    bench.there = False
    assert bench.tick(traps.ANSWER_WITHIN) == []
    bench.there = True
    assert encoded(1, Pdu.INFORM) in forwarded(bench.tick(0))


def test_what_the_network_refused_is_sent_again_in_order() -> None:
    bench = Bench()
    bench.comes_and_is_kept(1)
    bench.comes_and_is_kept(2)
    assert bench.store.handle(Refused(BACK, "connection refused", bench.at)) == []
    assert forwarded(bench.comes_and_is_kept(3)) == []
    assert forwarded(bench.tick(traps.PAUSE))[1::2] == [encoded(1), encoded(2), encoded(3)]


def test_a_trap_of_snmpv3_is_kept_unread_and_forwarded_without_a_mark() -> None:
    bench = Bench()
    keys = usm.keys_of("sha256", b"maplesyrup", "aes128", b"maplesyrup", b"engine")
    secured = usm.Secured(7, 4096, 3, b"engine", 3, 4, b"ada", b"", bytes(8), usm.scoped(b"engine", b"", b"\xa7\x00"))
    data = usm.encode(secured, keys)
    bench.there = False
    (keep,) = bench.raw(data)
    assert isinstance(keep, Keep)
    assert keep.change == Trap(bench.at.wall, "OLD-1", "10.7.0.31", "3", "opaque", data)
    assert keep.then == ()
    bench.keep([keep])
    bench.there = True
    assert forwarded(bench.tick(0)) == [data]


@pytest.mark.parametrize("data", [b"", b"\x30\x03\x02\x01\x03", encoded(1, Pdu.GET), bytes(500), b"\xff" * 60_000])
def test_what_is_no_trap_is_counted_and_not_kept(data: bytes) -> None:
    bench = Bench()
    assert not any(isinstance(each, Keep) for each in bench.raw(data))
    assert sum(bench.tally.counts.values()) == 1


def test_other_communities_too_many_and_too_fast_are_refused_and_counted() -> None:
    bench = Bench(communities=(b"old",), most=3, rate=0.5)
    assert not any(isinstance(each, Keep) for each in bench.come(1, community=b"public"))
    assert bench.tally.counts["snmp-wrong-community"] == 1
    bench.there = False
    for number in range(5):
        bench.come(number)
    assert (bench.store.waiting, bench.tally.counts["trap-too-many"]) == (3, 2)
    fast = Bench(rate=0.5)
    fast.there = False
    for number in range(8):
        fast.come(number)
    assert (fast.store.waiting, fast.tally.counts["trap-too-fast"]) == (5, 3)
