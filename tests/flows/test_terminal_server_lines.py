"""A terminal server as upstream: a line for every device, what is relayed on it, and what becomes of jobs there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from protocols.terminal.frames import Type
from protocols.terminal.messages import (
    NO_BALANCE,
    Error,
    Hello,
    JobAck,
    LoginResult,
    Logout,
    LogoutAck,
    RecordMessage,
    Welcome,
    encode,
)
from proxy.handover import UNKEPT, item_of
from proxy.link import State
from storage.answers import Stored
from tests.flows.terminal_server_house import HERE, ServerHouse

Make = Callable[..., ServerHouse]


@pytest.fixture(params=[0, 1, 7], ids=["whole", "octets", "sevens"])
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Make]:
    with ExitStack() as stack:

        def made(**how: Any) -> ServerHouse:
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            house = ServerHouse(folder, chunk=request.param, **how)
            stack.callback(house.close)
            house.pass_time(1)
            return house

        yield made


@pytest.fixture
def house(make: Make) -> ServerHouse:
    """A Locum that is online, with one device."""
    house = make()
    house.line()
    house.pass_time(0.5)
    return house


def granted(user: str) -> LoginResult:
    return LoginResult(0, 7, user, "", NO_BALANCE, 31)


def test_each_device_has_a_line_that_begins_with_its_own_hello(house: ServerHouse) -> None:
    house.line("mfp-2")
    assert house.of("mfp-1") is not house.of("mfp-2")
    assert house.got(Type.HELLO, "mfp-2")[0].message == Hello("mfp-2", "X", "1.0", 3)


def test_requests_wait_for_welcome(house: ServerHouse) -> None:
    house.silent = {Type.HELLO}
    house.line("mfp-2")
    house.login("t", device="mfp-2")
    house.pass_time(0.5)
    assert house.got(Type.LOGIN) == []
    (hello,) = house.got(Type.HELLO, "mfp-2")
    house.reply(hello, Welcome("server", 30, 0, 0))
    hello.connection.greeted = True
    assert len(house.got(Type.LOGIN, "mfp-2")) == 1
    assert house.listener.reply_to("t") is not None


def test_a_request_that_waited_for_answer_timeout_is_told_once(house: ServerHouse) -> None:
    house.silent = {Type.HELLO}
    house.line("mfp-2")
    house.login("t", device="mfp-2")
    house.pass_time(0.9)
    assert house.listener.lost("t") == 0
    house.pass_time(5)
    assert house.listener.lost("t") == 1
    assert house.state is State.ONLINE


def test_replies_find_their_requests_in_any_order(house: ServerHouse) -> None:
    house.silent = {Type.LOGIN}
    for number in (1, 2, 3):
        house.login(number, sequence=100 + number)
    for asked in reversed(house.got(Type.LOGIN)):
        house.reply(asked, granted(f"user-{asked.frame.sequence}"))
    assert [house.listener.reply_to(n) for n in (1, 2, 3)] == [granted(f"user-10{n}") for n in (1, 2, 3)]
    assert {reply.sequence for _, _, reply in house.listener.replies} == {101, 102, 103}


def test_a_late_answer_never_answers_a_later_request_of_the_same_sequence(house: ServerHouse) -> None:
    house.silent = {Type.LOGIN}
    house.login("first", sequence=1)
    house.pass_time(1.2)
    house.login("second", sequence=1)
    first, second = house.got(Type.LOGIN)
    house.reply(first, granted("of the first"))
    assert house.listener.reply_to("first") == granted("of the first")
    assert house.listener.reply_to("second") is None
    house.reply(second, granted("of the second"))
    assert house.listener.reply_to("second") == granted("of the second")
    assert {reply.sequence for _, _, reply in house.listener.replies} == {1}


def test_an_error_is_a_reply_too(house: ServerHouse) -> None:
    house.answer = lambda asked: encode(Error(4, "?"), asked.frame.sequence) if asked.frame.type == 2 else None
    house.login("t")
    assert house.listener.reply_to("t") == Error(4, "?")


def test_a_lost_line_is_told_once_and_opened_again(house: ServerHouse) -> None:
    house.silent = {Type.LOGIN}
    house.login("t")
    house.end(house.of("mfp-1").channel)
    house.pass_time(2)
    assert house.listener.lost("t") == 1
    house.silent = set()
    house.login("u")
    assert house.listener.reply_to("u") is not None
    assert house.state is State.ONLINE


def test_the_pauses_before_a_line_is_opened_again_grow_to_half_a_minute(house: ServerHouse) -> None:
    house.answer = lambda asked: (
        encode(Error(6, "no"), asked.frame.sequence) if asked.connection.device == "x" else None
    )
    house.line("x")
    house.pass_time(300)
    times = [asked.at for asked in house.got(Type.HELLO, "x")]
    pauses = [after - before for before, after in pairwise(times)]
    assert 0.5 <= pauses[0] < 0.9
    assert all(30 <= pause <= 46 for pause in pauses[7:])
    assert house.state is State.ONLINE


def test_a_line_ends_with_its_device(house: ServerHouse) -> None:
    house.relay(Logout(7), "bye")
    house.run(house.upstream.close_line("mfp-1", house.moment()))
    house.pass_time(40)
    assert house.listener.reply_to("bye") == LogoutAck(7)
    assert [c.device for c in house.connections.values() if c.device == "mfp-1"] == []
    house.login("t")
    house.pass_time(3)
    assert house.listener.lost("t") == 0


def test_a_second_hello_of_a_device_begins_a_new_line(house: ServerHouse) -> None:
    before = house.of("mfp-1").channel
    house.line()
    assert house.of("mfp-1").channel != before
    assert house.upstream.details()["lines"] == 1


def test_a_half_open_line_is_noticed_and_replaced(house: ServerHouse) -> None:
    dead = house.of("mfp-1")
    house.answer = lambda asked: b"" if asked.connection is dead else None
    house.login("t")
    house.pass_time(3)
    assert house.listener.lost("t") == 1
    house.login("u")
    assert house.listener.reply_to("u") is not None
    assert house.state is State.ONLINE


def test_an_unanswered_request_alone_costs_no_line(house: ServerHouse) -> None:
    house.silent = {Type.LOGIN}
    house.login("t")
    house.pass_time(20)
    (asked,) = house.got(Type.LOGIN)
    house.reply(asked, granted("late"))
    assert house.listener.reply_to("t") == granted("late")


def test_a_late_answer_comes_after_an_outage_too(house: ServerHouse) -> None:
    house.go()
    house.login("t")
    house.until(State.OFFLINE)
    house.come_back()
    assert house.listener.reply_to("t") == granted("anna")


def test_lines_come_back_with_the_server(house: ServerHouse) -> None:
    house.line("mfp-2")
    house.go(reset=True)
    house.until(State.OFFLINE)
    house.pass_time(30)
    hellos = len(house.got(Type.HELLO, "mfp-1"))
    house.come_back()
    house.until(State.ONLINE, 8)
    house.pass_time(1)
    assert house.of("mfp-1").greeted
    assert house.of("mfp-2").greeted
    assert len(house.got(Type.HELLO, "mfp-1")) == hellos + 1


def test_lines_that_outlived_an_outage_in_name_only_are_replaced(house: ServerHouse) -> None:
    dead = house.of("mfp-1")
    house.go()
    house.pass_time(20)
    house.answer = lambda asked: b"" if asked.connection is dead else None
    house.come_back()
    house.until(State.ONLINE, 8)
    house.pass_time(3)
    assert house.of("mfp-1") is not dead


def test_a_request_in_grace_or_offline_opens_the_line(make: Make) -> None:
    house = make(delay=30.0)
    house.go(reset=True)
    house.line()
    house.until(State.GRACE)
    house.pass_time(5)
    house.come_back()
    house.login("t")
    house.pass_time(0.6)
    assert house.state is State.GRACE
    assert house.listener.reply_to("t") is not None


def test_a_request_in_grace_that_cannot_be_tried_is_told_once(house: ServerHouse) -> None:
    house.go(reset=True)
    house.until(State.GRACE)
    house.login("t")
    house.pass_time(5)
    assert house.listener.lost("t") == 1


def test_what_waits_for_a_line_is_bounded(house: ServerHouse) -> None:
    house.silent = {Type.HELLO}
    house.line("mfp-2")
    for number in range(1000):
        house.login(number, device="mfp-2", sequence=number + 1)
    house.pass_time(0.2)
    assert len(house.listener.unrelayed) == 1000 - 256


def test_what_is_under_way_on_a_line_is_bounded(house: ServerHouse) -> None:
    house.silent = {Type.LOGIN}
    for number in range(1500):
        house.login(number, sequence=number + 1)
    house.pass_time(0.2)
    assert len(house.listener.unrelayed) == 1500 - 1024
    assert len(house.got(Type.LOGIN)) == 1024


# Jobs


@pytest.mark.parametrize("status", [0, 1])
def test_a_job_that_the_server_has_is_delivered(house: ServerHouse, status: int) -> None:
    house.record_status[1] = status
    job = house.job(1)
    assert house.listener.reply_to(job) == JobAck(1, status)
    assert house.outcomes(1) == ["delivered"]
    assert house.waiting() == 0
    assert house.got(Type.RECORD) == []


def test_a_job_that_the_server_refuses_is_set_aside_with_its_words(house: ServerHouse) -> None:
    house.record_status[1] = 2
    house.job(1)
    assert house.outcomes(1) == ["refused"]
    assert house.rows("SELECT state FROM outbox") == [("rejected",)]


def test_a_job_that_the_server_cannot_read_is_set_aside(house: ServerHouse) -> None:
    house.answer = lambda asked: encode(Error(5, "bad"), asked.frame.sequence) if asked.frame.type == Type.JOB else None
    house.job(1)
    assert house.rows("SELECT state, reason FROM outbox") == [("rejected", "the server answered ERROR 5: bad")]


def test_a_job_that_the_server_cannot_store_now_goes_as_record_after_a_pause(house: ServerHouse) -> None:
    house.record_status[1] = 3
    house.job(1)
    assert house.outcomes(1) == ["unanswered"]
    house.record_status.clear()
    house.pass_time(3)
    assert house.waiting() == 1
    house.pass_time(5)
    assert house.outcomes(1) == ["unanswered", "delivered"]
    assert len(house.got(Type.JOB)) == 1
    assert len(house.got(Type.RECORD)) == 1


def test_an_unanswered_job_goes_as_record_after_five_seconds_and_a_pause(house: ServerHouse) -> None:
    house.silent = {Type.JOB}
    house.job(1)
    house.pass_time(4.5)
    assert house.outcomes(1) == []
    house.pass_time(1)
    assert house.outcomes(1) == ["unanswered"]
    house.pass_time(8)
    assert house.outcomes(1) == ["unanswered", "delivered"]
    assert house.book == {("mfp-1", 1): 1}
    assert house.state is State.ONLINE


def test_a_late_answer_to_a_job_settles_it_before_it_goes_again(house: ServerHouse) -> None:
    house.silent = {Type.JOB}
    job = house.job(1)
    house.pass_time(6)
    (asked,) = house.got(Type.JOB)
    house.reply(asked, JobAck(1, 0))
    house.pass_time(20)
    assert house.outcomes(1) == ["unanswered", "delivered"]
    assert house.listener.reply_to(job) == JobAck(1, 0)
    assert house.got(Type.RECORD) == []


def test_a_job_on_a_lost_line_goes_as_record_at_once(house: ServerHouse) -> None:
    house.silent = {Type.JOB}
    job = house.job(1)
    house.end(house.of("mfp-1").channel)
    house.pass_time(2)
    assert house.listener.lost(job) == 1
    assert house.outcomes(1) == ["unanswered", "delivered"]
    assert isinstance(house.got(Type.RECORD)[0].message, RecordMessage)


def test_a_job_without_an_open_line_goes_as_record_at_once(house: ServerHouse) -> None:
    house.silent = {Type.HELLO}
    house.line("mfp-2")
    house.silent = set()
    job = house.job(1, device="mfp-2")
    house.pass_time(1)
    assert house.listener.lost(job) == 1
    assert house.outcomes(1) == ["unsent", "delivered"]


def test_a_job_of_a_device_that_leaves_goes_as_record(house: ServerHouse) -> None:
    house.silent = {Type.JOB}
    house.job(1)
    house.run(house.upstream.close_line("mfp-1", house.moment()))
    house.pass_time(1)
    assert house.outcomes(1) == ["unanswered", "delivered"]


def test_a_job_in_flight_when_contact_is_lost_waits_and_is_named(house: ServerHouse) -> None:
    house.go()
    house.job(1)
    house.until(State.OFFLINE)
    assert house.outcomes(1) == ["unanswered"]
    house.come_back()
    house.until(State.ONLINE)
    assert house.outcomes(1)[-1] == "delivered"
    assert house.waiting() == 0


def test_an_answer_about_another_job_settles_nothing(house: ServerHouse) -> None:
    house.answer = lambda asked: encode(JobAck(99, 0), asked.frame.sequence) if asked.frame.type == Type.JOB else None
    house.job(1)
    assert house.outcomes(1) == ["unanswered"]
    assert house.waiting() == 1


def test_a_job_that_is_not_stored_here_is_relayed_and_leaves_no_trace(house: ServerHouse) -> None:
    kept = house.job(1)
    item = item_of(kept.record, Stored(UNKEPT, ""))
    house.run(house.upstream.relay_job("mfp-1", kept.frame, item, "unkept", house.moment()))
    assert house.listener.reply_to("unkept") == JobAck(1, 1)
    assert house.outcomes(1) == ["delivered"]
    house.silent = {Type.JOB}
    house.run(house.upstream.relay_job("mfp-1", kept.frame, item, "silent", house.moment()))
    house.end(house.of("mfp-1").channel)
    house.pass_time(1)
    assert house.listener.lost("silent") == 1
    assert house.outcomes(1) == ["delivered"]


def test_a_refused_line_does_not_reach_the_state(house: ServerHouse) -> None:
    house.end(house.of("mfp-1").channel)
    house.refusing = {HERE}
    house.pass_time(1)
    house.refusing = set()
    house.pass_time(3)
    assert house.state is State.ONLINE
