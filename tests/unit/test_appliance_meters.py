"""Readings as people enter them: every mistake named with its line, all or nothing, nothing twice."""

from __future__ import annotations

import json
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from appliance import meters
from appliance.cli.main import main
from appliance.meters import Reading, WrongReading
from appliance.state_dir import LEDGER_NAME
from storage import database, times
from storage.ledger import Ledger
from tests.unit.storage_samples import NOW, job, step

BERLIN = ZoneInfo("Europe/Berlin")
DEVICE = "KM-A4F-000123"


def ms(text: str) -> int:
    return times.milliseconds(text)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A stopped appliance's state directory, with a job of 60 pages."""
    made = tmp_path / "state"
    made.mkdir(mode=0o750)
    ledger = Ledger.open(made / LEDGER_NAME, NOW)
    ledger.commit([job(1, at=NOW)])
    ledger.close()
    return made


def locum(state_dir: Path, *arguments: str) -> int:
    return main(["meters", *arguments[:1], "--state-dir", str(state_dir), "--time-zone", "UTC", *arguments[1:]])


def entered(state_dir: Path) -> list[tuple[str, int, str, str]]:
    with database.reading(state_dir / LEDGER_NAME) as connection:
        return connection.execute("SELECT counter, value, taken_at, source FROM readings").fetchall()


# Sheets


def test_a_sheet_with_a_line_for_each_counter() -> None:
    text = f"device,taken_at,counter,value,event,remark\n{DEVICE},2026-11-23 14:05,total,1200,reset,new board\n"
    assert meters.sheet(text, BERLIN) == [
        Reading(DEVICE, "total", 1200, ms("2026-11-23T13:05:00.000Z"), "reset", "new board", "line 2")
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_sheet_with_a_column_for_each_counter_as_spreadsheets_write_it(delimiter: str) -> None:
    lines = ["Device|taken_at|Total|color", f"{DEVICE}|23.11.2026 14:05|1 200|", "|||", f"{DEVICE}|24.11.2026 8:00|7|3"]
    found = meters.sheet("\ufeff" + "\r\n".join(lines).replace("|", delimiter), BERLIN)
    assert [(each.counter, each.value, each.where) for each in found] == [
        ("total", 1200, "line 2"), ("total", 7, "line 4"), ("color", 3, "line 4"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "number"),
    [("0", 0), ("120345", 120345), ("120.345", 120345), ("1,120,345", 1120345), ("1 200", 1200), ("007", 7)],
)
def test_a_whole_number_with_or_without_signs_between_its_thousands(value: str, number: int) -> None:
    assert meters.value_of(value) == number


@pytest.mark.parametrize(
    "value",
    ["", "-5", "1.5", "90,5", "12.34", "1e3", "12a", "½", "٣", "1.234,567", "1,234.567", str(2**53), "9" * 5000],
    ids=lambda value: value[:20],
)
def test_anything_else_is_no_number_of_pages(value: str) -> None:
    with pytest.raises(WrongReading):
        meters.value_of(value)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-23T14:05", "2026-11-23T13:05:00.000Z"),
        ("2026-07-23 14:05:10", "2026-07-23T12:05:10.000Z"),
        ("23.7.2026 4:05", "2026-07-23T02:05:00.000Z"),
        ("2026-11-23T14:05Z", "2026-11-23T14:05:00.000Z"),
    ],
)
def test_times_are_local_unless_they_say_otherwise(text: str, utc: str) -> None:
    assert meters.time_of(text, BERLIN) == ms(utc)


@pytest.mark.parametrize("text", ["", "2026-11-23", "23/11/2026 14:05", "31.02.2026 10:00", "tomorrow", "14:05"])
def test_a_time_that_could_be_two_things_or_none_is_refused(text: str) -> None:
    with pytest.raises(WrongReading, match="is no time like"):
        meters.time_of(text, BERLIN)


@pytest.mark.parametrize("text", ["2026-10-25 02:30", "29.03.2026 02:30"])
def test_an_hour_that_was_there_twice_or_never_is_not_guessed(text: str) -> None:
    with pytest.raises(WrongReading, match="write it with its offset"):
        meters.time_of(text, BERLIN)
    assert meters.time_of("2026-10-25T02:30+01:00", BERLIN) == ms("2026-10-25T01:30:00.000Z")


def test_a_time_before_all_meters_is_refused() -> None:
    with pytest.raises(WrongReading, match="before 1970"):
        meters.time_of("23.11.1926 14:05", BERLIN)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no reading in it"),
        ("device,taken_at,total\n", "there is no reading in it"),
        ("device,total\nd,1\n", "lacks taken_at"),
        ("device,taken_at,total,toner\n", "has toner"),
        ("device,taken_at,total,total\n", "names a column twice"),
        ("device,taken_at,counter,value\nd,2026-11-23T10:00,total\n", "line 2: 3 columns, the first line has 4"),
        ("device,taken_at,counter,value\nd,2026-11-23T10:00,toner,1\n", "line 2: no such counter"),
        ("device,taken_at,total,event\nd,2026-11-23T10:00,1,broken\n", "line 2: no such event"),
        ("device,taken_at,total\n,2026-11-23T10:00,1\n", "line 2: no device is named"),
        ('device,taken_at,total\n"d,2026-11-23T10:00,1\n', "line 2: unexpected end of data"),
    ],
)
def test_a_mistake_in_a_sheet_is_named_with_its_line(text: str, words: str) -> None:
    with pytest.raises(WrongReading, match=words):
        meters.sheet(text, BERLIN)


# The command


def test_readings_are_entered_once_and_compared_with_the_ledger(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert locum(state_dir, "add", "--at", "2026-11-22T10:00", DEVICE, "total=1000", "color=5") == 0
    assert locum(state_dir, "add", "--at", "2026-11-22T10:00", DEVICE, "total=1000") == 0
    assert "0 readings entered. The ledger had 1 already." in capsys.readouterr().out
    assert locum(state_dir, "add", "--at", "2026-11-22T11:00", DEVICE, "total=1,015") == 0
    capsys.readouterr()
    assert locum(state_dir, "reconcile", "--json", "--from", "2026-11-22") == 0
    [gap] = json.loads(capsys.readouterr().out)
    assert (gap["meter"], gap["ledger"], gap["gap"], gap["percent"]) == (15, 12, 3, 20.0)
    assert entered(state_dir)[0] == ("color", 5, "2026-11-22T10:00:00.000Z", "by-hand")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["KM-typo", "total=5"], 1, "the ledger knows no device 'KM-typo'"),
        ([DEVICE, "total=5", "--at", "2999-01-01T00:00"], 1, "is still to come"),
        ([DEVICE, "total=999", "--at", "2026-11-22T12:00"], 1, "event reset or exchange"),
        ([DEVICE, "total=1001", "--at", "2026-11-22T10:00"], 1, "another reading of total at that time: 1,000"),
        ([DEVICE, "total=1001", "--at", "2026-11-22T09:00"], 1, "was 1,000 later"),
        ([DEVICE, "toner=5"], 2, "no such counter: 'toner'"),
        ([DEVICE, "total"], 2, "is no COUNTER=VALUE"),
        ([DEVICE, "total=-5"], 2, "is no whole number"),
        ([DEVICE], 2, "Missing argument"),
    ],
)
def test_a_reading_that_cannot_be_right_is_refused(
    state_dir: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, words: str
) -> None:
    locum(state_dir, "add", "--at", "2026-11-22T10:00", DEVICE, "total=1000")
    assert locum(state_dir, "add", *arguments) == status
    assert words in capsys.readouterr().err
    assert len(entered(state_dir)) == 1


def test_after_a_reset_counting_begins_anew(state_dir: Path) -> None:
    locum(state_dir, "add", "--at", "2026-11-22T10:00", DEVICE, "total=1000")
    assert locum(state_dir, "add", "--at", "2026-11-22T11:00", "--event", "reset", DEVICE, "total=0") == 0
    assert locum(state_dir, "add", "--at", "2026-11-22T12:00", DEVICE, "total=40") == 0
    assert [value for _, value, _, _ in entered(state_dir)] == [1000, 0, 40]


def test_the_last_value_and_the_first_of_another_machine_may_be_of_one_moment(state_dir: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    lines = [
        "device,taken_at,counter,value,event",
        *(f"{DEVICE},2026-11-22 11:00,total,{end}" for end in ("0,exchange", "1040,")),
    ]
    sheet.write_text("\n".join(lines))
    locum(state_dir, "add", "--at", "2026-11-22T10:00", DEVICE, "total=1000")
    assert locum(state_dir, "import", str(sheet)) == 0
    assert [value for _, value, _, _ in entered(state_dir)] == [1000, 1040, 0]
    assert locum(state_dir, "import", str(sheet)) == 0
    assert len(entered(state_dir)) == 3


def test_a_value_that_was_mistyped_is_entered_once_more_with_a_remark(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for hour, value in (("10", 1000), ("11", 9900), ("12", 9950)):
        locum(state_dir, "add", "--at", f"2026-11-22T{hour}:00", DEVICE, f"total={value}")
    again = ["add", "--at", "2026-11-22T11:00", DEVICE]
    assert locum(state_dir, *again, "total=990", "--remark", "mistyped") == 1
    assert "total of KM-A4F-000123 is 990, and was 1,000" in capsys.readouterr().err
    assert locum(state_dir, *again, "total=1990") == 1
    assert "--remark that says why" in capsys.readouterr().err
    assert locum(state_dir, *again, "total=1990", "--remark", "mistyped") == 0
    assert [value for _, value, _, _ in entered(state_dir)] == [1000, 1990, 9950]
    with database.reading(state_dir / LEDGER_NAME) as connection:
        assert connection.execute("SELECT count(*) FROM meters").fetchone() == (4,), "evidence stays"


def test_a_device_that_is_new_is_entered_when_that_is_meant(state_dir: Path) -> None:
    assert locum(state_dir, "add", "--new", "KM-new", "total=1") == 0
    assert locum(state_dir, "add", "KM-new", "total=2") == 0


def test_of_a_sheet_with_mistakes_nothing_is_entered(
    state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.csv"
    rows = [f"{DEVICE};22.11.2026 10:00;1.000", f"{DEVICE};22.11.2026 11:00;900", "KM-typo;22.11.2026 10:00;5"]
    sheet.write_text("\n".join(["device;taken_at;total", *rows]))
    assert locum(state_dir, "import", str(sheet)) == 1
    err = capsys.readouterr().err
    assert "line 3: total of KM-A4F-000123 is 900, and was 1,000" in err
    assert "line 4: the ledger knows no device 'KM-typo'" in err
    assert "2 mistakes; nothing was entered" in err
    assert entered(state_dir) == []
    sheet.write_text("\n".join(["device;taken_at;total", rows[0]]))
    assert locum(state_dir, "import", str(sheet)) == 0
    assert entered(state_dir) == [("total", 1000, "2026-11-22T10:00:00.000Z", "csv")]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_sheet_that_cannot_be_read_is_said(
    state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    sheet = tmp_path / "sheet.csv"
    if content is not None:
        sheet.write_bytes(content)
    assert locum(state_dir, "import", str(sheet)) == 2
    assert str(sheet) in capsys.readouterr().err


def test_readings_are_listed_in_the_time_zone_that_is_asked_for_and_for_scripts_in_utc(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert locum(state_dir, "add", DEVICE, "total=1000", "--at", "2026-11-22T10:00") == 0
    capsys.readouterr()
    for zone, shown in (("UTC", "2026-11-22 10:00"), ("Europe/Berlin", "2026-11-22 11:00")):
        assert main(["meters", "list", "--state-dir", str(state_dir), "--time-zone", zone]) == 0
        assert shown in capsys.readouterr().out.splitlines()[1]
    assert main(["meters", "list", "--state-dir", str(state_dir), "--time-zone", "Europe/Berlin", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["taken_at"] == "2026-11-22T10:00:00.000Z"


def test_meters_are_compared_over_the_time_of_an_outage(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The readings within it, or those next around it; the last outage, or one by its name."""
    hour = 3_600_000
    for at, total in (("09:00", 900), ("10:00", 1_000), ("11:00", 1_020), ("13:00", 1_100)):
        assert locum(state_dir, "add", DEVICE, f"total={total}", "--at", f"2026-11-22T{at}") == 0
    assert locum(state_dir, "reconcile", "--outage") == 1
    assert "no outage is in this ledger" in capsys.readouterr().err
    ledger = Ledger.open(state_dir / LEDGER_NAME, NOW)
    ledger.commit(
        [step("failed", "grace"), step("offline", "offline"), step("recovered", "online", at=NOW + hour // 2)]
    )
    later = NOW + 2 * hour
    ledger.commit([step("failed", "grace", at=later, outage=later), step("offline", "offline", at=later, outage=later)])
    ledger.commit([step("recovered", "online", at=later + 1, outage=later)])
    ledger.close()
    for words, first, last in ((["--outage"], 1_020, 1_100), (["--outage", "2026-11-22T10:15"], 1_000, 1_020)):
        capsys.readouterr()
        assert locum(state_dir, "reconcile", "--json", *words) == 0
        [gap] = json.loads(capsys.readouterr().out)
        assert (gap["first_reading"]["value"], gap["last_reading"]["value"]) == (first, last)
    assert locum(state_dir, "reconcile", "--outage", "2026-11-22T10:15") == 0
    assert "The outage of 2026-11-22 10:15 to 2026-11-22 10:45:" in capsys.readouterr().err
    assert locum(state_dir, "reconcile", "--outage", "last", "--from", "2026-11-22") == 2
    assert locum(state_dir, "reconcile", "--outage", "yesterday") == 1


def test_without_a_ledger_the_commands_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["meters", "list", "--state-dir", str(tmp_path)]) == 2
    assert "there is no ledger" in capsys.readouterr().err
