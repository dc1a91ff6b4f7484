"""Unlocking at the terminal and by the command line, and drills. `offline-mode.md`, "Unlocking" and "Drills".

One line for all tests here, in the environment education; each test uses devices of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.peers.office import ADA, BO, CY, Office, open_office
from tests.peers.terminal import LOCKED, OFFLINE, OFFLINE_LOCKED, ONLINE, STORED
from tests.peers.waiting import eventually

CODE = "735912-Oak"
WRONG_CODE = "112233-Elm"
ONCE, UNTIL_RESTORED = 1, 2
UNLOCKED, WRONG, TOO_MANY, NOT_OFFLINE = range(4)


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with ExitStack() as endings:
        home = tmp_path_factory.mktemp("school")
        office = open_office(home, endings, offline={"environment": "education"})
        office.locum("unlock-code", "set", stdin=CODE + "\n")
        yield office


@pytest.fixture
def away(school: Office) -> Office:
    """The line while the server is away; one outage is enough for several tests."""
    if school.shop.state() == "online":
        school.go_offline()
    return school


@pytest.fixture
def back(school: Office) -> Office:
    """The line with the server, and nothing waiting."""
    if school.shop.state() != "online":
        school.come_back()
    return school


def _device(office: Office, name: str) -> dict[str, Any]:
    found = [each for each in office.locum_json("devices") if each["id"] == name]
    assert len(found) == 1, f"{name}: {found}"
    device: dict[str, Any] = found[0]
    return device


def test_a_code_at_the_terminal_opens_for_one_person_or_until_the_server_is_back(away: Office) -> None:
    """Locked, wrong code, single use, used up; until restored; dropped when the server is back."""
    terminal = away.terminal("KM-1")
    assert terminal.ping() == OFFLINE_LOCKED
    refused = terminal.swipe(ADA)
    assert refused.status == LOCKED
    assert refused.session == 0
    assert _device(away, "KM-1")["offline"] == "locked"
    assert terminal.unlock(WRONG_CODE) == (WRONG, 0)
    assert terminal.unlock(CODE, ONCE) == (UNLOCKED, 0)
    assert terminal.ping() == OFFLINE
    assert "once" in _device(away, "KM-1")["offline"]
    session = terminal.log_in(ADA)
    assert terminal.job(session, pages=11) == STORED
    terminal.logout(session)
    assert terminal.swipe(BO).status == LOCKED, "the single use is used up"
    assert terminal.unlock(CODE, UNTIL_RESTORED) == (UNLOCKED, 0)
    assert "restored" in _device(away, "KM-1")["offline"]
    for card in (BO, CY):
        session = terminal.log_in(card)
        assert terminal.job(session, pages=12) == STORED
        terminal.logout(session)
    assert away.terminal("KM-2").swipe(CY).status == LOCKED, "an unlock is for one device"
    away.come_back()
    assert terminal.ping() == ONLINE
    assert terminal.unlock(CODE, ONCE)[0] == NOT_OFFLINE
    assert [(each.user, each.pages) for each in away.booked("KM-1")] == [("ada", 11), ("bo", 12), ("cy", 12)]

    def outcomes() -> list[str]:
        return [row["outcome"] for row in away.shop.query("SELECT outcome FROM unlocks WHERE device = 'KM-1'")]

    eventually(lambda: "not-offline" in outcomes(), 5, "the last try is in the ledger too")
    assert outcomes().count("wrong-code") == 1
    assert {"unlocked", "begun", "used", "dropped"} <= set(outcomes())


def test_the_command_line_unlocks_and_locks_a_device_or_all(away: Office) -> None:
    """`unlock DEVICE --once|--until-restored`, `--all`, `lock`; who did it stands in the ledger; kill -9 keeps it."""
    one, other = away.terminal("KM-3"), away.terminal("KM-4")
    away.locum("unlock", "KM-3", "--once")
    session = one.log_in(ADA)
    one.logout(session)
    assert one.swipe(ADA).status == LOCKED
    away.locum("unlock", "--all", "--until-restored")
    one.logout(one.log_in(ADA))
    session = other.log_in(BO)
    away.locum("lock", "KM-4")
    assert other.job(session, pages=5) == STORED, "a session that is open goes on"
    other.logout(session)
    assert other.swipe(BO).status == LOCKED
    away.shop.kill()
    away.shop.start()
    away.shop.wait_for_state("offline")
    away.terminal("KM-3").log_in(ADA)
    assert away.terminal("KM-4").swipe(BO).status == LOCKED
    steps = away.shop.query("SELECT outcome, who FROM unlocks WHERE outcome LIKE 'by-hand-%'")
    assert {row["outcome"] for row in steps} == {"by-hand-unlocked", "by-hand-locked"}
    assert all("uid" in row["who"] for row in steps)


def test_guessing_at_the_wire_is_slowed_and_the_command_line_is_not(away: Office) -> None:
    """Of a burst of 30 codes five are looked at; then none for 30 s, not even the right one; other devices may try."""
    guesser, honest = away.terminal("KM-5"), away.terminal("KM-6")
    answers = guesser.unlock_at_once(*(f"guess-{number:04}" for number in range(30)))
    assert sum(status == WRONG for status, _ in answers) == 5
    assert {status for status, _ in answers} == {WRONG, TOO_MANY}
    status, wait = guesser.unlock(CODE)
    assert status == TOO_MANY
    assert 0 < wait <= 30
    assert guesser.swipe(ADA).status == LOCKED
    assert honest.unlock(CODE) == (UNLOCKED, 0)
    assert away.wait_for_line("wrong codes")[0] == "warning"
    away.locum("unlock", "KM-5", "--once")
    guesser.log_in(ADA)


def test_a_drill_is_an_outage_for_those_devices_and_its_jobs_are_marked_and_forwarded_at_its_end(
    back: Office,
) -> None:
    """The server is up: the drilled device is locked and works by code; the others are online; the stop forwards."""
    drilled, other = back.terminal("KM-7"), back.terminal("KM-8")
    assert back.shop.run_to_its_end("drill", "start", "KM-7", "--for", "30m").returncode == 2, "a reason is needed"
    back.locum("drill", "start", "KM-7", "--for", "30m", "--reason", "fire drill")
    assert drilled.ping() == OFFLINE_LOCKED
    assert other.ping() == ONLINE
    assert drilled.swipe(ADA).status == LOCKED
    assert drilled.unlock(CODE, UNTIL_RESTORED) == (UNLOCKED, 0)
    session = drilled.log_in(ADA)
    assert drilled.job(session, pages=71) == STORED
    drilled.logout(session)
    assert other.job(other.log_in(BO), pages=81) == STORED
    assert _device(back, "KM-7")["drill"]
    status = back.locum_json("status")
    assert "KM-7" in str(status["drills"])
    assert status["upstreams"][0]["state"] == "online"
    assert [each["drill"] for each in status["devices"] if each["id"] in ("KM-7", "KM-8")] == [True, False]
    eventually(lambda: back.booked("KM-8"), 5, "the other device's job is booked")
    assert back.booked("KM-7") == [], "a drill holds its jobs back, as an outage would"
    back.locum("drill", "stop", "KM-7")
    eventually(lambda: back.booked("KM-7"), 10, "it is forwarded at the end")
    assert [(each.user, each.pages) for each in back.booked("KM-7")] == [("ada", 71)]
    assert drilled.ping() == ONLINE
    (job,) = back.shop.query("SELECT mode FROM jobs WHERE device = 'KM-7'")
    assert job["mode"] == "drill"
    rows = back.shop.query("SELECT did, device, reason, who FROM drills ORDER BY seq")
    assert [(row["did"], row["device"]) for row in rows] == [("start", "KM-7"), ("stop", "KM-7")]
    assert rows[0]["reason"] == "fire drill"
    assert all("uid" in row["who"] for row in rows)
    assert back.locum_json("status")["drills"] == []


def test_no_code_and_no_card_is_in_any_text(school: Office) -> None:
    """The log, App.Log and the entries have neither; the code is in no file at all, only its Argon2id hash is."""
    texts = [school.shop.log_text(), *(text for _, text in school.app_log())]
    texts += [row["body"] for row in school.shop.query("SELECT body FROM entries")]
    for hidden in (CODE, WRONG_CODE, "guess-00", ADA, BO, CY):
        assert not [text for text in texts if hidden.lower() in text.lower()], hidden
    files = [each for each in school.shop.home.rglob("*") if each.is_file()]
    contents = {each: each.read_bytes() for each in files}
    for hidden in (CODE, WRONG_CODE, "guess-00"):
        assert not [each for each, data in contents.items() if hidden.encode() in data], hidden
    holders = [each for each, data in contents.items() if b"$argon2id$" in data]
    assert len(holders) == 1
    assert holders[0].stat().st_mode & 0o077 == 0
