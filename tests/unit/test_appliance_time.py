"""Time across restarts and clock steps: which clock is believed, and what is kept when the wall clock was set."""

from __future__ import annotations

import time

import pytest

from appliance.assembly import passed_since, this_boot
from appliance.clockwatch import STEP, ClockWatch
from proxy.commands import Keep, Tell
from proxy.events import Moment
from proxy.link import Clock
from storage.records import Note, OutageStep

WALL = 1_795_000_000_000


def at(now: float, wall: int) -> Moment:
    return Moment(now, wall, bytes(32))


def step(boot_id: str = "boot", boot_ms: int = 50_000) -> OutageStep:
    return OutageStep(WALL, "hq", WALL, "failed", "grace", "cause", boot_id, boot_ms)


def test_in_the_same_boot_the_boot_clock_counts_whatever_the_wall_clock_says() -> None:
    clock = Clock("boot", 1_000)
    assert passed_since(step(), clock, WALL, at(60.0, WALL - 86_400_000)) == pytest.approx(11.0)
    assert passed_since(step(), clock, WALL, at(60.0, WALL + 86_400_000)) == pytest.approx(11.0)


def test_after_a_reboot_the_wall_clock_counts_if_it_is_not_before_the_last_entry() -> None:
    clock = Clock("another", 0)
    assert passed_since(step(), clock, WALL + 5_000, at(1.0, WALL + 5_000)) == pytest.approx(5.0)


def test_after_a_reboot_with_a_clock_before_the_last_entry_nothing_has_passed() -> None:
    assert passed_since(step(), Clock("another", 0), WALL + 5_000, at(1.0, WALL + 4_999)) == 0.0


def test_without_a_boot_id_the_boot_clock_is_not_believed() -> None:
    assert passed_since(step(boot_id=""), Clock("", 0), WALL, at(90.0, WALL + 7_000)) == pytest.approx(7.0)


def test_time_never_runs_backwards() -> None:
    assert passed_since(step(), Clock("boot", 0), WALL, at(1.0, WALL)) == 0.0
    assert passed_since(step(), Clock("x", 0), WALL - 10_000, at(1.0, WALL - 5_000)) == 0.0


def test_this_boot_has_an_id_and_stands_to_the_monotonic_clock() -> None:
    clock = this_boot()
    assert clock.boot_id
    now = time.monotonic()
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert clock.at(at(now, 0)) == pytest.approx(boot * 1000, abs=100)
    assert this_boot().boot_id == clock.boot_id


def looks(*pairs: tuple[float, int]) -> list[object]:
    watch = ClockWatch()
    return [command for now, wall in pairs for command in watch.look(at(now, wall))]


def test_clocks_that_go_together_are_no_step() -> None:
    assert looks((0.0, WALL), (0.05, WALL + 50), (3600.0, WALL + 3_600_000)) == []


@pytest.mark.parametrize(("by", "words"), [(STEP, "forward by 2.0 s"), (-86_400_000, "back by 86400.0 s")])
def test_a_step_is_kept_and_told(by: int, words: str) -> None:
    kept, told = looks((0.0, WALL), (1.0, WALL + 1000 + by))
    assert isinstance(kept, Keep)
    assert isinstance(kept.change, Note)
    assert (kept.change.kind, kept.change.data) == ("clock-step", {"milliseconds": by})
    assert isinstance(told, Tell)
    assert words in told.text


def test_a_step_is_told_once() -> None:
    assert len(looks((0.0, WALL), (1.0, WALL + 11_000), (2.0, WALL + 12_000))) == 2
