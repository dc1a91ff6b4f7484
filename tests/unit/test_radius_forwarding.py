"""Repeats and what is sent on: the section "Accounting" of radius.md."""

from __future__ import annotations

import pytest

from protocols.radius.accounting import forwarded, repeat_digests
from protocols.radius.packet import Attributes, Packet, Type, size_of, vendor_attribute

LARGEST = (1 << 32) - 1
RECORD = "0192f0c1-7a3b-7000-8000-000000000001"
RECORD_ATTRIBUTE = vendor_attribute(32473, 12, RECORD.encode())
USER = (Type.USER_NAME, b"alice")
PAGES = vendor_attribute(32473, 3, b"\0\0\0\x0c")


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def delay(seconds: int) -> tuple[int, bytes]:
    return Type.ACCT_DELAY_TIME, number(seconds)


def stamp(seconds: int) -> tuple[int, bytes]:
    return Type.EVENT_TIMESTAMP, number(seconds)


def packet(*attributes: tuple[int, bytes], identifier: int = 1, code: int = 4) -> Packet:
    return Packet(code, identifier, bytes((identifier,)) * 16, attributes)


def same(one: Packet, other: Packet) -> bool:
    return not set(repeat_digests(one)).isdisjoint(repeat_digests(other))


@pytest.mark.parametrize(
    "again",
    [
        packet(USER, PAGES, identifier=2),
        packet(USER, PAGES, delay(7), identifier=3),
        packet((Type.PROXY_STATE, b"x"), USER, PAGES, identifier=4),
        packet(USER, (Type.MESSAGE_AUTHENTICATOR, bytes(16)), PAGES),
    ],
)
def test_what_changes_on_the_way_does_not_make_another_record(again: Packet) -> None:
    assert same(packet(USER, PAGES), again)


@pytest.mark.parametrize(
    "other",
    [
        packet(USER),
        packet(PAGES, USER),
        packet(USER, PAGES, PAGES),
        packet(USER, vendor_attribute(32473, 3, b"\0\0\0\x0d")),
        packet(USER, PAGES, code=40),
        packet((Type.USER_NAME, b"alic"), (ord("e"), b""), PAGES),
    ],
)
def test_any_other_difference_makes_another_record(other: Packet) -> None:
    assert not same(packet(USER, PAGES), other)


def test_a_timestamp_that_stays_while_the_delay_grows_is_a_repeat() -> None:
    assert same(packet(USER, stamp(1000), delay(0)), packet(USER, stamp(1000), delay(5)))


def test_a_timestamp_that_moves_together_with_the_delay_is_a_repeat() -> None:
    assert same(packet(USER, stamp(1000), delay(0)), packet(USER, stamp(1005), delay(5)))
    assert same(packet(USER, stamp(1000)), packet(USER, stamp(1005), delay(5)))


def test_another_timestamp_is_another_record() -> None:
    assert not same(packet(USER, stamp(1000)), packet(USER, stamp(1005)))
    assert not same(packet(USER, stamp(1000), delay(1)), packet(USER, stamp(1005), delay(5)))


def test_digests_have_16_octets_and_the_two_kinds_never_meet() -> None:
    first, second = repeat_digests(packet(USER, stamp(1000)))
    assert len(first) == len(second) == 16
    assert first != second
    assert len(repeat_digests(packet(USER))) == 1
    assert len(repeat_digests(packet(USER, (Type.EVENT_TIMESTAMP, b"\0")))) == 1


def test_a_delay_larger_than_the_timestamp_and_one_of_a_wrong_length_have_digests_too() -> None:
    assert len(repeat_digests(packet(stamp(0), delay(LARGEST)))) == 2
    assert same(packet(USER, (Type.ACCT_DELAY_TIME, b"\1")), packet(USER))


def send(*attributes: tuple[int, bytes], held: int = 30, taken_at: int = 1_700_000_000) -> Attributes:
    return forwarded(packet(*attributes), held=held, taken_at=taken_at, record_id=RECORD)


def test_sent_on_at_once_nothing_changes_and_only_what_was_absent_is_added() -> None:
    attributes = (delay(4), USER, (200, b"?"), PAGES, (Type.PROXY_STATE, b"p"))
    assert send(*attributes, held=0) == (*attributes, stamp(1_699_999_996), RECORD_ATTRIBUTE)
    assert send(USER, stamp(5), held=0) == (USER, stamp(5), RECORD_ATTRIBUTE)


def test_held_the_delay_grows_and_the_time_of_the_event_is_told() -> None:
    assert send(USER, delay(4), PAGES) == (
        USER,
        delay(34),
        PAGES,
        stamp(1_699_999_996),
        RECORD_ATTRIBUTE,
    )


def test_a_delay_is_added_where_there_was_none_and_a_timestamp_stays() -> None:
    assert send(USER, stamp(5)) == (USER, stamp(5), delay(30), RECORD_ATTRIBUTE)


def test_numbers_stay_within_32_bits() -> None:
    assert send(delay(LARGEST - 1), stamp(1))[0] == delay(LARGEST)
    assert stamp(0) in send(delay(100), taken_at=50)
    assert send(USER, stamp(1), held=-3) == (USER, stamp(1), RECORD_ATTRIBUTE)


def test_a_delay_that_cannot_be_read_counts_as_none() -> None:
    assert send((Type.ACCT_DELAY_TIME, b"\1"), stamp(1))[0] == delay(30)


def test_a_record_id_that_is_there_is_replaced() -> None:
    old = vendor_attribute(32473, 12, b"old")
    packed = (26, PAGES[1] + old[1][4:])
    result = send(USER, old, stamp(1), delay(0), packed, held=0)
    assert result == (USER, stamp(1), delay(0), PAGES, RECORD_ATTRIBUTE)


def test_another_vendors_attribute_12_and_a_broken_one_stay() -> None:
    kept = (vendor_attribute(9, 12, b"theirs"), (26, b"\0\0\x7e\xd9\x0c\x44"))
    assert send(*kept, stamp(1), held=0) == (*kept, stamp(1), RECORD_ATTRIBUTE)


def test_the_record_id_goes_under_the_configured_vendor() -> None:
    result = forwarded(packet(USER, stamp(1)), held=0, taken_at=0, record_id=RECORD, vendor_id=99)
    assert result == (USER, stamp(1), vendor_attribute(99, 12, RECORD.encode()))


@pytest.mark.parametrize(
    ("room", "added"),
    [(0, 0), (5, 0), (6, 1), (11, 1), (12, 2), (12 + 43, 2), (12 + 44, 3)],
)
def test_what_would_not_fit_into_4096_octets_is_left_off_the_record_id_first(room: int, added: int) -> None:
    full = ((1, bytes(253)),) * 15
    last = 4096 - size_of(full) - room - 2
    attributes = (*full, (1, bytes(last)))
    assert size_of(attributes) == 4096 - room
    result = send(*attributes)
    assert result[: len(attributes)] == attributes
    assert result[len(attributes) :] == (delay(30), stamp(1_700_000_000), RECORD_ATTRIBUTE)[:added]
