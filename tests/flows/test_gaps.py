"""What a full disk kept from being written is noted as a gap. `offline-mode.md`, "Locum cannot store"."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from protocols.radius.packet import Code
from protocols.terminal.messages import LoginStatus, UnlockStatus
from proxy.gaps import NOTE_EVERY
from proxy.link import State
from tests.flows.house import House
from tests.flows.terminal_house import Make, TerminalHouse, houses, job, unlock

COUNTED = ("records", "logins", "others")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with houses(tmp_path) as make:
        yield make


def gaps(house: House | TerminalHouse) -> list[dict[str, Any]]:
    return [json.loads(data) for (data,) in house.rows("SELECT data FROM notes WHERE note = 'gap' ORDER BY seq")]


def counted(house: House | TerminalHouse) -> tuple[int, ...]:
    """Records, logins and others of all gaps together."""
    found = gaps(house)
    return tuple(sum(gap[what] for gap in found) for what in COUNTED)


def logins(house: House | TerminalHouse) -> int:
    return house.count("SELECT count(*) FROM logins")


def test_logins_and_records_that_were_relayed_unkept_are_one_gap(house: House) -> None:
    house.disk_full = True
    began = house.wall
    for card in ("0A1B2C3D", "FEEDFEED"):
        assert house.code(house.swipe(card)) in (Code.ACCESS_ACCEPT, Code.ACCESS_REJECT)
        house.pass_time(0.2)
    house.account(job="1")
    house.pass_time(0.2)
    ended = house.wall
    house.swipe("0A1B2C3D", device="copier-2")
    house.disk_full = False
    house.swipe("0A1B2C3D", device="copier-3")
    assert logins(house) == 1
    assert gaps(house) == [{"upstream": "hq", "first": began, "last": ended, "records": 1, "logins": 3, "others": 0}], (
        "as soon as something is stored, once"
    )
    house.pass_time(120)
    assert len(gaps(house)) == 1


def test_a_gap_is_noted_without_any_traffic_when_storing_works_again(house: House) -> None:
    house.disk_dead = True
    house.swipe("0A1B2C3D")
    house.pass_time(30)
    house.disk_dead = False
    house.pass_time(2)
    assert counted(house) == (0, 1, 0)


def test_while_the_disk_stays_full_a_note_is_written_once_a_minute_and_nothing_is_counted_twice(house: House) -> None:
    house.disk_full = True
    minutes = 3
    for _ in range(minutes * 60):
        house.swipe("0A1B2C3D")
        house.pass_time(1)
    house.disk_full = False
    house.pass_time(NOTE_EVERY)
    assert minutes <= len(gaps(house)) <= minutes + 2
    assert counted(house) == (0, minutes * 60, 0)


def test_what_a_device_is_left_to_send_again_is_no_gap(house: House) -> None:
    house.move(State.OFFLINE)
    house.disk_full = True
    house.account(job="1")
    house.pass_time(5)
    house.disk_full = False
    house.pass_time(5)
    assert gaps(house) == []


def test_a_login_that_nobody_answered_because_the_grant_could_not_be_stored_is_counted(house: House) -> None:
    house.move(State.OFFLINE)
    house.disk_full = True
    packet = house.swipe("0A1B2C3D")
    house.pass_time(20)
    assert house.code(packet) is None
    house.disk_full = False
    house.pass_time(NOTE_EVERY)
    assert counted(house) == (0, 1, 0)


def test_an_unreadable_record_whose_bytes_could_not_be_kept_is_counted(make_house: Callable[..., House]) -> None:
    house = make_house()
    house.disk_full = True
    house.account((55, b"no time"))
    house.disk_full = False
    house.pass_time(2)
    assert counted(house) == (1, 0, 1)


def test_terminals_logins_and_jobs_that_were_relayed_unkept_are_one_gap(make: Make) -> None:
    house = make()
    house.disk_full = True
    began = house.wall
    device = house.device()
    session = device.login().session
    device.tell(job(session))
    house.disk_full = False
    house.device("copier-2", 32).login()
    (gap,) = gaps(house)
    assert (gap["first"], gap["last"]) == (began, began)
    assert counted(house) == (1, 1, 0)
    assert logins(house) == 1


@pytest.mark.parametrize("server", ["papercut", "terminal"])
def test_a_terminal_that_is_refused_because_the_grant_could_not_be_stored_is_counted(make: Make, server: str) -> None:
    house = make(State.OFFLINE, server=server)
    house.disk_full = True
    assert house.device().login().status == LoginStatus.UNAVAILABLE
    house.disk_full = False
    house.pass_time(2)
    assert counted(house) == (0, 1, 0)


@pytest.mark.parametrize("code", ["246813", "000000"])
def test_a_code_that_was_tried_while_nothing_could_be_stored_is_counted(make: Make, code: str) -> None:
    house = make(State.OFFLINE)
    house.lock()
    device = house.device()
    house.disk_full = True
    assert device.tell(unlock(code)).status != UnlockStatus.UNLOCKED
    house.disk_full = False
    house.pass_time(2)
    assert counted(house) == (0, 0, 1)
