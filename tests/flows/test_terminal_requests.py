"""UNLOCK, QUERY, LOGOUT and PING at terminals: each has its reply, offline too, and none is left hanging.

Rows of `offline-mode.md`: the table of states (an unlock), "Unlocking", and what is answered "not available offline".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocols.terminal.messages import (
    OFFLINE_SESSION_BIT,
    Error,
    Logout,
    LogoutAck,
    Ping,
    Pong,
    Query,
    QueryResult,
    UnlockResult,
    decode,
)
from proxy.asking import CardAnswer
from proxy.link import State
from tests.flows.terminal_house import CODE, Make, TerminalHouse, houses, unlock

UNLOCKED, WRONG, TOO_MANY, NOT_OFFLINE = range(4)
LOCKED: dict[str, Any] = {"asks_code": True}
AWAY = QueryResult(2, ())


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with houses(tmp_path) as make:
        yield make


def steps(house: TerminalHouse) -> list[tuple[Any, ...]]:
    return house.rows("SELECT outcome, scope FROM unlocks ORDER BY seq")


def relayed(house: TerminalHouse) -> list[Any]:
    return [decode(sent.frame) for sent in house.upstream.asked]


# UNLOCK


@pytest.mark.parametrize("state", [State.ONLINE, State.GRACE, State.RECOVERING])
def test_an_unlock_while_not_offline_is_answered_so_and_ledgered_and_its_code_goes_nowhere(
    make: Make, state: State
) -> None:
    house = make(state, policy=LOCKED)
    assert house.device().tell(unlock()) == UnlockResult(NOT_OFFLINE, 0)
    assert steps(house) == [("not-offline", "once")]
    assert relayed(house) == []


def test_a_device_without_offline_mode_cannot_be_unlocked(make: Make) -> None:
    house = make(State.OFFLINE, policy={**LOCKED, "enabled": False})
    assert house.device().tell(unlock()) == UnlockResult(NOT_OFFLINE, 0)


@pytest.mark.parametrize(("scope", "named"), [(1, "once"), (2, "until-restored")])
def test_the_right_code_unlocks_when_that_is_on_stable_storage(make: Make, scope: int, named: str) -> None:
    house = make(State.OFFLINE, policy=LOCKED)
    device = house.device()
    house.holding = True
    sequence = device.ask(unlock(scope=scope))
    house.pass_time(1)
    assert device.answers(sequence) == []
    house.sync()
    assert device.answer(sequence) == UnlockResult(UNLOCKED, 0)
    house.holding = False
    assert steps(house) == [("unlocked", named)]
    assert device.login().status == 0
    assert device.login().status == (0 if scope == 2 else 2)


def test_a_code_is_in_no_file_and_no_line(make: Make) -> None:
    house = make(State.OFFLINE, policy=LOCKED)
    house.device().tell(unlock())
    house.ledger.checkpoint()
    assert CODE.encode() not in house.ledger.path.read_bytes()
    assert all(CODE not in repr(tell) for tell in house.told)


@pytest.mark.parametrize("scope", [0, 3, 255])
def test_an_unknown_scope_is_refused_without_a_try(make: Make, scope: int) -> None:
    house = make(State.OFFLINE, policy=LOCKED)
    assert house.device().tell(unlock(scope=scope)) == UnlockResult(WRONG, 0)
    assert steps(house) == []


def test_on_an_unlocked_or_open_device_a_code_is_accepted_unread(make: Make) -> None:
    house = make(State.OFFLINE)
    assert house.device().tell(unlock("whatever")) == UnlockResult(UNLOCKED, 0)


def test_five_wrong_codes_close_a_device_to_codes_and_the_answer_says_for_how_long(make: Make) -> None:
    house = make(State.OFFLINE, policy=LOCKED)
    device = house.device()
    answers = [device.tell(unlock("000000")) for _ in range(5)]
    assert [answer.status for answer in answers] == [WRONG] * 5
    assert answers[-1].retry_after == 30
    closed = device.tell(unlock())
    assert (closed.status, 0 < closed.retry_after <= 31) == (TOO_MANY, True)
    assert house.device("copier-2").tell(unlock()).status == UNLOCKED


def test_each_frame_is_one_try_also_with_one_sequence_or_on_another_connection(make: Make) -> None:
    house = make(State.OFFLINE, policy=LOCKED)
    device = house.device()
    for _ in range(2):
        device.ask(unlock("000000"), 77)
    house.device().ask(unlock("000000"), 77)
    assert len(steps(house)) == 3


def test_when_all_devices_are_closed_to_codes_the_wait_is_the_longest_that_can_be_said(make: Make) -> None:
    house = make(State.OFFLINE, policy=LOCKED)
    for number in range(20):
        device = house.device(f"copier-{number}")
        for _ in range(5):
            device.tell(unlock("000000"))
    assert house.device("fresh").tell(unlock()) == UnlockResult(TOO_MANY, 0xFFFF)


def test_an_unlock_that_cannot_be_stored_is_not_in_force(make: Make) -> None:
    house = make(State.OFFLINE, policy=LOCKED)
    device = house.device()
    house.disk_dead = True
    assert device.tell(unlock()) == UnlockResult(TOO_MANY, 1)
    house.disk_dead = False
    assert device.login().status == 2


# QUERY


@pytest.mark.parametrize("what", [1, 2, 3, 4])
def test_online_a_query_is_relayed(make: Make, what: int) -> None:
    house = make()
    device = house.device()
    session = device.login().session
    assert device.tell(Query(what, session, "x")) == QueryResult(0, ("Chemistry", "Physics"))
    assert relayed(house)[-1] == Query(what, session, "x")


@pytest.mark.parametrize("server", ["terminal", "papercut"])
@pytest.mark.parametrize("state", [State.GRACE, State.OFFLINE])
@pytest.mark.parametrize("what", [1, 2, 3, 4])
def test_a_query_is_not_available_offline(make: Make, what: int, state: State, server: str) -> None:
    house = make(state, server=server)
    assert house.device().tell(Query(what, 7, "")) == AWAY
    assert relayed(house) == []


@pytest.mark.parametrize("state", list(State))
def test_an_unknown_query_is_refused(make: Make, state: State) -> None:
    assert make(state).device().tell(Query(9, 7, "")) == QueryResult(1, ())


def test_a_query_about_an_offline_session_is_not_available_and_never_relayed_also_when_the_server_is_back(
    make: Make,
) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    session = device.login().session
    house.move(State.ONLINE)
    assert device.tell(Query(1, session, "")) == AWAY
    assert relayed(house) == []


@pytest.mark.parametrize("how", ["silent", "lost", "error"])
def test_a_query_without_an_answer_is_answered_all_the_same(make: Make, how: str) -> None:
    house = make()
    device = house.device()
    house.upstream.silent = True
    sequence = device.ask(Query(2, 7, ""))
    if how == "lost":
        house.run(house.upstream.lose_line("copier-1", house.moment()))
    elif how == "error":
        house.say(house.upstream.under_way[0], Error(5, "no"))
    else:
        house.pass_time(1.1)
    assert device.answer(sequence) == AWAY


@pytest.mark.parametrize(("balance", "text"), [(1250, "12.50"), (0, "0.00"), (-5, "-0.05"), (-350, "-3.50")])
def test_papercut_is_asked_again_for_the_balance(make: Make, balance: int, text: str) -> None:
    house = make(server="papercut")
    device = house.device()
    session = device.login().session
    house.upstream.answer = CardAnswer("amara.okafor", balance=balance)
    assert device.tell(Query(1, session, "")) == QueryResult(0, (text,))


@pytest.mark.parametrize("how", ["logout", "next login"])
def test_a_session_that_has_ended_is_asked_no_balance(make: Make, how: str) -> None:
    house = make(server="papercut")
    device = house.device()
    session = device.login().session
    if how == "logout":
        device.tell(Logout(session))
    else:
        device.login()
    house.upstream.questions.clear()
    assert device.tell(Query(1, session, "")) == QueryResult(1, ())
    assert house.upstream.questions == []


def test_another_devices_session_is_asked_no_balance(make: Make) -> None:
    house = make(server="papercut")
    session = house.device().login().session
    assert house.device("copier-2", 32).tell(Query(1, session, "")) == QueryResult(1, ())


def test_papercut_answers_no_other_query(make: Make) -> None:
    house = make(server="papercut")
    device = house.device()
    session = device.login().session
    assert [device.tell(Query(what, session, "")) for what in (2, 3, 4)] == [AWAY] * 3
    assert device.tell(Query(1, 7, "")) == QueryResult(1, ()), "nobody's session"
    house.upstream.answer = CardAnswer(trouble="HTTP 500")
    assert device.tell(Query(1, session, "")) == AWAY
    house.upstream.silent = True
    sequence = device.ask(Query(1, session, ""))
    house.pass_time(1.1)
    assert device.answer(sequence) == AWAY


# LOGOUT


@pytest.mark.parametrize("state", list(State))
def test_logout_is_always_acknowledged(make: Make, state: State) -> None:
    house = make(state)
    device = house.device()
    for session in (0, 7, OFFLINE_SESSION_BIT | 7):
        assert device.tell(Logout(session)) == LogoutAck(session)


def test_online_the_logout_of_a_servers_session_is_relayed_and_ends_it(make: Make) -> None:
    house = make()
    device = house.device()
    session = device.login().session
    assert device.tell(Logout(session)) == LogoutAck(session)
    assert relayed(house)[-1] == Logout(session)
    assert house.rows("SELECT session, cause FROM logouts") == [(f"{session:016x}", "logout")]


@pytest.mark.parametrize("how", ["silent", "lost", "error"])
def test_a_logout_that_the_server_does_not_acknowledge_is_acknowledged_by_locum(make: Make, how: str) -> None:
    house = make()
    device = house.device()
    session = device.login().session
    house.upstream.silent = True
    sequence = device.ask(Logout(session))
    if how == "lost":
        house.run(house.upstream.lose_line("copier-1", house.moment()))
    elif how == "error":
        house.say(house.upstream.under_way[0], Error(5, "no"))
    else:
        house.pass_time(1.1)
    assert device.answer(sequence) == LogoutAck(session)


@pytest.mark.parametrize("back", [False, True])
def test_an_offline_session_keeps_its_number_until_logout_which_is_never_relayed(make: Make, back: bool) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    session = device.login().session
    if back:
        house.move(State.ONLINE)
    assert house.site.sessions.on("copier-1") is not None
    assert device.tell(Logout(session)) == LogoutAck(session)
    assert house.site.sessions.on("copier-1") is None
    assert relayed(house) == []


def test_a_logout_of_another_devices_session_ends_nothing(make: Make) -> None:
    house = make(State.OFFLINE)
    session = house.device("copier-1").login().session
    assert house.device("copier-2").tell(Logout(session)) == LogoutAck(session)
    assert house.site.sessions.on("copier-1") is not None


def test_a_logout_uses_up_a_single_use(make: Make) -> None:
    house = make(State.OFFLINE, policy=LOCKED)
    device = house.device()
    device.tell(unlock())
    session = device.login().session
    device.tell(Logout(session))
    assert steps(house) == [("unlocked", "once"), ("begun", "once"), ("used", "once")]
    assert device.ping() == 2


def test_in_a_drill_the_server_hears_of_the_end_of_its_own_session(make: Make) -> None:
    house = make()
    device = house.device()
    session = device.login().session
    house.run(house.site.drills.start("copier-1", 600, "a test", "root", house.moment()))
    assert device.tell(Logout(session)) == LogoutAck(session)
    assert relayed(house)[-1] == Logout(session)


# PING


def test_online_a_ping_is_relayed_and_the_state_is_the_servers_own(make: Make) -> None:
    house = make()
    device = house.device()
    house.upstream.silent = True
    sequence = device.ask(Ping())
    house.say(house.upstream.under_way[0], Pong(1))
    assert device.answer(sequence) == Pong(1)


def test_a_ping_that_the_server_does_not_answer_is_answered_by_locum(make: Make) -> None:
    house = make()
    device = house.device()
    house.upstream.silent = True
    sequence = device.ask(Ping())
    assert device.answers(sequence) == []
    house.pass_time(1.1)
    assert device.answer(sequence) == Pong(0)


def test_a_state_that_nobody_knows_does_not_reach_the_device_and_is_counted_and_told_once(make: Make) -> None:
    house = make()
    device = house.device()
    house.told.clear()
    house.upstream.silent = True
    for _ in range(2):
        sequence = device.ask(Ping())
        house.say(house.upstream.under_way[-1], Pong(77))
        assert device.answer(sequence) == Pong(0)
    assert house.tally.counts["unknown-state"] == 2
    assert [tell.text for tell in house.told] == ["hq: the server answered PING with state 77; taken as no answer"]


@pytest.mark.parametrize("state", [State.GRACE, State.OFFLINE])
def test_a_ping_is_answered_by_locum_while_the_server_is_away(make: Make, state: State) -> None:
    house = make(state)
    house.device().ping()
    assert relayed(house) == []


def test_papercut_is_not_pinged(make: Make) -> None:
    assert make(server="papercut").device().ping() == 0
