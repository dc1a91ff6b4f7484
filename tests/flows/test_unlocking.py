"""Unlocking over RADIUS (environment education): challenge, code, single use, until restored, and what guessing costs.

Each rule of the section "Unlocking" of offline-mode.md is a test. Nothing here hashes: `House.compared` holds the codes
that would have been.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from appliance.control import Refusal
from protocols.radius.packet import Code, Type
from proxy.admission import METHOD_LINE, OFFLINE_LINE
from proxy.dialects.radius.challenges import CHALLENGE_LINE
from proxy.link import State
from proxy.unlocking import FIRST_CLOSURE, LONGEST_CLOSURE, VOID_AFTER, WRONG_AT_DEVICE, WRONG_IN_OUTAGE
from tests.flows.house import CODE, TICK, House, Unanswered

Make = Callable[..., House]

CARD = "0A1B2C3D"
OTHER = "DEADBEEF"
WRONG = "135791"
EDUCATION = {"environment": "education"}
UNTIL_RESTORED = 2


@pytest.fixture
def make_locked(make_house: Make) -> Make:
    """Makes a house in a school whose server is gone."""

    def make(**how: Any) -> House:
        policy = EDUCATION | how.pop("policy", {})
        house = make_house(policy=policy, **how)
        house.move(State.OFFLINE)
        return house

    return make


@pytest.fixture
def locked(make_locked: Make) -> House:
    return make_locked()


def steps(house: House, device: str = "copier-1") -> list[str]:
    return [outcome for (outcome,) in house.rows("SELECT outcome FROM unlocks WHERE device = ? ORDER BY seq", device)]


def shown(house: House, device: str = "copier-1") -> str:
    return house.site.shown(device, house.upstream)


def is_let_in(house: House, device: str = "copier-1", name: str = CARD) -> bool:
    """Whether a swipe gets in, or is asked for the code."""
    code = house.code(house.swipe(name, device=device))
    assert code in (Code.ACCESS_ACCEPT, Code.ACCESS_CHALLENGE)
    return code == Code.ACCESS_ACCEPT


def stop(house: House, accept: bytes, device: str = "copier-1") -> None:
    """The accounting Stop of the session that this answer began."""
    (answer,) = house.answers(accept)
    mark = answer.get(Type.CLASS)
    assert mark is not None
    house.account((Type.CLASS, mark), status=2, pages=None, device=device)


def alarms(house: House, kind: str = "wrong-codes") -> list[str]:
    return [told.text for told in house.told if told.alarm == kind]


def come_back(house: House) -> None:
    house.server_up = True
    house.until(State.ONLINE)


def go_away(house: House) -> None:
    house.server_up = False
    house.until(State.OFFLINE)


# The challenge


def test_a_locked_device_is_asked_for_the_code(locked: House) -> None:
    packet = locked.swipe(CARD)
    assert locked.code(packet) == Code.ACCESS_CHALLENGE
    assert locked.line(packet) == CHALLENGE_LINE
    assert len(locked.state_in(packet)) >= 16
    assert locked.rows("SELECT outcome, decided_by FROM logins") == [("locked", "locum")]
    assert shown(locked) == "locked"


def test_the_right_code_lets_the_session_begin(locked: House) -> None:
    answered = locked.unlock()
    (accept,) = locked.answers(answered)
    assert accept.code == Code.ACCESS_ACCEPT
    assert locked.line(answered) == OFFLINE_LINE
    assert accept.get(Type.CLASS) is not None
    session = locked.site.sessions.on("copier-1")
    assert session is not None
    assert session.card == CARD
    assert locked.rows("SELECT outcome, method FROM logins ORDER BY seq DESC LIMIT 1") == [("granted", "card")]


def test_each_challenge_has_a_state_of_its_own(locked: House) -> None:
    assert locked.state_in(locked.swipe(CARD)) != locked.state_in(locked.swipe(CARD))


def test_a_wrong_code_is_rejected(locked: House) -> None:
    packet = locked.unlock(WRONG)
    assert locked.code(packet) == Code.ACCESS_REJECT
    assert locked.line(packet) == "Wrong code"
    assert shown(locked) == "locked"
    assert not is_let_in(locked)


def test_no_code_at_all_is_a_wrong_code(locked: House) -> None:
    state = locked.state_in(locked.swipe(CARD))
    assert locked.code(locked.swipe(CARD, (Type.STATE, state))) == Code.ACCESS_REJECT
    assert steps(locked) == ["wrong-code"]


def test_a_code_is_no_password_of_a_user(locked: House) -> None:
    """The code does not make a username a swipe card."""
    packet = locked.unlock(name="jsmith")
    assert locked.line(packet) == METHOD_LINE
    assert is_let_in(locked)


def test_the_challenge_carries_proxy_state_and_message_authenticator(locked: House) -> None:
    packet = locked.swipe(CARD, (Type.PROXY_STATE, b"hop"))
    (challenge,) = locked.answers(packet)
    assert challenge.get(Type.PROXY_STATE) == b"hop"
    assert challenge.get(Type.MESSAGE_AUTHENTICATOR) is not None


# What a State is bound to


@pytest.mark.parametrize(
    "other", [{"device": "copier-2"}, {"host": 32}, {"name": OTHER}], ids=["device", "address", "card"]
)
def test_a_state_is_good_for_its_device_address_and_card_only(locked: House, other: dict[str, Any]) -> None:
    state = locked.state_in(locked.swipe(CARD))
    packet = locked.give_code(CODE, state, **other)
    assert locked.code(packet) == Code.ACCESS_CHALLENGE
    assert locked.compared == []
    assert shown(locked) == "locked"


def test_a_state_lives_for_sixty_seconds(locked: House) -> None:
    early, late = locked.state_in(locked.swipe(CARD)), locked.state_in(locked.swipe(CARD, device="copier-2"))
    locked.pass_time(59.5)
    assert locked.code(locked.give_code(CODE, early)) == Code.ACCESS_ACCEPT
    locked.pass_time(0.5)
    assert locked.code(locked.give_code(CODE, late, device="copier-2")) == Code.ACCESS_CHALLENGE
    assert locked.compared == [CODE]


def test_a_state_serves_once(locked: House) -> None:
    state = locked.state_in(locked.swipe(CARD))
    assert locked.code(locked.give_code(WRONG, state)) == Code.ACCESS_REJECT
    assert locked.code(locked.give_code(CODE, state)) == Code.ACCESS_CHALLENGE
    assert locked.compared == [WRONG]


def test_a_state_of_an_earlier_run_is_asked_again(locked: House) -> None:
    state = locked.state_in(locked.swipe(CARD))
    locked.restart(down_for=1)
    assert locked.code(locked.give_code(CODE, state)) == Code.ACCESS_CHALLENGE
    assert locked.compared == []


def test_a_state_of_somebody_else_says_nothing(locked: House) -> None:
    assert locked.code(locked.give_code(CODE, b"the server's own state")) == Code.ACCESS_CHALLENGE
    assert locked.compared == []


def test_a_repeated_datagram_is_one_try(locked: House) -> None:
    locked.holding_codes = True
    packet = locked.unlock(WRONG)
    locked.swipe("", packet=packet)
    locked.compare()
    locked.swipe("", packet=packet)
    assert locked.compared == [WRONG]
    assert len(locked.answers(packet)) == 2
    assert steps(locked) == ["wrong-code"]


# The code goes no further than Locum


def no_code_at_server(house: House) -> bool:
    """Whether no Access-Request of a device reached the server."""
    return not house.logins_at_server()


def test_the_code_is_not_sent_to_a_server_that_is_back(locked: House) -> None:
    state = locked.state_in(locked.swipe(CARD))
    come_back(locked)
    locked.to_server.clear()
    packet = locked.give_code(CODE, state)
    assert locked.code(packet) == Code.ACCESS_REJECT
    assert "over" in locked.line(packet)
    assert no_code_at_server(locked)
    assert locked.compared == []
    assert locked.line(locked.swipe(CARD)) == "welcome"


def test_the_code_is_not_sent_to_a_server_that_may_be_back(locked: House) -> None:
    state = locked.state_in(locked.swipe(CARD))
    locked.server_up = True
    locked.pass_time(0.6)
    assert locked.state is State.OFFLINE
    locked.to_server.clear()
    assert locked.code(locked.give_code(CODE, state)) == Code.ACCESS_ACCEPT
    assert no_code_at_server(locked)


@pytest.mark.parametrize("how", ["too late", "used", "of an earlier run", "another device's"])
@pytest.mark.parametrize("server", ["back", "coming back"])
def test_the_code_is_not_sent_with_a_state_that_is_no_longer_good(locked: House, how: str, server: str) -> None:
    state = locked.state_in(locked.swipe(CARD, device="copier-2" if how == "another device's" else "copier-1"))
    if how == "too late":
        locked.pass_time(61)
    elif how == "used":
        locked.give_code(WRONG, state)
    elif how == "of an earlier run":
        locked.restart(down_for=1)
    locked.server_up = True
    if server == "back":
        locked.until(State.ONLINE)
    else:
        locked.pass_time(0.6)
        assert locked.state is State.OFFLINE
    locked.to_server.clear()
    packet = locked.give_code(CODE, state)
    locked.pass_time(5)
    locked.swipe("", packet=packet)
    assert no_code_at_server(locked)
    assert locked.code(packet) == (Code.ACCESS_REJECT if server == "back" else Code.ACCESS_CHALLENGE)


def test_the_code_is_not_sent_if_the_server_comes_back_while_it_is_compared(locked: House) -> None:
    locked.holding_codes = True
    packet = locked.unlock()
    come_back(locked)
    locked.to_server.clear()
    locked.swipe("", packet=packet)
    locked.compare()
    locked.swipe("", packet=packet)
    assert no_code_at_server(locked)
    assert locked.code(packet) == Code.ACCESS_REJECT
    assert locked.site.unlocking.places() == {}


def test_the_code_is_not_sent_if_the_unlock_could_not_be_stored(locked: House) -> None:
    locked.disk_full = True
    packet = locked.unlock()
    locked.disk_full = False
    come_back(locked)
    locked.to_server.clear()
    locked.swipe("", packet=packet)
    assert no_code_at_server(locked)


def test_the_servers_own_challenges_are_relayed_in_a_school_too(make_house: Make) -> None:
    house = make_house(policy=EDUCATION)
    house.silent_for.add(CARD.encode())
    house.swipe(CARD, (Type.STATE, b"of the server"), password=b"one-time password")
    (sent,) = house.logins_at_server()
    assert sent.packet.get(Type.STATE) == b"of the server"


def test_the_code_is_in_no_file_and_in_no_line(locked: House) -> None:
    locked.unlock(WRONG)
    locked.unlock(CODE, scope=UNTIL_RESTORED)
    locked.unlock("97531a", device="copier-2")
    locked.pass_time(2)
    stored = b"".join(each.read_bytes() for each in locked.folder.iterdir() if each.is_file())
    said = "".join(f"{told}" for told in locked.told)
    for code in (CODE, WRONG, "97531a"):
        assert code.encode() not in stored
        assert code not in said
    assert len(locked.compared) == 3


# Single use


def test_single_use_is_the_default(locked: House) -> None:
    locked.unlock()
    assert shown(locked) == "unlocked-once"
    assert steps(locked) == ["unlocked", "begun"]


@pytest.mark.parametrize("scope", [1, 0, 3, 77])
def test_a_scope_that_is_unknown_is_single_use(locked: House, scope: int) -> None:
    locked.unlock(scope=scope)
    assert shown(locked) == "unlocked-once"


def test_a_single_use_is_good_for_one_session(locked: House) -> None:
    locked.unlock()
    assert not is_let_in(locked)
    assert not is_let_in(locked, name=OTHER)


def test_an_unlock_is_for_one_device(locked: House) -> None:
    locked.unlock(scope=UNTIL_RESTORED)
    assert not is_let_in(locked, "copier-2")


def test_a_single_use_is_used_up_at_the_stop(locked: House) -> None:
    stop(locked, locked.unlock())
    assert steps(locked) == ["unlocked", "begun", "used"]
    assert shown(locked) == "locked"
    assert not is_let_in(locked)


def test_a_single_use_is_used_up_by_the_next_login(locked: House) -> None:
    locked.unlock()
    locked.unlock(name=OTHER)
    session = locked.site.sessions.on("copier-1")
    assert session is not None
    assert session.card == OTHER
    assert locked.rows("SELECT cause FROM logouts") == [("next-login",)]
    assert not is_let_in(locked)


def test_a_single_use_is_used_up_when_the_session_times_out(locked: House) -> None:
    locked.unlock()
    locked.wall += 3_600_000
    locked.pass_time(1.5)
    assert steps(locked) == ["unlocked", "begun", "used"]
    assert not is_let_in(locked)


def test_a_single_use_is_used_up_by_accounting_on(locked: House) -> None:
    locked.unlock()
    locked.account(status=7, session="", pages=None, device="copier-1")
    assert steps(locked)[-1] == "used"


def test_a_job_of_the_session_does_not_use_it_up(locked: House) -> None:
    accept = locked.unlock()
    (answer,) = locked.answers(accept)
    locked.account((Type.CLASS, answer.get(Type.CLASS) or b""), job="1")
    assert shown(locked) == "unlocked-once"
    assert locked.rows("SELECT mode FROM jobs") == [("offline",)]


def test_a_single_use_is_void_if_no_session_begins_in_two_minutes(locked: House) -> None:
    locked.unlock(name="jsmith")
    locked.pass_time(VOID_AFTER - 1)
    assert shown(locked) == "unlocked-once"
    locked.pass_time(1)
    assert steps(locked) == ["unlocked", "void"]
    assert not is_let_in(locked)


def test_a_single_use_in_use_is_not_void_after_two_minutes(locked: House) -> None:
    locked.unlock()
    locked.pass_time(VOID_AFTER + 5)
    assert shown(locked) == "unlocked-once"


def test_two_logins_at_once_do_not_share_a_single_use(locked: House) -> None:
    locked.unlock(name="jsmith")
    locked.holding = True
    first, second = locked.swipe(CARD), locked.swipe(OTHER)
    while locked.held:
        locked.sync()
    assert locked.code(first) == Code.ACCESS_ACCEPT
    assert locked.code(second) == Code.ACCESS_CHALLENGE


def test_a_kill_right_after_the_grant_leaves_no_second_use(locked: House) -> None:
    """The grant is on stable storage, what follows from it is not: a restart works it out."""
    locked.unlock(name="jsmith")
    locked.holding = True
    packet = locked.swipe(CARD)
    locked.sync(1)
    assert locked.code(packet) == Code.ACCESS_ACCEPT
    assert "begun" not in steps(locked)
    locked.restart(holding=False)
    assert shown(locked) == "unlocked-once"
    assert not is_let_in(locked, name=OTHER)


def test_a_grant_that_could_not_be_stored_leaves_the_single_use_for_the_next(locked: House) -> None:
    locked.unlock(name="jsmith")
    locked.disk_full = True
    packet = locked.swipe(CARD)
    assert locked.code(packet) is None
    locked.disk_full = False
    locked.swipe("", packet=packet)
    assert locked.code(packet) == Code.ACCESS_ACCEPT


# Until the connection is restored


def test_until_restored_lets_everybody_in(locked: House) -> None:
    stop(locked, locked.unlock(scope=UNTIL_RESTORED))
    locked.pass_time(VOID_AFTER + 5)
    assert shown(locked) == "unlocked-until-restored"
    assert is_let_in(locked)
    assert is_let_in(locked, name=OTHER)


@pytest.mark.parametrize("scope", [1, UNTIL_RESTORED])
def test_an_unlock_is_dropped_when_the_server_is_back(make_locked: Make, scope: int) -> None:
    house = make_locked(delay=10.0)
    house.unlock(scope=scope)
    come_back(house)
    assert steps(house)[-1] == "dropped"
    house.pass_time(11)
    go_away(house)
    assert not is_let_in(house)


def test_until_restored_is_in_force_again_if_contact_is_lost_straight_away(make_locked: Make) -> None:
    house = make_locked(delay=10.0)
    house.unlock(scope=UNTIL_RESTORED)
    house.unlock(device="copier-2")
    house.move(State.RECOVERING)
    go_away(house)
    assert steps(house) == ["unlocked", "dropped", "in-force-again"]
    assert is_let_in(house)
    assert steps(house, "copier-2")[-1] == "dropped"
    assert not is_let_in(house, "copier-2")


def test_until_restored_is_in_force_again_also_where_nothing_was_waiting(make_locked: Make) -> None:
    """Contact lost again within the delay, by way of ONLINE and GRACE."""
    house = make_locked(delay=20.0)
    house.unlock(scope=UNTIL_RESTORED)
    come_back(house)
    house.pass_time(5)
    house.server_up = False
    house.swipe(CARD)
    house.until(State.GRACE)
    assert house.site.unlocking.places() == {}
    house.until(State.OFFLINE)
    assert is_let_in(house)


def test_until_restored_is_over_if_contact_is_lost_after_the_delay(make_locked: Make) -> None:
    house = make_locked(delay=10.0)
    house.unlock(scope=UNTIL_RESTORED)
    house.move(State.RECOVERING)
    house.pass_time(11)
    go_away(house)
    assert not is_let_in(house)
    assert steps(house) == ["unlocked", "dropped"]


def test_a_session_goes_on_when_its_unlock_is_dropped(locked: House) -> None:
    locked.unlock()
    come_back(locked)
    assert locked.site.sessions.on("copier-1") is not None


# Unlocked devices


def test_on_an_unlocked_device_a_code_is_accepted_unread(locked: House) -> None:
    state = locked.state_in(locked.swipe(CARD))
    locked.unlock(scope=UNTIL_RESTORED, name=OTHER)
    packet = locked.give_code(WRONG, state)
    assert locked.code(packet) == Code.ACCESS_ACCEPT
    assert locked.compared == [CODE]
    assert shown(locked) == "unlocked-until-restored"


def test_a_code_that_comes_too_late_is_not_needed_on_an_unlocked_device(locked: House) -> None:
    state = locked.state_in(locked.swipe(CARD))
    locked.pass_time(61)
    locked.unlock(scope=UNTIL_RESTORED, name=OTHER)
    assert locked.code(locked.give_code(WRONG, state)) == Code.ACCESS_ACCEPT


def test_where_no_code_is_set_every_code_is_wrong_and_that_is_told(make_locked: Make) -> None:
    house = make_locked(unlock_code="")
    for _ in range(20):
        assert house.line(house.unlock("")) == "Wrong code"
    assert house.compared == []
    (told,) = alarms(house)
    assert "no unlock code is set" in told
    house.pass_time(61)
    house.unlock()
    assert len(alarms(house)) == 2


def test_a_commercial_site_asks_for_no_code(offline: House) -> None:
    assert is_let_in(offline)


def test_one_device_may_be_a_schools(make_house: Make) -> None:
    house = make_house(devices={"copier-2": EDUCATION})
    house.move(State.OFFLINE)
    assert is_let_in(house)
    assert not is_let_in(house, "copier-2")


# Storage


def test_an_unlock_that_is_not_stored_is_none(locked: House) -> None:
    locked.disk_full = True
    packet = locked.unlock()
    assert locked.code(packet) is None
    assert locked.site.unlocking.places() == {}
    locked.disk_full = False
    assert not is_let_in(locked)
    locked.swipe("", packet=packet)
    assert locked.code(packet) == Code.ACCESS_ACCEPT


def test_the_device_hears_of_an_unlock_when_it_is_on_stable_storage(locked: House) -> None:
    state = locked.state_in(locked.swipe(CARD))
    locked.holding = True
    packet = locked.give_code(CODE, state)
    assert locked.site.unlocking.places() == {}
    while locked.held:
        granted = locked.count("SELECT count(*) FROM logins WHERE outcome = 'granted'")
        assert locked.code(packet) == (Code.ACCESS_ACCEPT if granted else None)
        assert not granted or steps(locked)[0] == "unlocked"
        locked.sync(1)
    assert locked.code(packet) == Code.ACCESS_ACCEPT


def test_a_server_that_comes_back_while_the_unlock_is_stored_ends_it(make_locked: Make) -> None:
    house = make_locked(delay=10.0)
    state = house.state_in(house.swipe(CARD))
    house.holding = True
    packet = house.give_code(CODE, state, scope=UNTIL_RESTORED)
    house.holding = False
    come_back(house)
    house.sync()
    assert house.site.unlocking.places() == {}
    assert house.code(packet) == Code.ACCESS_REJECT
    assert steps(house) == ["unlocked", "dropped"]


# By hand


def test_an_admin_unlocks_and_locks(locked: House) -> None:
    locked.swipe(CARD)
    assert locked.hand("unlock", device="copier-1", scope="once") == {"devices": ["copier-1"]}
    assert is_let_in(locked)
    assert not is_let_in(locked)
    locked.hand("unlock", device="copier-1", scope="until-restored")
    assert is_let_in(locked)
    assert is_let_in(locked)
    assert locked.hand("lock", device="copier-1") == {"devices": ["copier-1"]}
    assert not is_let_in(locked)
    who = locked.rows("SELECT outcome, scope, who FROM unlocks WHERE who <> '' ORDER BY seq")
    assert who == [
        ("by-hand-unlocked", "once", "admin"),
        ("by-hand-unlocked", "until-restored", "admin"),
        ("by-hand-locked", "", "admin"),
    ]


def test_an_admin_hears_of_it_when_it_is_on_stable_storage(locked: House) -> None:
    locked.swipe(CARD)
    locked.holding = True
    with pytest.raises(Unanswered):
        locked.hand("unlock", device="copier-1", scope="once")
    locked.sync()
    assert steps(locked)[-1] == "by-hand-unlocked"
    locked.holding, locked.disk_dead = False, True
    with pytest.raises(Refusal, match="could not be written down"):
        locked.hand("lock", device="copier-1")


def test_an_admin_unlocks_all_devices(locked: House) -> None:
    for device in ("copier-1", "copier-2"):
        locked.swipe(CARD, device=device)
    assert locked.hand("unlock", scope="until-restored") == {"devices": ["copier-1", "copier-2"]}
    assert is_let_in(locked, "copier-2")
    assert locked.hand("lock") == {"devices": ["copier-1", "copier-2"]}
    assert not is_let_in(locked, "copier-2")


def test_an_admins_unlock_is_never_blocked_by_wrong_codes(locked: House) -> None:
    for _ in range(WRONG_AT_DEVICE):
        locked.unlock(WRONG)
    locked.hand("unlock", device="copier-1", scope="once")
    assert is_let_in(locked)


def test_there_is_nothing_to_unlock_by_hand_online(make_house: Make) -> None:
    house = make_house(policy=EDUCATION)
    house.swipe(CARD)
    with pytest.raises(Refusal, match="not offline"):
        house.hand("unlock", device="copier-1", scope="once")
    with pytest.raises(Refusal, match="ever heard"):
        house.hand("unlock", device="copier-8", scope="once")
    with pytest.raises(Refusal, match="not unlocked"):
        house.hand("lock", device="copier-1")


def test_an_admins_single_use_is_void_after_two_minutes_too(locked: House) -> None:
    locked.swipe(CARD)
    locked.hand("unlock", device="copier-1", scope="once")
    locked.pass_time(VOID_AFTER)
    assert steps(locked) == ["by-hand-unlocked", "void"]


def test_another_code_holds_from_the_moment_it_is_set(locked: House) -> None:
    locked.unlock_code = "another-1"
    locked.hand("unlock-code", changed="set")
    assert locked.code(locked.unlock(CODE)) == Code.ACCESS_REJECT
    assert locked.code(locked.unlock("another-1")) == Code.ACCESS_ACCEPT


# What wrong codes cost


def try_at(house: House, device: str = "copier-1", code: str = WRONG) -> str:
    return house.line(house.unlock(code, device=device))


def test_five_wrong_codes_close_a_device_for_thirty_seconds(locked: House) -> None:
    words = [try_at(locked) for _ in range(WRONG_AT_DEVICE)]
    assert words == ["Wrong code"] * 4 + ["Wrong code; try again in 30 s"]
    assert try_at(locked, code=CODE) == "Too many wrong codes; try again in 30 s"
    locked.pass_time(29.5)
    assert try_at(locked, code=CODE) == "Too many wrong codes; try again in 1 s"
    assert len(locked.compared) == WRONG_AT_DEVICE
    locked.pass_time(0.5)
    assert try_at(locked, code=CODE) == OFFLINE_LINE


def test_other_devices_stay_open_to_codes(locked: House) -> None:
    for _ in range(WRONG_AT_DEVICE):
        try_at(locked)
    assert try_at(locked, "copier-2", CODE) == OFFLINE_LINE


def test_four_wrong_codes_in_ten_minutes_close_nothing(locked: House) -> None:
    for _ in range(3):
        for _ in range(WRONG_AT_DEVICE - 1):
            try_at(locked)
        locked.pass_time(601)
    assert try_at(locked, code=CODE) == OFFLINE_LINE


def test_the_time_doubles_up_to_an_hour(locked: House) -> None:
    closures = []
    while len(closures) < 10:
        before = len(locked.compared)
        locked.give_code(WRONG, locked.state_in(locked.swipe(CARD)))
        assert len(locked.compared) == before + 1
        left = locked.site.unlocking._wrong["copier-1"].closed_until - locked.now
        if left > 0:
            closures.append(left)
            jump(locked, left)
    assert closures == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def jump(house: House, seconds: float) -> None:
    """Let time pass at one go."""
    house.now += seconds
    house.wall += int(seconds * 1000)
    house.pass_time(TICK)


def test_the_right_code_forgets_the_wrong_ones(locked: House) -> None:
    for _ in range(WRONG_AT_DEVICE - 1):
        try_at(locked)
    stop(locked, locked.unlock())
    for _ in range(WRONG_AT_DEVICE - 1):
        assert try_at(locked) == "Wrong code"


def test_every_try_is_in_the_ledger(locked: House) -> None:
    for _ in range(WRONG_AT_DEVICE + 2):
        try_at(locked)
    assert steps(locked) == ["wrong-code"] * 5 + ["too-many"] * 2
    assert len(alarms(locked)) == 1


def test_a_burst_gains_nothing(locked: House) -> None:
    """The limiter counts what is still being compared, and comes before the hash."""
    locked.holding_codes = True
    states = [locked.state_in(locked.swipe(CARD)) for _ in range(20)]
    for state in states:
        locked.give_code(WRONG, state)
    locked.compare()
    assert len(locked.compared) == WRONG_AT_DEVICE


def test_a_hundred_wrong_codes_close_all_devices_and_raise_an_alarm(locked: House) -> None:
    for number in range(WRONG_IN_OUTAGE):
        assert try_at(locked, f"device-{number}") == "Wrong code"
    (told,) = alarms(locked)
    assert "100 wrong codes" in told
    assert locked.site.unlocking.codes_refused("hq")
    assert try_at(locked, "copier-1", CODE) == "Too many wrong codes"
    jump(locked, 7200)
    assert try_at(locked, "copier-1", CODE) == "Too many wrong codes"
    assert len(locked.compared) == WRONG_IN_OUTAGE


def close_all(house: House) -> None:
    for number in range(WRONG_IN_OUTAGE):
        try_at(house, f"device-{number}")
    assert house.site.unlocking.codes_refused("hq")


def test_a_short_return_of_the_server_clears_no_wrong_codes(make_locked: Make) -> None:
    house = make_locked(delay=20.0)
    close_all(house)
    come_back(house)
    assert not house.site.unlocking.codes_refused("hq")
    go_away(house)
    assert try_at(house, "copier-1", CODE) == "Too many wrong codes"
    house.restart()
    assert try_at(house, "copier-1", CODE) == "Too many wrong codes"


def test_a_return_longer_than_the_delay_clears_the_wrong_codes(make_locked: Make) -> None:
    house = make_locked(delay=5.0)
    close_all(house)
    come_back(house)
    house.pass_time(6)
    go_away(house)
    assert try_at(house, "copier-1", CODE) == OFFLINE_LINE


def test_an_admin_lets_codes_be_tried_again(locked: House) -> None:
    close_all(locked)
    locked.hand("unlock-code", changed="allowed")
    assert try_at(locked, "copier-1", CODE) == OFFLINE_LINE
    assert locked.rows("SELECT who FROM unlocks WHERE outcome = 'cleared'") == [("admin",)]


def test_an_admin_who_lets_codes_be_tried_again_opens_single_devices_too(locked: House) -> None:
    for _ in range(WRONG_AT_DEVICE):
        try_at(locked)
    locked.hand("unlock-code", changed="allowed")
    assert try_at(locked, code=CODE) == OFFLINE_LINE


def test_that_an_admin_lets_codes_be_tried_again_is_in_the_ledger_in_any_case(locked: House) -> None:
    locked.hand("unlock-code", changed="allowed")
    assert locked.rows("SELECT outcome, who FROM unlocks") == [("cleared", "admin")]


def test_the_end_of_the_outage_lets_codes_be_tried_again(locked: House) -> None:
    close_all(locked)
    come_back(locked)
    go_away(locked)
    assert try_at(locked, "copier-1", CODE) == OFFLINE_LINE


def test_an_admins_unlock_is_not_blocked_when_all_devices_are_closed(locked: House) -> None:
    close_all(locked)
    locked.hand("unlock", device="device-7", scope="once")
    assert is_let_in(locked, "device-7")


def compared_at_most(seconds: float) -> int:
    """How many codes may be compared at one device in so many seconds: five, and five more after each closure that
    fits: 5 * (1 + max n with the sum of min(30 * 2**k, 3600) for k = 0 .. n-1 <= seconds). Over all devices of an
    outage, 100.
    """
    closures, gone = 0, FIRST_CLOSURE
    while gone <= seconds:
        closures += 1
        gone += min(FIRST_CLOSURE * 2**closures, LONGEST_CLOSURE)
    return WRONG_AT_DEVICE * (1 + closures)


def test_ten_thousand_guesses_over_fifty_devices_are_never_compared_faster_than_documented(locked: House) -> None:
    """Five hours of guessing at every device in turn, with an admin who opens what a hundred wrong codes close."""
    began, rounds, opened = locked.now, 200, 0
    guesses = (f"{number:06}" for number in range(10_000))
    compared: dict[str, list[float]] = {}
    for _ in range(rounds):
        for number in range(50):
            device, before = f"device-{number}", len(locked.compared)
            locked.unlock(next(guesses), device=device)
            if len(locked.compared) > before:
                compared.setdefault(device, []).append(locked.now - began)
        locked.to_devices.clear()
        if locked.site.unlocking.codes_refused("hq"):
            assert len(locked.compared) == WRONG_IN_OUTAGE * (opened + 1)
            opened += 1
            come_back(locked)
            go_away(locked)
        jump(locked, 90)
    assert opened >= 3
    assert sum(map(len, compared.values())) == len(locked.compared) <= WRONG_IN_OUTAGE * (opened + 1)
    for times in compared.values():
        for number, at in enumerate(times, 1):
            assert number <= compared_at_most(at)
    tries = locked.count("SELECT count(*) FROM unlocks WHERE outcome IN ('wrong-code', 'too-many')")
    assert tries == rounds * 50


def test_guessing_in_one_outage_ends_at_a_hundred(locked: House) -> None:
    for number in range(300):
        locked.unlock(f"{number:06}", device=f"device-{number % 50}")
        jump(locked, 60)
    assert len(locked.compared) == WRONG_IN_OUTAGE


# After a restart


def test_an_unlock_until_restored_outlives_a_restart(locked: House) -> None:
    locked.unlock(scope=UNTIL_RESTORED)
    locked.restart(down_for=300)
    assert shown(locked) == "unlocked-until-restored"
    assert is_let_in(locked)


def test_a_single_use_in_use_outlives_a_restart(locked: House) -> None:
    accept = locked.unlock()
    locked.restart(down_for=300)
    assert shown(locked) == "unlocked-once"
    assert not is_let_in(locked)
    stop(locked, accept)
    assert steps(locked)[-1] == "used"


def test_a_single_use_that_waits_for_its_session_outlives_a_restart(locked: House) -> None:
    locked.unlock(name="jsmith")
    locked.restart(down_for=60)
    assert is_let_in(locked)
    assert not is_let_in(locked)


def test_a_single_use_is_void_two_minutes_later_over_a_restart(locked: House) -> None:
    locked.unlock(name="jsmith")
    locked.restart(down_for=VOID_AFTER)
    locked.pass_time(TICK)
    assert steps(locked) == ["unlocked", "void"]
    assert not is_let_in(locked)


def test_what_was_locked_again_stays_locked_after_a_restart(locked: House) -> None:
    locked.unlock(scope=UNTIL_RESTORED)
    locked.hand("lock", device="copier-1")
    locked.restart()
    assert not is_let_in(locked)


def test_wrong_codes_count_on_over_a_restart(locked: House) -> None:
    for _ in range(WRONG_AT_DEVICE - 1):
        try_at(locked)
    locked.restart(down_for=10)
    assert try_at(locked) == "Wrong code; try again in 30 s"
    locked.restart(down_for=10)
    assert try_at(locked, code=CODE) == "Too many wrong codes; try again in 20 s"
    locked.pass_time(20)
    assert try_at(locked) == "Wrong code; try again in 60 s"


def test_an_unlock_by_hand_forgives_no_wrong_codes_before_or_after_a_restart(locked: House) -> None:
    for _ in range(WRONG_AT_DEVICE):
        try_at(locked)
    locked.hand("unlock", device="copier-1", scope="once")
    locked.hand("lock", device="copier-1")
    assert "Too many" in try_at(locked)
    locked.restart()
    assert "Too many" in try_at(locked)


def test_a_hundred_wrong_codes_count_on_over_a_restart(locked: House) -> None:
    close_all(locked)
    locked.restart(down_for=10)
    assert try_at(locked, "copier-1", CODE) == "Too many wrong codes"
    locked.hand("unlock-code", changed="allowed")
    locked.restart(down_for=10)
    assert try_at(locked, "copier-1", CODE) == OFFLINE_LINE


def test_the_wrong_codes_of_an_outage_that_is_over_count_no_more_after_a_restart(locked: House) -> None:
    close_all(locked)
    come_back(locked)
    locked.restart(down_for=10)
    go_away(locked)
    assert try_at(locked, "copier-1", CODE) == OFFLINE_LINE


def test_until_restored_is_in_force_again_over_a_restart_while_recovering(make_locked: Make) -> None:
    house = make_locked(delay=10.0)
    house.unlock(scope=UNTIL_RESTORED)
    house.move(State.RECOVERING)
    house.restart(down_for=1)
    assert house.site.unlocking.places() == {}
    go_away(house)
    assert is_let_in(house)


def test_an_unlock_is_over_if_the_server_was_found_back_at_the_start(locked: House) -> None:
    locked.unlock(scope=UNTIL_RESTORED)
    come_back(locked)
    locked.restart()
    locked.pass_time(10)
    go_away(locked)
    assert not is_let_in(locked)
