"""Logins at terminals: relayed while the server answers, decided by Locum while it does not.

Rows of `offline-mode.md`: the table of states (a login request), of events, and of who is let in while OFFLINE.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocols.terminal.messages import NO_BALANCE, OFFLINE_SESSION_BIT, Error, Login, LoginResult, Logout, Pong, decode
from proxy.asking import CardAnswer
from proxy.link import Signal, State
from tests.flows.terminal_house import CARD, Make, TerminalHouse, frame_of, houses, job, unlock

GRANTED, REFUSED, LOCKED, METHOD, UNAVAILABLE, LIMIT = range(6)
FIELDS = "outcome, decided_by, mode, late"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with houses(tmp_path) as make:
        yield make


def logins(house: TerminalHouse) -> list[tuple[Any, ...]]:
    return house.rows(f"SELECT {FIELDS} FROM logins ORDER BY seq")


# Relayed


@pytest.mark.parametrize("state", [State.ONLINE, State.GRACE, State.RECOVERING])
def test_a_login_is_relayed_and_the_servers_answer_goes_back_unchanged(make: Make, state: State) -> None:
    house = make(state)
    device = house.device()
    result = LoginResult(0, 0x1122, "amara.okafor", "Grüß Gott", -350, 0x8003)
    house.upstream.silent = True
    sequence = device.ask(Login(1, CARD, "s"), 4711)
    (sent,) = house.upstream.under_way
    assert decode(sent.frame) == Login(1, CARD, "s")
    house.say(sent, result)
    assert device.answer(sequence) == result
    assert logins(house) == [("granted", "server", "online", 0)]
    assert house.rows("SELECT card, user FROM personal WHERE user <> ''") == [(CARD, "amara.okafor")]


def test_the_server_is_not_made_to_wait_for_the_ledger(make: Make) -> None:
    house = make()
    device = house.device()
    house.holding = True
    assert device.login().status == GRANTED


@pytest.mark.parametrize("status", [REFUSED, LOCKED, METHOD, UNAVAILABLE, LIMIT])
def test_every_refusal_of_the_server_goes_back_and_only_a_refused_card_teaches(make: Make, status: int) -> None:
    house = make()
    device = house.device()
    house.upstream.silent = True
    sequence = device.ask(Login(1, CARD, ""))
    house.say(house.upstream.under_way[0], LoginResult(status, 0, "", "no", 0, 0))
    answer: Any = device.answer(sequence)
    assert answer.status == status
    assert (house.site.facts(CARD) is not None) == (status == REFUSED)
    assert house.site.sessions.on("copier-1") is None


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (LoginResult(77, 0, "", "no", 0, 0), "unknown-status"),
        (LoginResult(77, 9, "amara.okafor", "", 0, 31), "unknown-status"),
        (LoginResult(0, 0, "amara.okafor", "", 0, 31), "session-number"),
    ],
)
def test_a_login_answered_with_what_no_server_may_say_is_a_login_without_an_answer(
    make: Make, result: LoginResult, reason: str
) -> None:
    house = make()
    device = house.device()
    house.told.clear()
    house.upstream.silent = True
    for _ in range(2):
        sequence = device.ask(Login(1, CARD, ""))
        house.say(house.upstream.under_way[-1], result)
        assert device.answers(sequence) == []
        house.pass_time(1.1)
        answer: Any = device.answer(sequence)
        assert (answer.status, answer.session) == (UNAVAILABLE, 0)
    assert house.tally.counts[reason] == 2
    assert [tell.level for tell in house.told if "taken as no answer" in tell.text] == ["warning"]
    assert house.site.facts(CARD) is None
    assert house.site.sessions.on("copier-1") is None
    assert logins(house) == [("unanswered", "nobody", "online", 0)] * 2


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (State.ONLINE, "Only swipe cards can be used here"),
        (State.GRACE, "Only swipe cards can be used here"),
        (State.RECOVERING, "Only swipe cards can be used here"),
        (State.OFFLINE, "this method is not available offline"),
    ],
)
def test_an_unknown_method_towards_papercut_is_refused_in_the_words_of_the_state(
    make: Make, state: State, line: str
) -> None:
    answer = make(state, server="papercut").device().login("0042", 9)
    assert (answer.status, answer.message) == (METHOD, line)


@pytest.mark.parametrize("method", [2, 3, 4])
def test_other_methods_are_relayed_to_a_terminal_server_and_no_secret_is_kept(make: Make, method: int) -> None:
    house = make()
    house.upstream.granted["name"] = "amara.okafor"
    assert house.device().login("name", method, "geheim").status == GRANTED
    assert house.count("SELECT count(*) FROM personal WHERE user = 'geheim' OR card = 'geheim'") == 0
    assert house.site.facts("name") is None, "only cards are remembered"


def test_a_refused_pin_is_not_written_down(make: Make) -> None:
    house = make()
    assert house.device().login("8642", 4).status == REFUSED
    assert house.count("SELECT count(*) FROM personal WHERE user = '8642' OR card = '8642'") == 0


@pytest.mark.parametrize("state", list(State))
def test_an_unknown_method_is_not_available(make: Make, state: State) -> None:
    house = make(state)
    assert house.device().login("0042", 9).status == METHOD


def test_unanswered_in_time_is_server_unavailable_and_a_row_in_the_ledger(make: Make) -> None:
    house = make(State.GRACE, delay=20.0)
    device = house.device()
    house.upstream.silent = True
    sequence = device.ask(Login(1, CARD, ""))
    house.pass_time(0.9)
    assert device.answers(sequence) == []
    house.pass_time(0.2)
    answer: Any = device.answer(sequence)
    assert answer.status == UNAVAILABLE
    assert logins(house) == [("unanswered", "nobody", "online", 0)]


def test_a_line_that_is_lost_leaves_the_login_until_its_time_is_over(make: Make) -> None:
    house = make()
    device = house.device()
    house.upstream.silent = True
    sequence = device.ask(Login(1, CARD, ""))
    house.run(house.upstream.lose_line("copier-1", house.moment()))
    assert device.answers(sequence) == []
    house.pass_time(1.1)
    assert [message.status for message in device.answers(sequence) if isinstance(message, LoginResult)] == [UNAVAILABLE]
    assert house.rows("SELECT reason FROM logins") == [("the line was lost",)]


@pytest.mark.parametrize("reply", [Error(5, "no"), Pong(0)])
def test_an_error_or_another_reply_is_no_answer(make: Make, reply: Any) -> None:
    house = make()
    device = house.device()
    house.upstream.silent = True
    sequence = device.ask(Login(1, CARD, ""))
    house.say(house.upstream.under_way[0], reply)
    house.pass_time(1.1)
    answer: Any = device.answer(sequence)
    assert answer.status == UNAVAILABLE


def test_a_server_that_grants_a_number_of_locums_is_taken_as_silent_with_an_alarm(make: Make) -> None:
    house = make()
    device = house.device()
    house.upstream.silent = True
    sequence = device.ask(Login(1, CARD, ""))
    house.say(house.upstream.under_way[0], LoginResult(0, OFFLINE_SESSION_BIT | 7, "amara", "", 0, 31))
    assert [tell.alarm for tell in house.told if tell.alarm] == ["server"]
    assert device.answers(sequence) == []
    house.pass_time(1.1)
    answer: Any = device.answer(sequence)
    assert (answer.status, house.site.facts(CARD)) == (UNAVAILABLE, None)


# Events


def test_when_offline_is_reached_logins_in_flight_are_decided_at_once(make: Make) -> None:
    house = make(timeout=30.0)
    device = house.device()
    house.upstream.silent = True
    sequence = device.ask(Login(1, CARD, ""))
    house.signal(Signal.CONTACT_FAILED)
    house.pass_time(1.9)
    assert device.answers(sequence) == []
    house.pass_time(0.2)
    answer: Any = device.answer(sequence)
    assert (answer.status, answer.session >> 63) == (GRANTED, 1)


def test_a_late_answer_is_ledgered_teaches_does_not_reach_the_device_and_its_session_is_logged_out(make: Make) -> None:
    house = make(timeout=30.0)
    device = house.device()
    house.upstream.silent = True
    device.ask(Login(1, CARD, ""))
    house.signal(Signal.CONTACT_FAILED)
    house.pass_time(2.1)
    said, granted = len(device.said), house.site.sessions.on("copier-1")
    house.say(house.upstream.under_way[0], LoginResult(0, 99, "amara.okafor", "", 0, 31))
    assert len(device.said) == said
    assert logins(house)[-1] == ("granted", "server", "online", 1)
    facts = house.site.facts(CARD)
    assert facts is not None
    assert facts.user == "amara.okafor"
    assert decode(house.upstream.asked[-1].frame) == Logout(99)
    assert house.site.sessions.on("copier-1") is granted
    house.say(house.upstream.asked[-1], Error(4, "whatever it says to that"))
    assert len(device.said) == said


@pytest.mark.parametrize("server", ["terminal", "papercut"])
def test_an_answer_for_a_device_that_has_gone_begins_no_session(make: Make, server: str) -> None:
    house = make(server=server)
    device = house.device()
    house.upstream.silent = True
    device.ask(Login(1, CARD, ""))
    house.device()
    if server == "papercut":
        (question,) = house.upstream.questions
        house.run(question.asker.card_answered(question, house.upstream.answer, house.moment()))
    else:
        house.say(house.upstream.under_way[0], LoginResult(0, 99, "amara.okafor", "", 0, 31))
        assert decode(house.upstream.asked[-1].frame) == Logout(99)
    house.pass_time(1.1)
    assert house.site.sessions.on("copier-1") is None
    assert logins(house) == [("granted", "server", "online", 1)]


def test_offline_while_contacts_succeed_the_server_is_tried_first_and_locum_decides_if_it_is_silent(make: Make) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    house.upstream.succeeding = True
    assert device.login().session == 8, "the server's answer"
    house.upstream.silent = True
    sequence = device.ask(Login(1, CARD, ""))
    assert device.answers(sequence) == []
    house.pass_time(1.1)
    answer: Any = device.answer(sequence)
    assert (answer.status, answer.session >> 63) == (GRANTED, 1)


@pytest.mark.parametrize("reply", [Error(5, ""), LoginResult(UNAVAILABLE, 0, "", "later", NO_BALANCE, 0)])
def test_offline_a_server_that_cannot_say_leaves_it_to_locum_at_once(make: Make, reply: Any) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    house.upstream.succeeding = house.upstream.silent = True
    sequence = device.ask(Login(1, CARD, ""))
    house.say(house.upstream.under_way[0], reply)
    answer: Any = device.answer(sequence)
    assert answer.status == GRANTED


def test_a_session_of_the_server_is_known_after_a_restart(make: Make) -> None:
    house = make()
    session = house.device().login().session
    house.restart()
    found = house.site.sessions.on("copier-1")
    assert found is not None
    assert (found.session, found.card, found.user, found.mode) == (f"{session:016x}", CARD, "amara.okafor", "online")


# Decided by Locum


def test_granted_offline_is_a_session_of_locums_without_balance_and_with_every_function(make: Make) -> None:
    house = make(State.OFFLINE)
    answer = house.device().login()
    assert answer == LoginResult(
        GRANTED, answer.session, "", "Offline: activity is logged to your card", NO_BALANCE, 31
    )
    assert answer.session & OFFLINE_SESSION_BIT
    assert logins(house) == [("granted", "locum", "offline", 0)]


def test_an_offline_grant_is_heard_of_only_when_it_is_on_stable_storage(make: Make) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    house.holding = True
    sequence = device.ask(Login(1, CARD, ""))
    house.pass_time(1)
    assert device.answers(sequence) == []
    house.sync()
    answer: Any = device.answer(sequence)
    assert answer.status == GRANTED


def test_a_grant_that_cannot_be_stored_is_server_unavailable(make: Make) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    house.disk_full = True
    assert device.login().status == UNAVAILABLE
    assert house.tally.counts["grant-not-kept"] == 1
    assert house.site.sessions.on("copier-1") is None


@pytest.mark.parametrize(
    ("policy", "card", "method", "status"),
    [
        ({"enabled": False}, CARD, 1, UNAVAILABLE),
        ({"asks_code": True}, CARD, 1, LOCKED),
        ({"asks_code": True}, "name", 2, LOCKED),
        ({}, "name", 2, METHOD),
        ({}, "12345", 3, METHOD),
        ({}, "1234", 4, METHOD),
        ({}, "not a card!", 1, METHOD),
        ({}, "", 1, METHOD),
        ({"admission": "known-cards"}, CARD, 1, REFUSED),
        ({"max_sessions_per_card": 0}, CARD, 1, LIMIT),
        ({"max_pages_per_card": 0}, CARD, 1, LIMIT),
        ({}, CARD, 1, GRANTED),
    ],
)
def test_who_is_let_in_while_offline(make: Make, policy: dict[str, Any], card: str, method: int, status: int) -> None:
    house = make(State.OFFLINE, policy=policy)
    answer = house.device().login(card, method)
    assert answer.status == status
    assert (answer.session != 0) == (status == GRANTED)


def test_a_card_that_the_server_refused_last_is_refused_offline(make: Make) -> None:
    house = make()
    assert house.device().login("UNKNOWN1").status == REFUSED
    house.move(State.OFFLINE)
    assert house.device().login("unknown1").status == REFUSED


def test_leading_zeros_are_part_of_a_card_and_its_letters_case_is_not(make: Make) -> None:
    house = make(State.OFFLINE, policy={"max_sessions_per_card": 1})
    assert house.device("copier-1").login("00ab12").status == GRANTED
    assert house.device("copier-2").login("AB12").status == GRANTED
    assert house.device("copier-3").login("00AB12").status == LIMIT


def test_each_device_has_its_own_offline_settings(make: Make) -> None:
    house = make(State.OFFLINE, devices={"library": {"asks_code": True}})
    assert house.device("library").login().status == LOCKED
    assert house.device("office").login().status == GRANTED


def test_logins_at_once_on_one_device_use_a_single_use_once(make: Make) -> None:
    house = make(State.OFFLINE, policy={"asks_code": True})
    device = house.device()
    assert device.tell(unlock()).status == 0
    house.holding = True
    asked = [device.ask(Login(1, CARD, "")) for _ in range(3)]
    for _ in range(4):
        house.sync()
    answers: list[Any] = [device.answer(each) for each in asked]
    assert [answer.status for answer in answers] == [GRANTED, LOCKED, LOCKED]


def test_a_login_that_waited_for_another_goes_to_the_server_if_that_is_back_meanwhile(make: Make) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    house.holding = True
    asked = [device.ask(Login(1, CARD, "")) for _ in range(2)]
    house.signal(Signal.CONTACT_STEADY)
    house.sync()
    first, second = (device.answer(each) for each in asked)
    assert isinstance(first, LoginResult)
    assert isinstance(second, LoginResult)
    assert (first.session >> 63, second.session >> 63) == (1, 0)


def test_a_device_that_has_gone_is_granted_nothing(make: Make) -> None:
    house = make(timeout=30.0)
    device = house.device()
    house.upstream.silent = True
    device.ask(Login(1, CARD, ""))
    device.leave()
    house.move(State.OFFLINE)
    assert house.site.sessions.on("copier-1") is None
    assert logins(house) == [("unanswered", "nobody", "online", 0)]


def test_the_next_login_on_a_device_ends_the_session_before(make: Make) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    first, second = device.login(), device.login("00112233")
    assert house.rows("SELECT session, cause FROM logouts") == [(f"{first.session:016x}", "next-login")]
    assert device.tell(job(second.session)).status == 0


# A drill


def test_a_drill_makes_a_device_offline_while_the_server_is_up_and_marks_its_logins(make: Make) -> None:
    house = make()
    device, other = house.device("copier-1"), house.device("copier-2")
    house.run(house.site.drills.start("copier-1", 600, "a test", "root", house.moment()))
    house.upstream.succeeding = True
    assert device.login().session >> 63 == 1
    assert other.login().session >> 63 == 0
    assert [mode for _, _, mode, _ in logins(house)] == ["drill", "online"]
    assert (device.ping(), other.ping()) == (1, 0)


# A PaperCut server


def test_papercut_is_asked_whose_card_it_is_and_the_session_is_locums_and_online(make: Make) -> None:
    house = make(server="papercut")
    answer = house.device().login("04a2b3c4d5")
    assert answer == LoginResult(GRANTED, answer.session, "amara.okafor", "", 1250, 31)
    assert answer.session & OFFLINE_SESSION_BIT
    assert house.upstream.questions[0].card == "04a2b3c4d5"
    assert logins(house) == [("granted", "server", "online", 0)]
    house.restart()
    found = house.site.sessions.on("copier-1")
    assert found is not None
    assert (found.mode, found.user) == ("online", "amara.okafor")


@pytest.mark.parametrize(
    ("said", "status", "outcome"),
    [
        (CardAnswer("amara", refused="Your account is disabled"), REFUSED, "refused"),
        (CardAnswer(refused="Nobody has this card"), REFUSED, "refused"),
        (CardAnswer(), REFUSED, "refused"),
        (CardAnswer(trouble="HTTP 500"), UNAVAILABLE, "unanswered"),
        (CardAnswer("amara", balance=None), GRANTED, "granted"),
    ],
)
def test_what_papercut_says_of_a_card(make: Make, said: CardAnswer, status: int, outcome: str) -> None:
    house = make(server="papercut")
    house.upstream.answer = said
    answer = house.device().login()
    assert (answer.status, answer.balance) == (status, NO_BALANCE)
    assert logins(house)[0][0] == outcome
    assert (house.site.facts(CARD) is not None) == (outcome != "unanswered")
    if said.refused:
        assert answer.message == said.refused


@pytest.mark.parametrize("method", [2, 3, 4])
def test_papercut_is_asked_about_cards_only(make: Make, method: int) -> None:
    house = make(server="papercut")
    assert house.device().login("name", method, "secret").status == METHOD
    assert house.upstream.questions == []


def test_papercut_late_teaches_and_does_not_reach_the_device(make: Make) -> None:
    house = make(server="papercut")
    device = house.device()
    house.upstream.silent = True
    sequence = device.ask(Login(1, CARD, ""))
    house.pass_time(1.1)
    answer: Any = device.answer(sequence)
    assert answer.status == UNAVAILABLE
    (question,) = house.upstream.questions
    house.run(question.asker.card_answered(question, house.upstream.answer, house.moment()))
    assert len(device.answers(sequence)) == 1
    assert [(outcome, late) for outcome, _, _, late in logins(house)] == [("unanswered", 0), ("granted", 1)]
    assert house.site.facts(CARD) is not None


def test_a_name_longer_than_a_field_is_cut_at_a_character(make: Make) -> None:
    house = make(server="papercut")
    house.upstream.answer = CardAnswer("é" * 200)
    answer = house.device().login()
    assert answer.user == "é" * 127
    assert frame_of(answer)
