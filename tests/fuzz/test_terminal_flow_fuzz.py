"""Any bytes and any messages from terminals, in any state: nothing is raised, every request gets at most one reply,
and nothing is acknowledged that is not kept.

The house is the one of tests/flows: the real flow and a real ledger on a fake clock.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.terminal.frames import encode_frame
from protocols.terminal.messages import (
    Error,
    Hello,
    Job,
    JobAck,
    Login,
    LoginResult,
    Logout,
    Message,
    Ping,
    Pong,
    Query,
    Unlock,
    encode,
)
from proxy.link import Signal, State
from tests.flows.terminal_house import CARD, TerminalHouse, houses

SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
NUMBERS = st.one_of(st.integers(0, 3), st.integers(0, (1 << 64) - 1))
SMALL = st.integers(0, 5)
TEXTS = st.one_of(st.sampled_from(["", CARD, "copier-1", "\0", "é" * 100]), st.text(max_size=20))
COUNTS = st.one_of(st.integers(0, 9), st.integers(0, (1 << 32) - 1))

messages = st.one_of(
    st.builds(Hello, st.sampled_from(["copier-1", "copier-2", "", "\0"]), TEXTS, TEXTS, st.just(15)),
    st.builds(Login, SMALL, TEXTS, TEXTS),
    st.builds(Unlock, SMALL, TEXTS),
    st.builds(
        Job, NUMBERS, NUMBERS, SMALL, NUMBERS, NUMBERS, COUNTS, COUNTS, COUNTS, SMALL, SMALL, TEXTS, TEXTS, TEXTS
    ),
    st.builds(Logout, NUMBERS),
    st.just(Ping()),
    st.builds(Query, SMALL, NUMBERS, TEXTS),
    st.builds(Error, SMALL, TEXTS),
)
replies = st.one_of(
    st.builds(LoginResult, SMALL, NUMBERS, TEXTS, TEXTS, st.integers(-5, 5), SMALL),
    st.builds(JobAck, NUMBERS, SMALL),
    st.builds(Pong, SMALL),
    st.builds(Error, SMALL, TEXTS),
)


@contextmanager
def house_in(state: State, server: str = "terminal") -> Iterator[TerminalHouse]:
    with tempfile.TemporaryDirectory() as folder, houses(Path(folder)) as make:
        yield make(state, server=server)


def grants(messages: Iterable[Message]) -> int:
    return sum(isinstance(message, LoginResult) and message.status == 0 for message in messages)


def granted_by_locum(house: TerminalHouse) -> int:
    [(count,)] = house.rows("SELECT count(*) FROM logins WHERE decided_by = 'locum' AND outcome = 'granted'")
    return int(count)


def ends_well(house: TerminalHouse) -> None:
    """After all that, Locum still serves."""
    house.upstream.silent = False
    device = house.device("after")
    assert device.login().status in (0, 4)
    assert device.ping() in (0, 1, 3)


@pytest.mark.parametrize("state", list(State))
def test_any_bytes_raise_nothing_and_what_is_not_read_is_counted(state: State) -> None:
    with house_in(state) as house:

        @SETTINGS
        @given(data=st.binary(max_size=300), kind=st.integers(0, 255), hello=st.booleans(), framed=st.booleans())
        def handles(data: bytes, kind: int, hello: bool, framed: bool) -> None:
            device = house.device() if hello else house.connect()
            before = sum(house.tally.counts.values())
            said = len(device.said)
            device.send(encode_frame(kind, 9, data) if framed else data)
            house.pass_time(0.1)
            counted = sum(house.tally.counts.values()) > before
            assert counted or len(device.said) > said or device.decoder.held == 0
            device.leave()

        handles()
        ends_well(house)


@pytest.mark.parametrize("server", ["terminal", "papercut"])
@pytest.mark.parametrize("state", list(State))
def test_any_requests_get_one_reply_each_and_jobs_are_kept_before_that(state: State, server: str) -> None:
    with house_in(state, server) as house:

        @SETTINGS
        @given(asked=st.lists(messages, max_size=8), silent=st.booleans(), chunk=st.sampled_from([0, 1, 5]))
        def handles(asked: list[Message], silent: bool, chunk: int) -> None:
            house.upstream.silent = silent
            device = house.device(chunk=chunk)
            for number, message in enumerate(asked, 10):
                device.send(encode(message, number))
            house.pass_time(1.2)
            counts = Counter(sequence for sequence, _ in device.said)
            assert all(count == 1 for count in counts.values())
            expected = {number for number, message in enumerate(asked, 10) if not isinstance(message, Error)}
            assert device.closed or expected <= counts.keys()
            stored = {
                message.job for _, message in device.said if isinstance(message, JobAck) and message.status in (0, 1)
            }
            kept = {int(number) for (number,) in house.rows("SELECT job_number FROM jobs WHERE device = 'copier-1'")}
            assert stored <= kept
            device.leave()

        handles()
        ends_well(house)


@pytest.mark.parametrize("state", list(State))
def test_without_a_disk_nothing_is_granted_by_locum_or_stored(state: State) -> None:
    with house_in(state) as house:
        house.upstream.silent = house.disk_dead = True

        @SETTINGS
        @given(asked=st.lists(messages, max_size=8))
        def handles(asked: list[Message]) -> None:
            device = house.device()
            for number, message in enumerate(asked, 10):
                device.send(encode(message, number))
            house.pass_time(1.2)
            for _, message in device.said:
                assert not (isinstance(message, LoginResult) and message.status == 0)
                assert not (isinstance(message, JobAck) and message.status in (0, 1))
            device.leave()

        handles()


@pytest.mark.parametrize("state", list(State))
def test_any_replies_of_the_server_raise_nothing_and_reach_the_device_at_most_once(state: State) -> None:
    with house_in(state) as house:

        @SETTINGS
        @given(
            asked=st.lists(messages, max_size=6), said=st.lists(replies, min_size=6, max_size=6), twice=st.booleans()
        )
        def handles(asked: list[Message], said: list[Message], twice: bool) -> None:
            house.upstream.silent = True
            house.upstream.under_way.clear()
            before, granted_before = house.state, granted_by_locum(house)
            device = house.device()
            for number, message in enumerate(asked, 10):
                device.send(encode(message, number))
            for under_way, reply in zip(list(house.upstream.under_way), said, strict=False):
                for _ in range(1 + twice):
                    if under_way.device in house.upstream.lines:
                        house.say(under_way, reply)
                under_way.item = None
            house.pass_time(1.2)
            assert all(count == 1 for count in Counter(sequence for sequence, _ in device.said).values())
            granted = granted_by_locum(house) - granted_before
            # A server that does not answer makes an outage of its own once the examples' time adds up.
            assert not granted or State.OFFLINE in (before, house.state)
            assert grants(message for _, message in device.said) <= granted + grants(said)
            device.leave()

        handles()
        ends_well(house)


steps = st.one_of(
    st.tuples(st.just("ask"), messages),
    st.tuples(st.just("ask"), messages),
    st.tuples(st.just("signal"), st.sampled_from([Signal.CONTACT_FAILED, Signal.CONTACT_STEADY])),
    st.tuples(st.just("time"), st.sampled_from([1, 10, 40])),
    st.tuples(st.just("silent"), st.booleans()),
    st.tuples(st.just("holding"), st.booleans()),
    st.tuples(st.just("reply"), replies),
    st.tuples(st.just("lost"), st.none()),
    st.tuples(st.just("again"), st.none()),
    st.tuples(st.just("drill"), st.booleans()),
)


@pytest.mark.parametrize("server", ["terminal", "papercut"])
def test_whatever_happens_between_each_request_is_replied_to_once_and_each_job_is_in_one_place(server: str) -> None:
    with house_in(State.ONLINE, server) as house:

        @SETTINGS
        @given(script=st.lists(steps, max_size=25))
        def handles(script: list[tuple[str, Any]]) -> None:
            device = house.device()
            expected: set[int] = set()
            for number, (step, what) in enumerate(script, 10):
                if device.closed:
                    device, expected = house.device(), set()
                match step:
                    case "ask":
                        device.send(encode(what, number))
                        expected |= set() if isinstance(what, Error) else {number}
                    case "signal":
                        house.signal(what)
                    case "time":
                        house.pass_time(what / 16)
                    case "silent":
                        house.upstream.silent = what
                    case "holding":
                        house.holding = what
                        house.sync()
                    case "reply" if house.upstream.under_way:
                        under_way = house.upstream.under_way.pop()
                        if under_way.device in house.upstream.lines:
                            house.say(under_way, what)
                    case "lost" if "copier-1" in house.upstream.lines:
                        house.run(house.upstream.lose_line("copier-1", house.moment()))
                    case "again":
                        device, expected = house.device(), set()
                    case "drill":
                        drills = house.site.drills
                        begin = drills.start("copier-1", 60, "fuzz", "", house.moment())
                        house.run(begin if what else drills.stop("copier-1", "fuzz", "", house.moment()))
            house.holding = False
            while house.held:
                house.sync()
            house.pass_time(1.2)
            counts = Counter(sequence for sequence, _ in device.said if sequence >= 10)
            assert all(count == 1 for count in counts.values())
            assert device.closed or expected <= counts.keys()
            assert all(each.unanswered == 0 for each in house.listener._connections.values())
            device.leave()
            house.run(house.site.drills.stop("copier-1", "fuzz", "", house.moment()))
            house.upstream.silent = False
            house.run(house.upstream.cut("the end", house.moment()))
            house.move(State.ONLINE)
            left = house.rows("SELECT seq, state, tries, next_try FROM outbox")
            assert left == [], left

        handles()
        ends_well(house)
