"""Readings that Locum keeps by itself: at both ends of an outage and at midnight, and what is made of them.

One night in which clocks go back, in the site's time zone, with an outage across midnight; the commands, the report and
the ledger's views then see meters and jobs side by side.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from appliance.cli import main
from appliance.config import Config
from appliance.report import gaps
from tests.flows.metered_house import MeteredHouse
from tests.flows.pairs import CARD
from tests.flows.reader_house import DEVICE
from tests.unit.test_report_figures import ask

BERLIN = ZoneInfo("Europe/Berlin")


class NightHouse(MeteredHouse):
    """In Berlin, on 24 October 2026, a quarter of an hour before midnight; clocks go back at three."""

    def config(self) -> Config:
        config = super().config()
        return replace(config, ledger=replace(config.ledger, time_zone="Europe/Berlin"))


@pytest.fixture
def house(tmp_path: Path) -> NightHouse:
    begins = datetime(2026, 10, 24, 21, 45, tzinfo=UTC)
    made = NightHouse(tmp_path, reader_keys={"session_idle": 20.0}, wall=int(begins.timestamp() * 1000))
    made.join()
    made.pass_time(1)
    return made


def kept(house: MeteredHouse) -> list[tuple[str, str, int]]:
    """When, by the clock on the wall, why, and the total, of each reading of the total."""
    rows = house.rows("SELECT taken_at, remark, value FROM meters WHERE counter = 'total' ORDER BY seq")
    moments = [datetime.fromisoformat(at).astimezone(BERLIN) for at, _, _ in rows]
    return [
        (f"{moment:%d %H:%M}", remark.partition("; {")[0] if not remark.startswith("{") else "", value)
        for moment, (_, remark, value) in zip(moments, rows, strict=True)
    ]


def jump(house: MeteredHouse, hours: float) -> None:
    """Let the clock on the wall go on without anything happening."""
    house.wall += int(hours * 3_600_000)
    house.pass_time(2)


def test_an_outage_across_a_midnight_on_which_clocks_change(
    house: NightHouse, capsys: pytest.CaptureFixture[str]
) -> None:
    first = house.machine.meters["total"]
    house.go_offline()
    house.swipe_card()
    house.make("copy", 7, 2)
    house.swipe_card()
    house.pass_time(2)
    jump(house, 0.25)
    house.swipe_card()
    house.make("print", 5)
    house.swipe_card()
    jump(house, 8)
    house.come_back()
    house.pass_time(2)
    jump(house, 17)
    readings = kept(house)
    assert [(when, why) for when, why, _ in readings if why] == [
        ("24 23:45", "beginning of an outage of hq"),
        ("25 00:00", "midnight"),
        ("25 07:00", "end of an outage of hq"),
        ("26 00:00", "midnight"),
    ]
    totals = {why: total - first for _, why, total in readings if why}
    assert totals == {"beginning of an outage of hq": 0, "midnight": 12, "end of an outage of hq": 12}

    assert house.rows("SELECT DISTINCT source, who FROM readings") == [("snmp", "")]
    moved = house.rows("SELECT sum(since_before) FROM readings WHERE counter = 'total'")
    assert moved == house.rows("SELECT sum(pages) FROM jobs_counted WHERE kind <> 'scan'") == [(12,)]
    assert house.pages_by_card() == {CARD: {"copy": 7, "print": 5}}

    state = ["--state-dir", str(house.folder), "--time-zone", "Europe/Berlin"]
    house.ledger.close()
    assert main(["meters", "list", DEVICE, *state]) == 0
    listed = capsys.readouterr().out
    assert "2026-10-25 00:00" in listed
    assert "2026-10-26 00:00" in listed
    assert main(["meters", "reconcile", "--outage", "--json", *state]) == 0
    (total,) = [each for each in json.loads(capsys.readouterr().out) if each["counter"] == "total"]
    assert (total["meter"], total["ledger"], total["gap"]) == (12, 12, 0)

    summary = ask(house.folder / "ledger.db", "2026-10-24", "2026-10-26")
    chapter = gaps.meters(summary)
    assert "counted 12 pages, and the ledger has 12 of the same times: they agree" in chapter.says[0]
    assert chapter.chart is not None
