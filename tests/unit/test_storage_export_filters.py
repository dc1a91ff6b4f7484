"""What a filtered export holds: what was asked for, what belongs to it, and what the chain needs."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from storage import times
from storage.export.filters import Filters, WrongFilter, moment
from storage.export.making import FORMATS
from storage.ledger import Ledger
from storage.records import OutboxState, Sign
from storage.signing import Signer
from storage.verify import verify
from tests.unit.storage_exports import BERLIN, CARD, OTHER_CARD, OTHER_DEVICE, exported, ledger
from tests.unit.storage_samples import DAY, NOW, job

OUTAGE = times.text(NOW + DAY)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return ledger(tmp_path / "ledger.db")


def read(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


PLAIN = ("jobs", "accounting", "logins", "logouts", "outage_events", "unlocks", "drills", "deliveries", "app_log")
PLAIN += ("meters", "quarantine", "traps", "trap_forwards", "notes")


def kinds(path: Path) -> dict[str, int]:
    """How many rows each plain table has, those without any left out."""
    counts = {table: read(path, f"SELECT count(*) FROM {table}")[0][0] for table in PLAIN}
    return {table: count for table, count in counts.items() if count}


def test_a_device_has_its_rows_drills_on_all_and_what_became_of_its_records(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out.db", "sqlite", Filters(devices=(OTHER_DEVICE,)))
    assert kinds(tmp_path / "out.db") == {
        "accounting": 1, "app_log": 1, "quarantine": 1, "unlocks": 1, "logins": 1, "jobs": 1, "logouts": 1,
        "deliveries": 1, "meters": 1, "drills": 1,
    }  # fmt: skip
    assert {device for (device,) in read(tmp_path / "out.db", "SELECT device FROM jobs_full")} == {OTHER_DEVICE}


def test_a_card_has_its_rows_the_ends_of_its_sessions_and_what_became_of_its_records(
    source: Path, tmp_path: Path
) -> None:
    exported(source, tmp_path / "out.db", "sqlite", Filters(cards=(OTHER_CARD.lower(),)))
    assert kinds(tmp_path / "out.db") == {"accounting": 1, "logins": 1, "jobs": 1, "logouts": 1, "deliveries": 1}
    people = read(tmp_path / "out.db", "SELECT DISTINCT card FROM personal WHERE card <> ''")
    assert people == [(OTHER_CARD,)]
    assert read(tmp_path / "out.db", "SELECT card FROM cards") == []


def test_a_period_takes_both_its_ends(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out.db", "sqlite", Filters(first=NOW + 1, last=NOW + 3))
    assert kinds(tmp_path / "out.db") == {"jobs": 1, "accounting": 1, "app_log": 1}


def test_an_outage_has_what_happened_in_it_and_the_deliveries_of_its_records(source: Path, tmp_path: Path) -> None:
    made = exported(source, tmp_path / "out.db", "sqlite", Filters(outage="last"))
    assert made.about.chosen.filters.outage == OUTAGE
    assert kinds(tmp_path / "out.db") == {
        "outage_events": 3, "unlocks": 1, "logins": 1, "jobs": 2, "logouts": 1, "deliveries": 2
    }  # fmt: skip
    exported(source, tmp_path / "named.db", "sqlite", Filters(outage=OUTAGE))
    assert kinds(tmp_path / "named.db") == kinds(tmp_path / "out.db")


def test_filters_that_are_given_together_must_all_hold(source: Path, tmp_path: Path) -> None:
    filters = Filters(devices=(OTHER_DEVICE,), cards=(OTHER_CARD,), outage="last")
    exported(source, tmp_path / "out.db", "sqlite", filters)
    assert kinds(tmp_path / "out.db") == {"logins": 1, "jobs": 1, "logouts": 1, "deliveries": 1}


@pytest.mark.parametrize("format", FORMATS)
def test_a_filter_that_matches_nothing_gives_a_valid_file_that_says_so(
    source: Path, tmp_path: Path, format: str
) -> None:
    made = exported(source, tmp_path / "out", format, Filters(cards=("nobody",)))
    told = json.loads(made.manifest.read_bytes())
    assert told["entries"]["chosen"] == 0
    assert set(told["rows"].values()) <= {0, 1}
    if format == "sqlite":
        assert verify(tmp_path / "out").wrong is None


def test_an_outage_that_is_not_there_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongFilter, match="no outage is called 'yesterday'"):
        exported(source, tmp_path / "out.db", "sqlite", Filters(outage="yesterday"))
    assert not (tmp_path / "out.db").exists()


# --- the chain ----------------------------------------------------------------------------------------------------


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """3,500 jobs, a minute each, signed every thousand and at the end."""
    book = Ledger.open(tmp_path / "long.db", NOW, Signer.new())
    book.commit([job(number, at=NOW + number * 60_000, outbox=OutboxState.WAITING) for number in range(1, 3_501)])
    book.commit([Sign(NOW + 3_501 * 60_000)])
    book.close()
    return tmp_path / "long.db"


@pytest.mark.parametrize(
    ("first", "last", "entries"),
    [(1, 10, (1, 1000)), (1500, 1600, (1001, 2000)), (1000, 1001, (1, 2000)), (1001, 2000, (1001, 2000)),
     (2999, 3500, (2001, 3500)), (3001, 3001, (3001, 3500))],
)  # fmt: skip
def test_entries_are_those_from_checkpoint_to_checkpoint(
    long: Path, tmp_path: Path, first: int, last: int, entries: tuple[int, int]
) -> None:
    filters = Filters(first=NOW + first * 60_000, last=NOW + last * 60_000)
    exported(long, tmp_path / "out.db", "sqlite", filters)
    assert read(tmp_path / "out.db", "SELECT min(seq), max(seq) FROM entries") == [entries]
    assert read(tmp_path / "out.db", "SELECT min(seq), max(seq), count(*) FROM jobs") == [
        (first, last, last - first + 1)
    ]
    report = verify(tmp_path / "out.db")
    assert report.wrong is None
    assert (report.first, report.last, report.unsigned) == (*entries, 0)


def test_json_lines_tell_what_was_asked_for_from_what_the_chain_needs(long: Path, tmp_path: Path) -> None:
    exported(long, tmp_path / "out", "jsonl", Filters(first=NOW + 1_500 * 60_000, last=NOW + 1_502 * 60_000))
    told = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert (told[0]["body"]["seq"], told[-1]["body"]["seq"]) == (1001, 2000)
    assert [line["body"]["seq"] for line in told if line["chosen"]] == [1500, 1501, 1502]
    assert [line["body"]["seq"] for line in told if line["personal"]] == [1500, 1501, 1502]


def test_a_tampered_row_of_a_filtered_export_is_found(long: Path, tmp_path: Path) -> None:
    exported(long, tmp_path / "out.db", "sqlite", Filters(first=NOW + 1_500 * 60_000, last=NOW + 1_502 * 60_000))
    with closing(sqlite3.connect(tmp_path / "out.db")) as connection:
        connection.execute("DROP TRIGGER jobs_no_update")
        connection.execute("UPDATE jobs SET pages = 1 WHERE seq = 1501")
        connection.commit()
    wrong = verify(tmp_path / "out.db").wrong
    assert wrong is not None


# --- exports of exports -------------------------------------------------------------------------------------------


def test_an_export_can_be_exported_again_and_says_what_is_missing_in_both(long: Path, tmp_path: Path) -> None:
    exported(long, tmp_path / "once.db", "sqlite", Filters(first=NOW + 1_400 * 60_000))
    exported(tmp_path / "once.db", tmp_path / "twice.db", "sqlite")
    report = verify(tmp_path / "twice.db")
    assert (report.wrong, report.first) == (None, 1001)
    info = dict(read(tmp_path / "twice.db", "SELECT key, value FROM export_info"))
    assert (info["plain"], info["personal"]) == ("filtered", "filtered")
    assert json.loads(info["made_from"])["filters"] == json.dumps({"from": times.text(NOW + 1_400 * 60_000)})


# --- times that people give ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "end", "meant"),
    [
        ("2026-11-01", False, "2026-10-31T23:00:00.000Z"),
        ("2026-11-01", True, "2026-11-01T22:59:59.999Z"),
        ("2026-10-25", True, "2026-10-25T22:59:59.999Z"),
        ("2026-03-29", True, "2026-03-29T21:59:59.999Z"),
        ("2026-11-01T08:30", False, "2026-11-01T07:30:00.000Z"),
        ("2026-11-01T08:30Z", True, "2026-11-01T08:30:00.000Z"),
        ("2026-11-01T08:30:00.5+05:30", False, "2026-11-01T03:00:00.500Z"),
    ],
)
def test_days_are_whole_and_times_are_of_the_zone(given: str, end: bool, meant: str) -> None:
    assert times.text(moment(given, BERLIN, end)) == meant


@pytest.mark.parametrize("given", ["", "yesterday", "2026-13-01", "01.11.2026", "9999-12-31", "0001-01-01T00:00+14:00"])
def test_what_is_no_time_is_named(given: str) -> None:
    with pytest.raises(WrongFilter, match="neither a day like"):
        moment(given, ZoneInfo("UTC"), end=True)


def test_cards_are_counted_but_not_named_where_they_must_not_be() -> None:
    assert Filters(cards=(CARD, OTHER_CARD)).said(naming_cards=False) == {"cards": 2}
