"""Midnight in the site's time zone: days of 23 and 25 hours, clocks that are set, zones that change at midnight."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering.midnight import Midnights, next_midnight

HOUR = 3_600_000
ZONES = ("Europe/Berlin", "America/Havana", "Asia/Beirut", "Pacific/Apia", "Australia/Lord_Howe", "UTC", "Asia/Kolkata")


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("zone", "now", "midnight"),
    [
        ("Europe/Berlin", "2026-03-28T23:00:00", "2026-03-29T22:00:00"),  # a day of 23 hours
        ("Europe/Berlin", "2026-10-24T22:00:00", "2026-10-25T23:00:00"),  # a day of 25 hours
        ("Europe/Berlin", "2026-10-25T00:30:00", "2026-10-25T23:00:00"),  # in the hour that is there twice
        ("Europe/Berlin", "2026-10-25T01:30:00", "2026-10-25T23:00:00"),
        ("Asia/Beirut", "2026-03-28T12:00:00", "2026-03-28T22:00:00"),  # midnight is left out
        ("America/Havana", "2026-10-31T12:00:00", "2026-11-01T04:00:00"),  # midnight is there twice
    ],
)
def test_midnight_when_clocks_are_changed(zone: str, now: str, midnight: str) -> None:
    assert next_midnight(utc(now), ZoneInfo(zone)) == utc(midnight)


@given(st.sampled_from(ZONES), st.integers(utc("2000-01-01"), utc("2036-12-31")))
def test_there_is_one_midnight_a_day(zone: str, wall: int) -> None:
    found = next_midnight(wall, ZoneInfo(zone))
    assert wall < found <= wall + 26 * HOUR
    before = datetime.fromtimestamp((found - 1) / 1000, ZoneInfo(zone)).date()
    assert datetime.fromtimestamp(found / 1000, ZoneInfo(zone)).date() > before or zone == "America/Havana"


def test_each_midnight_passes_once_through_a_year_with_both_changes() -> None:
    midnights, wall, passed = Midnights(ZoneInfo("Europe/Berlin")), utc("2025-12-31T23:00:00"), []
    while wall < utc("2026-12-31T22:59:00"):
        if midnights.passed(wall):
            passed.append(datetime.fromtimestamp(wall / 1000, ZoneInfo("Europe/Berlin")))
        wall += 10 * 60_000
    assert len(passed) == 364
    assert {(each.hour, each.minute) for each in passed} == {(0, 0)}


def test_a_clock_that_was_years_ahead_does_not_end_all_midnights() -> None:
    midnights = Midnights(ZoneInfo("UTC"))
    assert not midnights.passed(utc("2031-05-05T12:00:00"))
    assert not midnights.passed(utc("2026-05-05T12:00:00"))
    assert midnights.passed(utc("2026-05-06T00:00:01"))


def test_another_zone_counts_at_once() -> None:
    midnights = Midnights(ZoneInfo("UTC"))
    assert not midnights.passed(utc("2026-05-05T12:00:00"))
    midnights.zone = ZoneInfo("Asia/Kolkata")
    assert not midnights.passed(utc("2026-05-05T12:00:01"))
    assert midnights.passed(utc("2026-05-05T18:30:00"))
