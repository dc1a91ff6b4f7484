"""The SNMP proxy of a copier, event in, command out: what reaches the copier, and who is answered with what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.snmp import messages
from protocols.snmp.messages import Message, Pdu, Varbind
from proxy.commands import Close, Command, Open, Send
from proxy.events import Moment, Received, Refused, Ticked
from proxy.metering.agents import Agent
from proxy.snmp import copier
from proxy.snmp.copier import CopierProxy
from proxy.snmp.engine import Engine
from proxy.snmp.oids import AGE, SOURCE
from proxy.snmp.settings import Access, ProxySettings
from proxy.tally import Tally

PAGES, SERIAL = "1.3.6.1.2.1.43.10.2.1.4.1.1", "1.3.6.1.2.1.43.5.1.1.17.1"
BACK = ("snmp", "copier", "OLD-1")


class Bench:
    """A proxy, its clock, and the copier at its back."""

    def __init__(self, version: int = 2, **settings: object) -> None:
        self.now = 1000.0
        self.tally = Tally()
        agent = Agent("10.7.0.31", 161, version, b"old", timeout=1.0, retries=1)
        engine = Engine(b"\x80\x00\x1f\x88\x05bench", 1, self.at, Access(communities=(b"watch",)))
        wanted = replace(ProxySettings(), **settings)  # type: ignore[arg-type]
        self.proxy = CopierProxy("OLD-1", engine, agent, wanted, self.tally, self.at)
        (opened,) = self.proxy.way()
        assert isinstance(opened, Open)
        assert (opened.address, opened.port, opened.largest) == ("10.7.0.31", 161, 65_507)

    @property
    def at(self) -> Moment:
        return Moment(self.now, 1_700_000_000_000 + int(self.now * 1000), bytes(32))

    def ask(self, *oids: str, pdu: Pdu = Pdu.GET, port: int = 5000, index: int = 0, number: int = 77) -> list[Command]:
        asked = tuple(Varbind(oid, "null") for oid in oids)
        data = messages.encode(Message(messages.V2C, b"watch", pdu, number, 0, index, asked))
        return self.proxy.handle(Received(self.proxy.front, ("10.0.0.9", port, ""), data, self.at))

    def copier_says(self, asked: Message, *varbinds: Varbind, status: int = 0, index: int = 0) -> list[Command]:
        answer = replace(asked, pdu=Pdu.RESPONSE, status=status, index=index, varbinds=varbinds)
        return self.raw(messages.encode(answer))

    def raw(self, data: bytes) -> list[Command]:
        return self.proxy.handle(Received(BACK, ("", 0, ""), data, self.at))

    def tick(self, seconds: float) -> list[Command]:
        self.now += seconds
        return self.proxy.handle(Ticked(self.at))


def towards(commands: list[Command]) -> list[Message]:
    """What goes to the copier."""
    return [messages.decode(each.data) for each in commands if isinstance(each, Send) and each.channel == BACK]


def answers(commands: list[Command]) -> list[Message]:
    """What goes to who asked."""
    return [messages.decode(each.data) for each in commands if isinstance(each, Send) and each.channel != BACK]


def pages(value: int = 4711) -> Varbind:
    return Varbind(PAGES, "counter32", value)


def test_all_who_ask_the_same_wait_for_one_answer_and_each_gets_their_own_number() -> None:
    bench = Bench()
    (request,) = towards(bench.ask(PAGES, port=1, number=1))
    assert (request.community, request.version) == (b"old", messages.V2C)
    assert bench.ask(PAGES, port=2, number=2) == []
    assert bench.ask(PAGES, port=3, number=3) == []
    found = bench.copier_says(request, pages())
    assert [(each.request, each.community, each.varbinds) for each in answers(found)] == [
        (number, b"watch", (pages(),)) for number in (1, 2, 3)
    ]
    bench.now += 29
    assert [each.varbinds for each in answers(bench.ask(PAGES))] == [(pages(),)]
    bench.now += 2
    assert len(towards(bench.ask(PAGES))) == 1, "memory has become too old"


def test_never_more_than_one_request_is_under_way() -> None:
    bench = Bench()
    (first,) = towards(bench.ask(PAGES))
    assert bench.ask(SERIAL) == []
    then = bench.copier_says(first, pages())
    assert [each.varbinds[0].oid for each in towards(then)] == [SERIAL]


def test_objects_of_different_answers_are_put_together_and_their_age_is_that_of_the_oldest() -> None:
    bench = Bench()
    (first,) = towards(bench.ask(PAGES))
    bench.copier_says(first, pages())
    bench.now += 10
    (second,) = towards(bench.ask(SERIAL))
    bench.copier_says(second, Varbind(SERIAL, "octets", b"X1"))
    bench.now += 5
    (answer,) = answers(bench.ask(SERIAL, AGE, PAGES, SOURCE))
    assert answer.varbinds == (
        Varbind(SERIAL, "octets", b"X1"),
        Varbind(AGE, "timeticks", 1500),
        pages(),
        Varbind(SOURCE, "integer", copier.REMEMBERED),
    )


def test_a_silent_copiers_last_reading_is_given_with_its_age() -> None:
    bench = Bench()
    (first,) = towards(bench.ask(PAGES))
    bench.copier_says(first, pages())
    bench.now += 100
    assert len(towards(bench.ask(PAGES, AGE, SOURCE))) == 1
    assert len(towards(bench.tick(1.0))) == 1, "asked once more"
    (answer,) = answers(bench.tick(1.0))
    assert answer.varbinds == (
        pages(), Varbind(AGE, "timeticks", 10_200), Varbind(SOURCE, "integer", copier.SILENT),
    )  # fmt: skip
    assert bench.proxy.silent
    (at_once,) = answers(bench.ask(PAGES))
    assert at_once.varbinds == (pages(),), "nobody waits for a copier that is known to be silent"
    bench.now += copier.SILENT_FOR
    (again,) = towards(bench.ask(PAGES))
    bench.copier_says(again, pages(4712))
    assert not bench.proxy.silent


@pytest.mark.parametrize("how", [{"last": False}, {}])
def test_nothing_is_given_where_so_configured_or_nothing_is_known(how: dict[str, object]) -> None:
    bench = Bench(**how)
    if how:
        (first,) = towards(bench.ask(PAGES))
        bench.copier_says(first, pages())
        bench.now += 100
    bench.ask(PAGES)
    bench.tick(1.0)
    assert bench.tick(1.0) == []
    assert bench.proxy.figures.unanswered == 1


def test_a_refusal_of_the_network_ends_the_waiting_at_once() -> None:
    bench = Bench()
    bench.ask(PAGES)
    bench.ask(SERIAL)
    assert bench.proxy.handle(Refused(BACK, "connection refused", bench.at)) == []
    assert bench.proxy.silent
    assert len(towards(bench.ask(SERIAL))) == 1, "and the next is tried"


def test_writes_are_passed_on_only_where_allowed_and_never_twice() -> None:
    bench = Bench()
    (refusal,) = answers(bench.ask(PAGES, pdu=Pdu.SET))
    assert (refusal.status, refusal.index) == (17, 1)
    bench = Bench(writes=True)
    assert [each.pdu for each in towards(bench.ask(PAGES, pdu=Pdu.SET))] == [Pdu.SET]
    assert towards(bench.tick(1.0)) == []
    assert bench.proxy.figures.sent == 1


def test_getbulk_of_a_copier_of_snmpv1_is_a_getnext_and_noSuchName_is_passed_on() -> None:
    bench = Bench(version=1)
    (request,) = towards(bench.ask(PAGES, pdu=Pdu.GET_BULK, index=20))
    assert (request.pdu, request.status, request.index, request.version) == (Pdu.GET_NEXT, 0, 0, messages.V1)
    (answer,) = answers(bench.copier_says(request, Varbind(PAGES, "null"), status=2, index=1))
    assert (answer.status, answer.index) == (2, 1)


def test_after_a_reload_the_copier_is_asked_by_its_new_settings() -> None:
    bench = Bench()
    bench.ask(PAGES)
    closed, opened = bench.proxy.reconfigure(Agent("10.7.0.32", 161, 1, b"new"), bench.at)
    assert isinstance(closed, Close)
    assert isinstance(opened, Open)
    assert opened.address == "10.7.0.32"
    (request,) = towards(bench.ask(PAGES))
    assert (request.community, request.version) == (b"new", messages.V1)


def test_repetitions_are_bounded() -> None:
    (request,) = towards(Bench().ask(PAGES, pdu=Pdu.GET_BULK, index=1 << 30))
    assert request.index == copier.MOST_REPETITIONS


def test_answers_to_nothing_garbage_and_other_communities_are_counted_and_end_by_themselves() -> None:
    bench = Bench()
    bench.raw(b"late")
    assert bench.tally.counts["snmp-late"] == 1
    (request,) = towards(bench.ask(PAGES))
    bench.copier_says(replace(request, community=b"forged"), pages(1))
    assert bench.tally.counts["snmp-wrong-community"] == 1
    bench.copier_says(replace(request, request=request.request + 1), pages(1))
    assert bench.tally.counts["snmp-no-answer-to-this"] == 1
    for _ in range(copier.MOST_STRANGE):
        bench.raw(b"\x30\x00garbage")
    assert bench.proxy.silent
    assert bench.proxy.figures.unanswered == 1


def test_queue_waiters_and_memory_are_bounded() -> None:
    bench = Bench()
    for number in range(copier.MOST_QUEUED + 10):
        bench.ask(f"{PAGES}.{number}")
    assert bench.tally.counts["snmp-too-many"] == 9
    for port in range(copier.MOST_WAITING + 10):
        bench.ask(f"{PAGES}.0", port=port)
    assert bench.tally.counts["snmp-too-many"] == 9 + 11, "who asked first is one of them"
    bench.proxy.handle(Refused(BACK, "connection refused", bench.at))
    (first,) = towards(bench.ask(PAGES, *(f"{PAGES}.{number}" for number in range(copier.MOST_VARBINDS - 1))))
    bench.copier_says(first, *(Varbind(each.oid, "counter32", 1) for each in first.varbinds))
    (refusal,) = answers(bench.ask(*(f"{PAGES}.{number}" for number in range(copier.MOST_VARBINDS + 1))))
    assert refusal.status == 1
