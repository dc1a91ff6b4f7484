"""Kept connections: which call takes which, what queues, what is sent again and what never is."""

from __future__ import annotations

import pytest

from protocols.papercut.calls import Value, encode_call
from proxy.commands import Close, Command, Connect, Send
from proxy.dialects.papercut.calls import Call, Ended, Kind, Lost
from proxy.dialects.papercut.pool import DISTRUST_FOR, IDLE_FOR, Pool, Target
from proxy.events import Channel, Closed, Connected, Event, Moment, Received

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 110\r\n\r\n" + (
    b"<?xml version='1.0'?><methodResponse><params><param><value>ok</value></param></params></methodResponse>".ljust(
        110
    )
)


class Bench:
    """A pool with a limit, and what came of it."""

    def __init__(self, limit: int = 3) -> None:
        self.now = 100.0
        self.ended: list[tuple[Call, Ended]] = []
        self.pool = Pool(self, "hq", Target("h", 9191, "/rpc/api/xmlrpc", None, 3.0), limit, self._ended)
        self.out: list[Command] = []

    def handle(self, event: Event) -> list[Command]:
        return []

    def _ended(self, address: str, call: Call, how: Ended, at: Moment) -> list[Command]:
        self.ended.append((call, how))
        return []

    def at(self) -> Moment:
        return Moment(self.now, 0, bytes(32))

    def call(self, kind: Kind = Kind.RECORD, *, once: bool = False) -> Call:
        call = Call(kind, encode_call("api.x"), lambda how, at: [], 3.0, once=once)
        self.do(self.pool.submit(call, "a", self.at()))
        return call

    def do(self, commands: list[Command]) -> None:
        self.out += commands

    def connects(self) -> list[Channel]:
        return [command.channel for command in self.out if isinstance(command, Connect)]

    def sends(self) -> list[Channel]:
        return [command.channel for command in self.out if isinstance(command, Send)]

    def open(self, channel: Channel) -> None:
        self.do(self.pool.connected(Connected(channel, ("", 0, ""), self.at())))

    def answer(self, channel: Channel) -> None:
        self.do(self.pool.received(Received(channel, ("", 0, ""), OK, self.at())))

    def end(self, channel: Channel, refused: bool = False) -> None:
        self.do(self.pool.closed(Closed(channel, "closed", self.at(), refused)))

    def kept(self) -> Channel:
        """One open, idle connection."""
        self.call()
        (channel,) = self.connects()
        self.open(channel)
        self.answer(channel)
        self.out.clear()
        self.ended.clear()
        return channel


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_nothing_is_sent_before_the_connection_is_open(bench: Bench) -> None:
    bench.call(once=True)
    assert bench.sends() == []
    (channel,) = bench.connects()
    bench.open(channel)
    assert bench.sends() == [channel]


def test_an_idle_connection_is_used_again(bench: Bench) -> None:
    channel = bench.kept()
    bench.call()
    assert bench.sends() == [channel]
    assert bench.connects() == []


@pytest.mark.parametrize(("idle", "again"), [(1.9, True), (2.1, False)])
def test_a_call_that_may_be_sent_only_once_takes_no_connection_that_was_idle_for_long(
    bench: Bench, idle: float, again: bool
) -> None:
    channel = bench.kept()
    bench.now += idle
    bench.call(once=True)
    assert (bench.sends() == [channel]) is again
    assert (len(bench.connects()) == 1) is not again


def test_a_kept_connection_closed_under_a_call_is_replaced_once(bench: Bench) -> None:
    channel = bench.kept()
    call = bench.call()
    bench.end(channel, refused=True)
    (new,) = bench.connects()
    assert bench.ended == []
    bench.open(new)
    bench.end(new)
    assert [(each, isinstance(how, Lost)) for each, how in bench.ended] == [(call, True)]


def test_a_call_that_may_be_sent_only_once_is_lost_with_its_connection(bench: Bench) -> None:
    channel = bench.kept()
    bench.call(once=True)
    bench.end(channel)
    assert bench.connects() == []
    ((_, how),) = bench.ended
    assert isinstance(how, Lost)
    assert how.written


def test_a_connection_that_never_opened_says_that_nothing_was_written(bench: Bench) -> None:
    bench.call(once=True)
    bench.end(bench.connects()[0], refused=True)
    ((_, how),) = bench.ended
    assert how == Lost("closed", written=False, refused=True, opened=False)


def test_past_the_limit_calls_queue_and_logins_go_first(bench: Bench) -> None:
    for _ in range(3):
        bench.call()
    record, login = bench.call(), bench.call(Kind.LOGIN)
    assert len(bench.connects()) == 3
    channel = bench.connects()[0]
    bench.open(channel)
    bench.answer(channel)
    assert next(iter(bench.pool.under_way("a"))) is login
    bench.answer(channel)
    assert next(iter(bench.pool.under_way("a"))) is record


def test_a_call_that_is_not_answered_in_time_takes_its_connection_with_it(bench: Bench) -> None:
    bench.call()
    (channel,) = bench.connects()
    bench.open(channel)
    bench.now += 3.1
    bench.do(bench.pool.tick(bench.at()))
    assert Close(channel, abort=True) in bench.out
    bench.answer(channel)
    assert len(bench.ended) == 1


def test_a_connection_that_nobody_needs_is_closed(bench: Bench) -> None:
    channel = bench.kept()
    bench.now += IDLE_FOR + 1
    bench.do(bench.pool.tick(bench.at()))
    assert bench.out == [Close(channel)]
    assert len(bench.pool) == 0


def test_a_call_can_be_taken_back_until_it_is_written(bench: Bench) -> None:
    call = bench.call(once=True)
    assert bench.pool.cancel(call)
    (channel,) = bench.connects()
    bench.open(channel)
    assert bench.sends() == []
    other = bench.call(once=True)
    assert bench.sends() == [channel]
    assert not bench.pool.cancel(other)


def test_octets_that_nobody_asked_for_close_the_connection(bench: Bench) -> None:
    channel = bench.kept()
    bench.answer(channel)
    assert bench.out == [Close(channel)]


def test_of_an_address_that_is_left_only_what_may_be_sent_once_stays(bench: Bench) -> None:
    job, look_up = bench.call(once=True), bench.call()
    for channel in bench.connects():
        bench.open(channel)
    bench.out.clear()
    bench.do(bench.pool.leave("a", bench.at(), "b"))
    assert [command.address for command in bench.out if isinstance(command, Connect)] == ["b"]
    assert list(bench.pool.under_way("a")) == [job]
    assert list(bench.pool.under_way("b")) == [look_up]
    bench.answer(("hq", "a", 1))
    assert [(call, how) for call, how in bench.ended] == [(job, Value("ok"))]
    assert len(bench.pool) == 1


def test_after_a_kept_connection_took_a_call_with_it_such_calls_get_new_ones_for_ten_minutes(bench: Bench) -> None:
    channel = bench.kept()
    bench.call(once=True)
    bench.end(channel)
    bench.kept()
    bench.call(once=True)
    (new,) = bench.connects()
    bench.open(new)
    bench.answer(new)
    assert Close(new) in bench.out, "it is kept for nobody"
    bench.out.clear()
    bench.call()
    assert bench.connects() == [], "what may be sent again uses the kept one"
    bench.now += DISTRUST_FOR
    again = bench.kept()
    bench.call(once=True)
    assert bench.sends() == [again]


def test_a_new_connection_that_breaks_says_nothing_about_kept_ones(bench: Bench) -> None:
    bench.call(once=True)
    (channel,) = bench.connects()
    bench.open(channel)
    bench.end(channel)
    bench.out.clear()
    kept = bench.kept()
    bench.call(once=True)
    assert bench.sends() == [kept]


def test_where_answers_are_doubted_the_kept_connections_go(bench: Bench) -> None:
    channel = bench.kept()
    call = Call(Kind.RECORD, encode_call("api.x"), lambda how, at: [], 3.0, fresh=True)
    bench.do(bench.pool.submit(call, "a", bench.at()))
    assert Close(channel) in bench.out
    assert len(bench.connects()) == 1
