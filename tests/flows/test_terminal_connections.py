"""Connections of terminals: HELLO first, the checks in their order, who is connected, silence, pins.

The rules are those of the dialect's document, "Rules"; each test is named for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocols.terminal.frames import ErrorCode, encode_frame
from protocols.terminal.messages import (
    Error,
    Hello,
    JobAck,
    Login,
    LoginResult,
    Logout,
    LogoutAck,
    Ping,
    Pong,
    Query,
    RecordAck,
    RecordMessage,
    Welcome,
    encode,
)
from proxy.dialects.terminal.connection import MOST_UNANSWERED
from proxy.dialects.terminal.listener import HELLO_WITHIN, MOST_CONNECTIONS
from proxy.events import Connected
from proxy.link import State
from tests.flows.terminal_house import CARD, LISTENER, Make, houses, job

STATES = [State.ONLINE, State.GRACE, State.OFFLINE, State.RECOVERING]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with houses(tmp_path) as make:
        yield make


# HELLO


def test_hello_gets_welcome_with_the_name_the_heartbeat_the_time_and_the_state(make: Make) -> None:
    house = make()
    assert house.connect().hello() == Welcome("locum-1", 30, house.wall, 0)


@pytest.mark.parametrize(
    ("state", "shown"), [(State.ONLINE, 0), (State.GRACE, 3), (State.OFFLINE, 1), (State.RECOVERING, 0)]
)
def test_welcome_and_pong_say_how_the_upstream_stands(make: Make, state: State, shown: int) -> None:
    house = make(state)
    device = house.connect()
    welcome: Any = device.hello()
    assert (welcome.state, device.ping()) == (shown, shown)


def test_a_locked_device_is_told_so_and_an_unlocked_one_too(make: Make) -> None:
    house = make(State.OFFLINE, policy={"asks_code": True})
    device = house.device()
    assert device.ping() == 2
    house.run(house.site.unlocking.unlock_by_hand("copier-1", "hq", "once", "root", house.moment()))
    assert device.ping() == 1
    device.login()
    assert device.ping() == 1, "the session that the single use let in goes on"


def test_a_device_without_offline_mode_is_told_that_the_server_is_unavailable(make: Make) -> None:
    house = make(State.OFFLINE, policy={"enabled": False})
    assert house.device().ping() == 3


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("message", [Login(1, CARD, ""), Ping(), Logout(7), Query(1, 7, ""), job(7)])
def test_any_other_message_before_hello_gets_error_6_and_is_closed(make: Make, state: State, message: Any) -> None:
    house = make(state)
    device = house.connect()
    answer: Any = device.tell(message)
    assert (answer.code, device.closed) == (ErrorCode.HELLO, True)
    assert house.count("SELECT count(*) FROM jobs") == (state is State.RECOVERING)
    assert house.tally.counts["hello-expected"] == 1


def test_an_unknown_type_before_hello_is_refused_for_the_missing_hello(make: Make) -> None:
    device = make().connect()
    device.send(encode_frame(0x3E, 5, b""))
    answer: Any = device.answer(5)
    assert (answer.code, device.closed) == (ErrorCode.HELLO, True)


def test_a_second_hello_on_one_connection_gets_welcome_again_under_the_same_name_only(make: Make) -> None:
    house = make()
    device = house.device()
    assert isinstance(device.hello(), Welcome)
    assert not device.closed
    answer: Any = device.tell(Hello("copier-2", "", "", 0))
    assert (answer.code, device.closed) == (ErrorCode.HELLO, True)


def test_a_second_hello_on_another_connection_wins_and_the_older_is_closed_with_a_warning(make: Make) -> None:
    house = make()
    older = house.device()
    session = older.login().session
    house.told.clear()
    newer = house.device()
    assert (older.closed, newer.closed) == (True, False)
    assert [tell.level for tell in house.told] == ["warning"]
    assert newer.tell(job(session)) == JobAck(90001, 0)
    assert house.rows("SELECT mode FROM jobs") == [("online",)], "the session goes on"
    assert list(house.upstream.lines) == ["copier-1"]


def test_the_devices_hello_is_repeated_on_its_line_and_the_line_ends_with_it(make: Make) -> None:
    house = make()
    device = house.device()
    assert [hello.type for hello in house.upstream.hellos] == [1]
    device.leave()
    assert house.upstream.lines == {}


def test_a_hello_without_a_name_is_malformed(make: Make) -> None:
    device = make().connect()
    answer: Any = device.tell(Hello("", "", "", 0))
    assert (answer.code, device.closed) == (ErrorCode.MALFORMED, True)


# Pins


def test_a_device_pinned_to_another_address_is_refused_and_counted(make: Make) -> None:
    house = make(pins={"copier-1": "10.7.0.31"})
    rightful = house.device(host=31)
    impostor = house.connect(host=66)
    answer: Any = impostor.hello()
    assert (answer.code, impostor.closed, rightful.closed) == (ErrorCode.HELLO, True, False)
    assert house.tally.counts["pinned-elsewhere"] == 1


def test_a_device_pinned_to_a_certificate_must_show_it(make: Make) -> None:
    house = make(certificates={"copier-1": "aa" * 32})
    for shown in ("", "bb" * 32):
        answer: Any = house.connect(certificate=shown).hello()
        assert answer.code == ErrorCode.HELLO
    assert isinstance(house.connect(certificate="aa" * 32).hello(), Welcome)


def test_an_unpinned_unknown_device_is_flagged_when_it_is_first_seen_and_once(make: Make) -> None:
    house = make(pins={"copier-2": "10.7.0.31"})
    for name in ("copier-1", "copier-1", "copier-2"):
        house.device(name).leave()
    flagged = [tell.context["device"] for tell in house.told if tell.level == "info"]
    assert flagged == ["copier-1"]
    assert house.rows("SELECT device FROM devices ORDER BY 1") == [("copier-1",), ("copier-2",)]


# Frames


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"XX\x01\x06\x00\x00\x00\x0c\x00\x00\x1f\xd9\x08\x6f", ErrorCode.MAGIC),
        (b"CT\x02\x06\x00\x00\x00\x0c\x00\x00\x91\x56\x0f\x8c", ErrorCode.VERSION),
        (b"CT\x01\x06\x00\x00\x00\x0c\x00\x00\x1f\xd9\x08\x6e", ErrorCode.CHECKSUM),
        (b"CT\x01\x06\x00\x00\x00\x0c\x10\x01", ErrorCode.MALFORMED),
    ],
)
@pytest.mark.parametrize("chunk", [0, 1, 3])
def test_a_stream_that_lost_its_framing_gets_an_error_without_sequence_and_the_rest_stays_unread(
    make: Make, data: bytes, code: ErrorCode, chunk: int
) -> None:
    house = make(State.OFFLINE)
    device = house.device(chunk=chunk)
    assert device.tell(job(0, 1)) == JobAck(1, 0)
    device.send(data + encode(job(0, 2), 3))
    assert [type(message) for _, message in device.said] == [Welcome, JobAck, Error]
    sequence, error = device.said[-1]
    assert isinstance(error, Error)
    assert (sequence, error.code, device.closed) == (0, code, True)
    assert house.count("SELECT count(*) FROM jobs") == 1


def test_a_malformed_payload_gets_error_5_with_its_sequence_and_is_closed(make: Make) -> None:
    house = make()
    device = house.device()
    device.send(encode_frame(5, 14, bytes(9)) + encode(Ping(), 15))
    answer: Any = device.answer(14)
    assert (answer.code, device.closed, device.answers(15)) == (ErrorCode.MALFORMED, True, [])


def test_a_request_with_sequence_0_is_malformed(make: Make) -> None:
    device = make().device()
    device.send(encode(Ping(), 0))
    answer: Any = device.answer(0)
    assert (answer.code, device.closed) == (ErrorCode.MALFORMED, True)


@pytest.mark.parametrize("kind", [0x3E, 0x7F, 0x81, 0x84, 0x00])
def test_an_unknown_type_or_a_replys_gets_error_4_and_the_connection_stays(make: Make, kind: int) -> None:
    device = make().device()
    device.send(encode_frame(kind, 13, b""))
    answer: Any = device.answer(13)
    assert (answer.code, device.closed, device.ping()) == (ErrorCode.UNKNOWN_TYPE, False, 0)


def test_an_error_from_a_device_is_counted_and_not_answered(make: Make) -> None:
    house = make()
    device = house.device()
    device.send(encode(Error(4, "what?"), 9))
    assert device.answers(9) == []
    assert (house.tally.counts["error-from-device"], device.ping()) == (1, 0)


def test_record_is_refused_to_a_device(make: Make) -> None:
    house = make()
    identifier = bytes(range(16))
    answer = house.device().tell(RecordMessage(identifier, "copier-2", CARD, "", house.wall, job(7)))
    assert answer == RecordAck(identifier, 90001, 2, "")
    assert house.count("SELECT count(*) FROM records") == 0


@pytest.mark.parametrize("chunk", [1, 2, 7, 0])
def test_the_same_answers_however_the_stream_is_cut(make: Make, chunk: int) -> None:
    house = make(State.OFFLINE)
    device = house.device(chunk=chunk)
    device.send(encode(Login(1, CARD, ""), 2) + encode(job(0), 3) + encode(Ping(), 4) + encode(Logout(0), 5))
    kinds = [type(message) for _, message in sorted(device.said, key=lambda said: said[0])]
    assert kinds == [Welcome, LoginResult, JobAck, Pong, LogoutAck]


def test_a_reply_repeats_its_requests_sequence_whatever_the_order(make: Make) -> None:
    house = make()
    device = house.device()
    house.upstream.silent = True
    first, second = device.ask(Login(1, CARD, ""), 0xFFFFFFFF), device.ask(Ping(), 77)
    login, ping = house.upstream.under_way
    house.say(ping, Pong(0))
    house.say(login, LoginResult(1, 0, "", "no", 0, 0))
    assert [sequence for sequence, _ in device.said] == [1, second, first]


# Silence


@pytest.mark.parametrize("state", STATES)
def test_three_heartbeats_of_silence_are_a_logout_and_later_jobs_are_stored_all_the_same(
    make: Make, state: State
) -> None:
    house = make(state)
    device = house.device()
    session = house.site.sessions
    if state is not State.GRACE:
        device.login()
        assert session.on("copier-1") is not None
    mark = session.on("copier-1")
    house.pass_time(89)
    before = device.closed
    house.pass_time(2)
    assert (before, device.closed) == (False, True)
    assert session.on("copier-1") is None
    if mark is not None:
        assert house.rows("SELECT cause FROM logouts WHERE session = ?", mark.session) == [("silence",)]
        again = house.device()
        assert again.tell(job(int(mark.session, 16))) == JobAck(90001, 0)
        assert house.rows("SELECT p.card FROM jobs j JOIN personal p USING (seq) WHERE session = ?", mark.session) == [
            (CARD,)
        ]


def test_a_heartbeat_keeps_a_device_logged_in(make: Make) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    device.login()
    for _ in range(4):
        house.pass_time(60)
        device.ping()
    assert not device.closed
    assert house.site.sessions.on("copier-1") is not None


def test_a_device_that_is_cut_off_for_a_moment_stays_logged_in_and_one_that_never_comes_back_does_not(
    make: Make,
) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    device.login()
    device.leave()
    house.pass_time(60)
    device = house.device()
    assert house.site.sessions.on("copier-1") is not None
    device.leave()
    house.pass_time(92)
    assert house.rows("SELECT cause FROM logouts") == [("silence",)]


def test_a_device_that_does_not_come_back_after_a_restart_is_logged_out(make: Make) -> None:
    house = make(State.OFFLINE)
    gone, back = house.device("copier-1"), house.device("copier-2")
    gone.login()
    back.login()
    house.restart()
    house.pass_time(60)
    back = house.device("copier-2")
    house.pass_time(32)
    assert house.rows("SELECT device, cause FROM logouts") == [("copier-1", "silence")]
    assert back.ping() == 0


def test_a_device_that_another_listener_hears_is_not_silent(make: Make) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    device.login()
    device.leave()
    for _ in range(4):
        house.pass_time(30)
        house.run(house.site.heard("copier-1", "10.7.0.31", "terminal", "hq", house.moment()))
    assert house.count("SELECT count(*) FROM logouts") == 0


def test_a_connection_that_never_says_hello_is_closed(make: Make) -> None:
    house = make()
    device = house.connect()
    house.pass_time(HELLO_WITHIN + 2)
    assert (device.closed, house.tally.counts["no-hello"]) == (True, 1)


# Bounds


def test_a_connection_has_at_most_256_requests_unanswered_and_the_others_are_put_off(make: Make) -> None:
    house = make()
    device = house.device()
    house.upstream.silent = True
    for _ in range(MOST_UNANSWERED):
        device.ask(Login(1, CARD, ""))
    assert len(device.said) == 1
    assert device.tell(job(0)) == JobAck(90001, 3)
    assert device.login().status == 4
    assert device.tell(Query(2, 7, "")).status == 2
    assert isinstance(device.tell(Ping()), Pong)
    assert len(device.answers(device.ask(Logout(7)))) == 1
    assert house.tally.counts["too-many-requests"] == 3
    house.pass_time(2)
    house.upstream.silent = False
    assert device.login().status == 0


def test_more_connections_than_8192_are_turned_away(make: Make) -> None:
    house = make()
    for number in range(MOST_CONNECTIONS):
        house.run(house.listener.handle(Connected((*LISTENER, "x", number), ("10.7.0.1", 1, ""), house.moment())))
    device = house.connect()
    assert (device.closed, house.tally.counts["too-many-connections"]) == (True, 1)


# The rest


def test_a_listener_that_is_dropped_lets_its_devices_and_lines_go(make: Make) -> None:
    house = make()
    device = house.device()
    assert house.listener.connected == 1
    house.run(house.listener.stop(house.moment()))
    assert (device.closed, house.upstream.lines, house.upstream.subscribers) == (True, {}, [])


def test_a_reload_gives_another_name_and_heartbeat_to_whoever_comes_next(make: Make) -> None:
    house = make()
    house.listener.configure(name="locum-2", heartbeat=10)
    welcome: Any = house.connect().hello()
    assert (welcome.server_name, welcome.heartbeat) == ("locum-2", 10)
