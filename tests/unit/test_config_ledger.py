"""[ledger]: how long personal data is kept, and the zone that exports and reports show times in."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config import ConfigError, LedgerConfig, time_zone_of
from tests.unit.configs import SMALL, loaded, write

DAY = 86_400


def ledger(folder: Path, lines: str) -> LedgerConfig:
    return loaded(folder, f"{SMALL}\n[ledger]\n{lines}\n").ledger


def test_without_the_section_personal_data_is_kept_for_ever_and_the_zone_is_the_machines(tmp_path: Path) -> None:
    assert loaded(tmp_path, SMALL).ledger == LedgerConfig(None, None) == ledger(tmp_path, "")


@pytest.mark.parametrize(("written", "seconds"), [("1d", DAY), ("24h", DAY), ("365d", 365 * DAY), ("1.5d", 1.5 * DAY)])
def test_personal_data_is_kept_for_a_day_at_least(tmp_path: Path, written: str, seconds: float) -> None:
    assert ledger(tmp_path, f'keep_personal = "{written}"').keep_personal == seconds


@pytest.mark.parametrize("written", ['"23h"', '"0s"', "0", "365", '"365"', '"one year"', "true", '"40000d"'])
def test_any_other_time_is_refused_with_an_example(tmp_path: Path, written: str) -> None:
    with pytest.raises(ConfigError, match=r'keep_personal must be a duration from 1d .* keep_personal = "365d"'):
        ledger(tmp_path, f"keep_personal = {written}")


def test_a_time_zone_is_known_by_its_name(tmp_path: Path) -> None:
    assert ledger(tmp_path, 'time_zone = "Europe/Berlin"').time_zone == "Europe/Berlin"
    with pytest.raises(ConfigError, match=r'"Europe/Berlln" is no time zone .* did you mean "Europe/Berlin"'):
        ledger(tmp_path, 'time_zone = "Europe/Berlln"')


def test_an_unknown_key_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'unknown key "keep_personnel" in .ledger.; did you mean "keep_personal"'):
        ledger(tmp_path, 'keep_personnel = "365d"')


def test_the_zone_is_found_in_a_file_with_mistakes_elsewhere(tmp_path: Path) -> None:
    broken = 'nonsense = 1\n[ledger]\ntime_zone = "Asia/Tokyo"\n'
    assert time_zone_of(write(tmp_path, broken)) == "Asia/Tokyo"
    assert time_zone_of(write(tmp_path, SMALL)) is None


@pytest.mark.parametrize("zone", ['"Nowhere"', "5", "[]"])
def test_a_zone_in_it_that_nobody_knows_is_named_with_its_line(tmp_path: Path, zone: str) -> None:
    with pytest.raises(ConfigError) as raised:
        time_zone_of(write(tmp_path, f"[ledger]\n\ntime_zone = {zone}\n"))
    assert [each.line for each in raised.value.problems] == [3]
    assert "is no time zone" in str(raised.value)
