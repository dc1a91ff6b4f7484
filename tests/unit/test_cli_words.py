"""Times, lengths and sizes in words."""

import pytest

from appliance.cli import words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (7380, "2 h 3 min"),
        (3600, "1 h"),
        (90000, "1 d 1 h"),
    ],
)
def test_a_length_of_time_has_its_two_largest_units(seconds: float, said: str) -> None:
    assert words.length(seconds) == said


@pytest.mark.parametrize(
    ("octets", "said"),
    [(999, "999 bytes"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (5e12, "5,000.0 GB")],
)
def test_a_size_has_a_unit(octets: float, said: str) -> None:
    assert words.size(octets) == said


def test_a_time_of_today_is_told_without_its_date() -> None:
    now = words.instant("2026-11-22T12:00:00.000Z")
    assert now is not None
    assert len(words.local("2026-11-22T12:00:00.000Z", now)) == len("12:00:00")
    assert words.local("2025-01-01T12:00:00.000Z", now).startswith("2025-01-0")
    assert words.ago("2026-11-22T11:58:00.000Z", now) == "2 min"
    assert words.ago("2026-11-22T12:58:00.000Z", now) == "0 s"
    assert (words.local(None, now), words.ago("nonsense", now)) == ("-", "-")


def test_one_is_one() -> None:
    assert (words.count(1, "record"), words.count(2000, "entry", "entries")) == ("1 record", "2,000 entries")
