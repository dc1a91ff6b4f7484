"""Sessions by page meters: what a copier's counters moved by between two swipes is the job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.simulator.machine import KYOCERA, WRAPS
from protocols.snmp.messages import Varbind
from proxy.commands import ReadMeters
from proxy.events import MetersUnread
from tests.flows.metered_house import MeteredHouse
from tests.flows.pairs import CARD
from tests.flows.reader_house import DEVICE, OTHER

TOTAL = f"{KYOCERA}.43.10.1.1.12.1.1"


def at_work(folder: Path, **how: Any) -> MeteredHouse:
    """A house whose meters were read for the first time."""
    house = MeteredHouse(folder, **{"reader_keys": {"session_idle": 20.0}, **how})
    house.join()
    house.pass_time(1)
    return house


@pytest.fixture
def house(tmp_path: Path) -> MeteredHouse:
    return at_work(tmp_path)


def told(house: MeteredHouse, text: str) -> int:
    return sum(text in tell.text for tell in house.told)


def test_the_first_sight_of_a_machine_is_kept(house: MeteredHouse) -> None:
    assert ("total", 3000, "reading") in house.readings()
    assert ("color", 150, "reading") in house.readings()
    assert house.jobs() == []


def test_what_is_copied_in_an_offline_session_is_a_job_of_its_card(house: MeteredHouse) -> None:
    house.go_offline()
    house.swipe_card()
    house.make("copy", 7, 2)
    house.swipe_card()
    house.pass_time(1)
    assert house.jobs() == [(CARD, "offline", "copy", 7, 2)]
    assert house.rows("SELECT state FROM outbox") == [("waiting",)]


def test_jobs_of_the_servers_sessions_stay_in_the_ledger(house: MeteredHouse) -> None:
    house.swipe_card()
    house.make("copy", 3)
    house.swipe_card()
    house.pass_time(1)
    assert house.jobs() == [(CARD, "online", "copy", 3, 0)]
    assert house.rows("SELECT state FROM outbox") == []


def test_each_function_is_a_job_with_its_colour(house: MeteredHouse) -> None:
    house.go_offline()
    house.swipe_card()
    house.make("copy", 4, 1)
    house.make("print", 6, 6)
    house.make("scan", 5)
    house.swipe_card()
    house.pass_time(1)
    assert sorted(house.jobs()) == [
        (CARD, "offline", "copy", 4, 1),
        (CARD, "offline", "print", 6, 6),
        (CARD, "offline", "scan", 5, None),
    ]


def test_a_machine_that_tells_only_a_total_gives_one_job(tmp_path: Path) -> None:
    house = at_work(tmp_path, plain=True)
    house.go_offline()
    house.swipe_card()
    house.make("copy", 4, 1)
    house.swipe_card()
    house.pass_time(1)
    assert house.jobs() == [(CARD, "offline", "other", 4, None)]


def test_another_card_ends_the_session_and_takes_none_of_its_pages(house: MeteredHouse) -> None:
    house.go_offline()
    house.swipe_card()
    house.make("copy", 5)
    house.swipe_card(OTHER)
    house.make("copy", 2)
    house.swipe_card(OTHER)
    house.pass_time(1)
    assert house.pages_by_card() == {CARD: {"copy": 5}, OTHER: {"copy": 2}}


def test_a_session_in_which_pages_come_is_not_idle_and_ends_when_none_do(house: MeteredHouse) -> None:
    house.go_offline()
    house.swipe_card()
    for _ in range(4):
        house.make("copy", 1, wait=12)
    assert house.jobs() == []
    house.pass_time(26)
    assert house.jobs() == [(CARD, "offline", "copy", 4, 0)]


def test_pages_outside_any_session_are_nobodys(house: MeteredHouse) -> None:
    house.make("print", 9, wait=301)
    house.pass_time(301)
    assert house.jobs() == [("", "unknown", "print", 9, 0)]
    house.go_offline()
    assert house.rows("SELECT state FROM outbox") == []


def test_pages_before_a_swipe_are_not_those_of_the_swipe(house: MeteredHouse) -> None:
    house.go_offline()
    house.make("print", 9)
    house.swipe_card()
    house.make("copy", 2)
    house.swipe_card()
    house.pass_time(1)
    assert house.pages_by_card() == {"": {"print": 9}, CARD: {"copy": 2}}


def test_a_copier_that_sleeps_ends_the_session_late_rather_than_never(house: MeteredHouse) -> None:
    house.go_offline()
    house.swipe_card()
    house.make("copy", 3, wait=6)
    house.machine.make("copy", 4)
    house.machine.asleep = True
    house.swipe_card()
    house.pass_time(60)
    assert house.jobs() == []
    assert told(house, "its meters are not read") == 1
    house.machine.asleep = False
    house.pass_time(6)
    assert house.pages_by_card() == {CARD: {"copy": 7}}
    assert told(house, "read again") == 1


def test_pages_that_two_may_have_made_while_it_slept_are_nobodys_and_said(house: MeteredHouse) -> None:
    house.go_offline()
    house.swipe_card()
    house.make("copy", 3, wait=6)
    house.machine.asleep = True
    house.swipe_card(OTHER)
    house.pass_time(15)
    house.machine.make("copy", 2)
    house.machine.asleep = False
    house.pass_time(10)
    house.swipe_card(OTHER)
    house.pass_time(1)
    assert house.pages_by_card() == {"": {"copy": 2}, CARD: {"copy": 3}}
    assert told(house, "nobody is charged") == 1


def test_a_counter_that_falls_is_a_reset_and_never_usage(house: MeteredHouse) -> None:
    house.go_offline()
    house.swipe_card()
    house.make("copy", 3, wait=6)
    house.machine.do("reset", (), house.now)
    house.pass_time(6)
    house.make("copy", 2)
    house.swipe_card()
    house.pass_time(1)
    assert house.pages_by_card() == {CARD: {"copy": 5}}
    assert ("total", 0, "reset") in house.readings()
    assert told(house, "begun to count anew") == 1


def test_a_counter_that_wraps_at_two_to_the_32_goes_on(house: MeteredHouse) -> None:
    house.machine.counters["copy-black"] = WRAPS - 3100
    house.restart()
    house.join()
    house.pass_time(10)
    house.go_offline()
    house.swipe_card()
    before = house.machine.meters["total"]
    for _ in range(3):
        house.make("copy", 400, wait=6)
    assert house.machine.meters["total"] < before
    house.swipe_card()
    house.pass_time(1)
    assert house.pages_by_card()[CARD] == {"copy": 1200}


def test_a_fall_after_a_reboot_is_no_wrap(house: MeteredHouse) -> None:
    house.machine.counters["copy-black"] = WRAPS - 3100
    house.restart()
    house.join()
    house.pass_time(400)
    house.go_offline()
    house.swipe_card()
    house.machine.counters = dict.fromkeys(house.machine.counters, 0)
    house.machine.do("reboot", (), house.now)
    house.pass_time(6)
    house.swipe_card()
    house.pass_time(1)
    assert CARD not in house.pages_by_card()
    assert ("total", 0, "reset") in house.readings()


def test_an_absurd_leap_is_noted_and_never_usage(house: MeteredHouse) -> None:
    house.go_offline()
    house.swipe_card()
    house.make("copy", 1_000_000)
    house.make("copy", 2)
    house.swipe_card()
    house.pass_time(1)
    assert house.pages_by_card() == {}
    assert any(event == "reset" for _, _, event in house.readings())
    assert told(house, "leapt") == 1


def test_an_exchanged_machine_begins_anew(house: MeteredHouse) -> None:
    house.go_offline()
    house.swipe_card()
    house.make("copy", 3, wait=6)
    house.machine.do("exchange", (), house.now)
    house.machine.make("copy", 90_000)
    house.pass_time(6)
    house.make("copy", 2)
    house.swipe_card()
    house.pass_time(1)
    assert house.pages_by_card() == {CARD: {"copy": 5}}
    assert ("total", 90_000, "exchange") in house.readings()
    assert told(house, "was exchanged") == 1


def test_a_restart_in_the_middle_of_a_session_loses_nothing_and_counts_nothing_twice(house: MeteredHouse) -> None:
    house.go_offline()
    house.swipe_card()
    house.make("copy", 3, wait=6)
    house.machine.make("copy", 4)
    house.restart(down_for=5)
    house.pass_time(3)
    house.make("copy", 1)
    house.swipe_card()
    house.pass_time(1)
    assert house.pages_by_card() == {CARD: {"copy": 8}}
    house.restart(down_for=5)
    house.pass_time(10)
    assert house.pages_by_card() == {CARD: {"copy": 8}}


def test_pages_made_while_locum_was_not_there_are_nobodys(house: MeteredHouse) -> None:
    house.machine.make("print", 12)
    house.restart(down_for=600)
    house.join()
    house.pass_time(310)
    assert house.pages_by_card() == {"": {"print": 12}}


def test_a_total_of_the_wrong_type_or_size_is_no_reading(tmp_path: Path) -> None:
    house = at_work(tmp_path, reader_keys={"session_idle": 120.0})
    house.go_offline()
    house.swipe_card()
    for kind, value in (("octets", b"3001"), ("counter64", 1 << 63), ("integer", -2)):
        house.lies[TOTAL] = Varbind(TOTAL, kind, value)
        house.pass_time(11)
    assert told(house, "no counter of pages as it should") == 1
    house.lies.clear()
    house.make("copy", 4)
    house.swipe_card()
    house.pass_time(6)
    assert house.pages_by_card()[CARD] == {"copy": 4}


def test_what_is_wrong_with_an_agent_is_said_once_and_again_when_it_comes_back(house: MeteredHouse) -> None:
    for _ in range(2):
        house.lies = {TOTAL: Varbind(TOTAL, "octets", b"lots")}
        house.pass_time(700)
        assert house.assembly.metering.shown()[0]["kind"] == "strange"
        house.lies = {}
        house.pass_time(310)
        assert house.assembly.metering.shown()[0]["kind"] == ""
    assert told(house, "answers no counter of pages as it should") == 2
    assert told(house, "read again") == 2


def test_a_machine_that_answers_who_it_is_and_no_more_is_said(house: MeteredHouse) -> None:
    device = house.assembly.metering.devices[DEVICE]
    house.assembly.metering._pause = lambda device, now: 5.0  # type: ignore[method-assign]
    answered = house._answer

    def only_who(command: ReadMeters) -> None:
        if device.step == "who":
            answered(command)
        else:
            why = "no answer from 10.7.0.31"
            house.dispatch(command.owner, MetersUnread(command.device, command.token, "silent", why, house.moment()))

    house._answer = only_who  # type: ignore[method-assign]
    device.step, device.due = "who", 0.0
    house.pass_time(60)
    assert house.assembly.metering.shown()[0]["kind"] == "silent"
    assert told(house, "its meters are not read") == 1
    assert told(house, "read again") == 0


def test_never_more_than_one_request_is_under_way_to_a_device(tmp_path: Path) -> None:
    house = at_work(tmp_path, slow=2.5)
    house.pass_time(10)
    house.go_offline()
    for card in (CARD, OTHER, CARD, OTHER, OTHER):
        house.swipe_card(card)
    house.pass_time(30)
    assert house.most_under_way == 1
    assert house.asked > 5


def test_readings_are_kept_at_both_ends_of_an_outage_and_at_midnight(house: MeteredHouse) -> None:
    def kept() -> list[str]:
        return [str(row[0]) for row in house.rows("SELECT remark FROM meters WHERE counter = 'total' ORDER BY seq")]

    before = len(kept())
    house.go_offline()
    house.pass_time(1)
    house.come_back()
    house.pass_time(1)
    remarks = kept()[before:]
    assert [remark.partition(" of")[0] for remark in remarks] == ["beginning", "end"]
    house.wall += 24 * 3_600_000
    house.pass_time(1)
    assert kept()[-1].startswith("midnight")


def test_the_sum_of_jobs_is_what_the_meter_moved_by(house: MeteredHouse) -> None:
    first = house.machine.meters["total"]
    house.make("print", 3, 1, wait=40)
    house.swipe_card()
    house.make("copy", 5, 5, wait=8)
    house.go_offline()
    house.swipe_card(OTHER)
    house.make("fax", 2)
    house.machine.asleep = True
    house.pass_time(20)
    house.machine.make("copy", 6)
    house.machine.asleep = False
    house.swipe_card(OTHER)
    house.make("print", 1)
    house.come_back()
    house.pass_time(700)
    assert house.pages() == house.machine.meters["total"] - first


def test_a_terminal_server_gets_the_jobs_as_records_of_its_own_kind(tmp_path: Path) -> None:
    house = at_work(tmp_path, server_speaks="terminal")
    house.go_offline()
    house.swipe_card()
    house.make("copy", 7, 2)
    house.make("print", 3)
    house.swipe_card()
    house.pass_time(1)
    assert house.rows("SELECT state FROM outbox") == [("waiting",), ("waiting",)]
    assert {row[0] for row in house.rows("SELECT dialect FROM jobs")} == {"terminal"}
    house.come_back()
    house.pass_time(2)
    assert house.rows("SELECT outcome FROM deliveries ORDER BY seq") == [("delivered",), ("delivered",)]


def test_jobs_of_a_drill_go_to_the_server_when_it_ends(house: MeteredHouse) -> None:
    house.hand("drill-start", device="OLD-1", seconds=600, reason="a test")
    house.pass_time(1)
    house.swipe_card()
    house.make("copy", 2)
    house.swipe_card()
    house.pass_time(1)
    assert house.jobs() == [(CARD, "drill", "copy", 2, 0)]
    house.hand("drill-stop", device="OLD-1")
    house.pass_time(5)
    assert house.rows("SELECT count(*) FROM outbox WHERE state = 'waiting'") == [(0,)]
