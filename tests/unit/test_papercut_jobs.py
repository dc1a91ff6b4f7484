"""Job details, job times, card numbers: the examples of the field, and the corners."""

from __future__ import annotations

import re
from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from protocols.papercut.cards import number_of, numbers_to_try
from protocols.papercut.jobs import Job, job_details, joined
from protocols.papercut.times import DAY, job_time, local_text

BERLIN = ZoneInfo("Europe/Berlin")


def test_a_pair_with_a_comma_is_quoted_whole_and_quotes_are_doubled_everywhere() -> None:
    pairs = [("user", "ann"), ("printer", 'the "big" one'), ("document-name", 'a, "b"'), ("comment", "")]
    assert joined(pairs) == 'user=ann,printer=the ""big"" one,"document-name=a, ""b"""'


def test_what_is_not_known_is_not_written() -> None:
    job = Job(user="ann", printer="c1", time=0, record="id", kind="other", pages=1, paper="odd")
    assert job_details(job, UTC) == (
        "user=ann,server=device,printer=c1,time=19700101T000000,total-pages=1,paper-size-name=odd,comment=locum:id"
    )


@pytest.mark.parametrize(("color", "words"), [(0, "grayscale=TRUE"), (1, "grayscale=FALSE")])
def test_a_job_without_color_pages_is_grayscale(color: int, words: str) -> None:
    assert words in job_details(Job("u", "p", 0, "r", "copy", 1, color_pages=color), UTC)


@pytest.mark.parametrize("name", ["A4", "a4", "ISO A4", "iso-a4", "ISO_A4"])
def test_paper_is_known_by_its_usual_names(name: str) -> None:
    details = job_details(Job("u", "p", 0, "r", "scan", 1, paper=name), UTC)
    assert "paper-width-mm=210,paper-height-mm=297" in details


def test_control_characters_in_a_document_name_become_spaces() -> None:
    assert "document-name=a b c" in job_details(Job("u", "p", 0, "r", "fax", 1, document="a\nb\x00c"), UTC)


@pytest.mark.parametrize(
    ("utc", "local"),
    [
        (1_792_888_200_000, "20261025T023000"),
        (1_792_891_800_000, "20261025T023000"),
        (1_774_745_999_999, "20260329T015959"),
        (1_774_746_000_000, "20260329T030000"),
    ],
)
def test_daylight_saving_repeats_an_hour_and_skips_one(utc: int, local: str) -> None:
    assert local_text(utc, BERLIN) == local


@pytest.mark.parametrize(
    ("started", "ended", "time"),
    [
        (None, None, 10 * DAY),
        (9 * DAY, 9 * DAY + 5, 9 * DAY + 5),
        (9 * DAY, None, 9 * DAY),
        (0, 5, 10 * DAY),
        (9 * DAY, 11 * DAY, 9 * DAY),
        (10 * DAY + 200_000, None, 10 * DAY + 200_000),
    ],
)
def test_a_devices_time_counts_if_it_can_be_true(started: int | None, ended: int | None, time: int) -> None:
    assert job_time(10 * DAY, started, ended) == time


@pytest.mark.parametrize(
    ("read", "pattern", "converters", "number"),
    [
        ("946EBD28", None, ("hex2dec",), "2490285352"),
        ("2490285352", None, ("dec2hex",), "946EBD28"),
        ("3934364542443238", None, ("ascii-enc",), "946EBD28"),
        ("3934364542443238", None, ("ascii-enc", "hex2dec"), "2490285352"),
        ("0001234", None, ("strip-zeros",), "1234"),
        ("0000", None, ("strip-zeros",), "0"),
        ("12345=6789?", None, (), "12345"),
        ("=6789", None, (), "=6789"),
        ("12345=6789", r".*=(\d+)", (), "6789"),
        ("abc123", r"\d+", (), "123"),
        ("abc", r"(\d+)", (), "abc"),
        ("not hex", None, ("hex2dec", "strip-zeros"), "not hex"),
        ("393", None, ("ascii-enc",), "393"),
        ("0102", None, ("ascii-enc",), "0102"),
        ("٣", None, ("dec2hex", "hex2dec"), "٣"),
    ],
)
def test_a_card_number_is_made_of_what_was_read(
    read: str, pattern: str | None, converters: tuple[str, ...], number: str
) -> None:
    assert number_of(read, re.compile(pattern) if pattern else None, converters) == number


def test_both_numbers_are_tried_and_none_twice() -> None:
    assert numbers_to_try("FF", None, ("hex2dec",)) == ("255", "FF")
    assert numbers_to_try("255", None) == ("255",)
    assert numbers_to_try("", None) == ()


def test_an_unknown_converter_is_named() -> None:
    with pytest.raises(ValueError, match="rot13"):
        number_of("1", None, ("rot13",))
