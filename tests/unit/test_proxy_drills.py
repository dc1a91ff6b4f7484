"""Drills without a wire: on which devices they run, for how long, and what a restart makes of their steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.commands import Command, Keep, Tell
from proxy.drills import ALL, LONGEST, Drills
from proxy.events import Moment
from storage.records import DrillStep

WALL = 1_795_000_000_000
DEVICES = ("a", "b", "c")


def at(now: float) -> Moment:
    return Moment(now, WALL + int(now * 1000), bytes(32))


def on(drills: Drills) -> str:
    return "".join(device for device in DEVICES if drills.on(device))


def steps(commands: list[Command]) -> list[DrillStep]:
    return [each.change for each in commands if isinstance(each, Keep) and isinstance(each.change, DrillStep)]


Act = Callable[[Drills, float], list[Command]]


def start(device: str, seconds: float = 600) -> Act:
    return lambda drills, now: drills.start(device, seconds, "why", "admin", at(now))


def stop(device: str) -> Act:
    return lambda drills, now: drills.stop(device, "by hand", "admin", at(now))


def tick(drills: Drills, now: float) -> list[Command]:
    return drills.tick(at(now))


CASES: list[tuple[str, list[tuple[float, Act]], str]] = [
    ("one", [(0, start("a"))], "a"),
    ("one ended", [(0, start("a")), (1, stop("a"))], ""),
    ("one over", [(0, start("a", 10)), (10, tick)], ""),
    ("one almost over", [(0, start("a", 10)), (9.9, tick)], "a"),
    ("all", [(0, start(ALL))], "abc"),
    ("all but one", [(0, start(ALL)), (1, stop("b"))], "ac"),
    ("the spared one after all", [(0, start(ALL)), (1, stop("b")), (2, start("b"))], "abc"),
    ("all anew", [(0, start(ALL)), (1, stop("b")), (2, start(ALL))], "abc"),
    ("one and all, all ended", [(0, start("a")), (1, start(ALL)), (2, stop(ALL))], ""),
    ("one and all, one ended", [(0, start("a")), (1, start(ALL)), (2, stop("a"))], "bc"),
    ("one and all, one over", [(0, start("a", 10)), (1, start(ALL)), (10, tick)], "abc"),
    ("one and all, all over", [(0, start("a", 100)), (1, start(ALL, 10)), (50, tick)], "a"),
    ("all over, none spared later", [(0, start(ALL, 10)), (1, stop("b")), (20, tick), (21, start("b"))], "b"),
    ("longer", [(0, start("a", 10)), (5, start("a", 10)), (12, tick)], "a"),
]


@pytest.mark.parametrize(("acts", "runs"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_where_drills_run_and_a_restart_finds_the_same(acts: list[tuple[float, Act]], runs: str) -> None:
    drills, kept = Drills(), []
    for now, act in acts:
        kept += steps(act(drills, now))
        assert kept, "every drill is in the ledger"
    assert on(drills) == runs
    found = Drills()
    found.restore(kept, at(acts[-1][0]))
    assert on(found) == runs
    assert found.running().keys() == drills.running().keys()


def test_both_ends_are_told() -> None:
    drills = Drills()
    told = [*drills.start("a", 60, "why", "admin", at(0)), *drills.tick(at(60))]
    assert [(each.level, each.alarm) for each in told if isinstance(each, Tell)] == [
        ("warning", "drill"),
        ("info", "drill"),
    ]


def test_who_waits_for_an_end_is_told_once() -> None:
    drills, heard = Drills(), []

    def ended(running: Callable[[str], bool], moment: Moment) -> list[Command]:
        heard.append([device for device in DEVICES if running(device)])
        return []

    drills.ended.append(ended)
    drills.start("a", 60, "why", "admin", at(0))
    drills.start("b", 120, "why", "admin", at(0))
    drills.tick(at(30))
    drills.tick(at(60))
    drills.tick(at(61))
    drills.stop(ALL, "by hand", "admin", at(62))
    assert heard == [["b"], []]


def test_there_is_nothing_to_end_where_none_runs() -> None:
    drills = Drills()
    assert drills.stop("a", "by hand", "admin", at(0)) == drills.stop(ALL, "by hand", "admin", at(0)) == []
    assert drills.tick(at(5)) == []


@pytest.mark.parametrize("seconds", [LONGEST, LONGEST + 1, 1e9])
def test_four_hours_are_the_longest(seconds: float) -> None:
    drills = Drills()
    drills.start("a", seconds, "why", "admin", at(0))
    drills.tick(at(LONGEST - 1))
    assert drills.on("a")
    drills.tick(at(LONGEST))
    assert not drills.on("a")


def test_what_ran_out_while_locum_was_down_ends_at_the_first_tick() -> None:
    before, after = Drills(), Drills()
    kept = steps(before.start("a", 60, "why", "admin", at(0)))
    after.restore(kept, at(100))
    (ended,) = steps(after.tick(at(100)))
    assert (ended.device, ended.did, ended.reason) == ("a", "stop", "its time is over")
    assert not after.any


def test_a_clock_that_went_back_prolongs_nothing() -> None:
    before, after = Drills(), Drills()
    kept = steps(before.start("a", 60, "why", "admin", at(0)))
    after.restore(kept, Moment(500.0, WALL - 86_400_000, bytes(32)))
    assert after.running()["a"].ends == 560.0
