"""Canonical form, ids and times, against the standards and the packages that implement them."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from storage import identifiers, proof, times
from storage.records import Personal
from tests.unit.storage_samples import NOW

texts = st.text(st.characters(codec="utf-8"), max_size=40)
keys = st.text(st.characters(max_codepoint=126), min_size=1, max_size=12)
scalars = st.none() | st.booleans() | st.integers(-proof.SAFE, proof.SAFE) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6), max_leaves=20
)


@given(values)
def test_canonical_form_is_that_of_rfc_8785(value: object) -> None:
    assert proof.canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@given(st.dictionaries(keys, scalars, max_size=8))
def test_the_quick_way_gives_the_same_bytes_or_asks_for_cleaning(value: dict[str, object]) -> None:
    if any(isinstance(text, str) and "\0" in text for pair in value.items() for text in pair):
        with pytest.raises(proof.NotCanonical):
            proof.canonical_checked(value)
    else:
        assert proof.canonical_checked(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


def test_every_control_character_and_the_far_planes_are_written_as_rfc_8785_has_them() -> None:
    text = "".join(map(chr, range(1, 0x20))) + '"\\/\x7f\u2028\u20ac\ue000\U0001f600'
    assert proof.canonical(text) == rfc8785.dumps(text)


@pytest.mark.parametrize("value", [2**53, -(2**53), {"é": 1}, {1: 2}, "\ud800"])
def test_what_has_no_canonical_form_here_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"no ASCII key|exactly|surrogates"):
        proof.canonical(value)


def test_floating_point_has_no_place_in_an_entry() -> None:
    with pytest.raises(TypeError):
        proof.canonical({"a": 1.0})


@given(st.text())
def test_a_cleaned_text_can_be_written_anywhere_and_only_surrogates_and_nuls_are_touched(text: str) -> None:
    cleaned = proof.clean(text)
    assert "\0" not in cleaned
    assert cleaned.encode().decode() == cleaned
    assert len(cleaned) == len(text)
    assert all(a == b or b == proof.REPLACEMENT for a, b in zip(text, cleaned, strict=True))


def test_an_entrys_hash_covers_the_one_before_it() -> None:
    body = b'{"seq":1}'
    assert proof.entry_hash(b"\1" * 32, body) == hashlib.sha256(b"locum-entry-1" + b"\1" * 32 + body).digest()


def test_a_commitment_can_be_recomputed_with_any_hmac_and_any_json() -> None:
    personal = Personal("04A2", "ada", "Leaflet", "12", b"\x00\xff")
    fields = {"account": "12", "card": "04A2", "document": "Leaflet", "raw": "AP8=", "user": "ada"}
    by_hand = hmac.new(b"s" * 32, json.dumps(fields, separators=(",", ":"), sort_keys=True).encode(), "sha256")
    assert proof.commitment(b"s" * 32, personal) == by_hand.hexdigest()


@given(st.integers(0, 2**48 - 1), st.binary(min_size=8, max_size=8))
def test_an_id_is_a_uuid_of_version_7(milliseconds: int, random: bytes) -> None:
    text = identifiers.uuid7(milliseconds << 12 | 7, random)
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == milliseconds
    assert identifiers.stamp_of(text) == milliseconds << 12 | 7


@given(st.lists(st.integers(NOW - 50_000, NOW), min_size=2, max_size=50))
def test_ids_ascend_though_the_clock_is_set_back_a_little(readings: list[int]) -> None:
    last, ids = 0, []
    for reading in readings:
        last = identifiers.next_stamp(reading, last)
        ids.append(identifiers.uuid7(last, bytes(8)))
    assert ids == sorted(set(ids))


def test_a_clock_set_back_by_years_begins_anew() -> None:
    future = identifiers.next_stamp(NOW + 10**12, 0)
    assert identifiers.next_stamp(NOW, future) == NOW << 12


def test_the_id_of_rfc_9562s_example() -> None:
    example = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
    stamp = 0x017F22E279B0 << 12 | 0xCC3
    assert identifiers.uuid7(stamp, bytes.fromhex("18c4dc0c0c07398f")) == example


def test_an_impossible_time_has_no_id() -> None:
    with pytest.raises(OverflowError):
        identifiers.uuid7(-1, bytes(8))


@given(st.integers(-(10**12), 253_402_300_799_998))
def test_times_are_written_so_that_they_sort_and_come_back(milliseconds: int) -> None:
    text = times.text(milliseconds)
    assert times.milliseconds(text) == milliseconds
    assert text < times.text(milliseconds + 1)


def test_a_time_reads_as_people_write_it() -> None:
    assert times.text(NOW) == "2026-11-22T10:15:03.120Z"
    assert times.compact(NOW) == "20261122T101503Z"
    assert times.text_or_none(None) is None
