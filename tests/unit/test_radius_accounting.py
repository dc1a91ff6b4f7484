"""What an Accounting-Request says: RFC 2866 section 5 and the job attributes of radius.md."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.errors import Malformed
from protocols.radius.accounting import (
    JOB_ATTRIBUTES,
    AccountingRequest,
    JobFields,
    JobMapping,
    Status,
    default_mapping,
    mapping_from_names,
    read,
)
from protocols.radius.dictionary import parse_dictionary, shipped_dictionary
from protocols.radius.packet import Packet, Type, vendor_attribute

STOP = (Type.ACCT_STATUS_TYPE, b"\0\0\0\2")


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def job(kind: int, value: bytes | int, vendor: int = 32473) -> tuple[int, bytes]:
    return vendor_attribute(vendor, kind, number(value) if isinstance(value, int) else value)


def told(*attributes: tuple[int, bytes], mapping: JobMapping | None = None) -> AccountingRequest:
    return read(Packet(4, 0, bytes(16), attributes), mapping or default_mapping())


def test_the_session_is_read() -> None:
    request = told(
        (Type.USER_NAME, b"alice"),
        (Type.NAS_IP_ADDRESS, bytes((192, 168, 0, 7))),
        (Type.CLASS, b"mark"),
        (Type.NAS_IDENTIFIER, b"copier-1"),
        STOP,
        (Type.ACCT_DELAY_TIME, number(5)),
        (Type.ACCT_SESSION_ID, b"s-17"),
        (Type.ACCT_SESSION_TIME, number(60)),
        (Type.EVENT_TIMESTAMP, number(1_700_000_000)),
        (Type.CLASS, b"second"),
    )
    assert request == AccountingRequest(
        status=Status.STOP,
        user_name="alice",
        session_id="s-17",
        nas_identifier="copier-1",
        nas_address="192.168.0.7",
        classes=(b"mark", b"second"),
        delay=5,
        event_timestamp=1_700_000_000,
        session_time=60,
        job=None,
        problem=None,
    )


@pytest.mark.parametrize(
    ("value", "status"), [(1, "start"), (2, "stop"), (3, "interim"), (7, "on"), (8, "off"), (15, "other"), (0, "other")]
)
def test_status_types(value: int, status: str) -> None:
    request = told((Type.ACCT_STATUS_TYPE, number(value)))
    assert (request.status, request.problem) == (status, None)


def test_absent_values_are_none_and_zero_delay() -> None:
    request = told(STOP)
    assert (request.user_name, request.session_id, request.nas_identifier, request.nas_address) == (
        None,
        "",
        None,
        None,
    )
    assert (request.delay, request.event_timestamp, request.session_time, request.classes) == (0, None, None, ())


def test_a_missing_status_is_a_problem() -> None:
    request = told()
    assert (request.status, request.problem) == (Status.OTHER, "acct-status-type-missing")


def test_an_ipv6_address_counts_where_there_is_no_ipv4() -> None:
    six = (Type.NAS_IPV6_ADDRESS, bytes.fromhex("20010db8000000000000000000000001"))
    assert told(STOP, six).nas_address == "2001:db8::1"
    assert told(STOP, six, (Type.NAS_IP_ADDRESS, bytes(4))).nas_address == "0.0.0.0"


def test_the_whole_job_is_read_from_one_vendor_attribute_or_many() -> None:
    values = [
        (1, 2),
        (2, b"17"),
        (3, 12),
        (4, 3),
        (5, 6),
        (6, 2),
        (7, 1),
        (8, b"A4"),
        (9, "Zählung".encode()),
        (10, b"x"),
    ]
    many = [job(kind, value) for kind, value in values]
    one = (26, many[0][1][:4] + b"".join(value[4:] for _, value in many))
    expected = JobFields("print", "17", 12, 3, 6, 2, True, "A4", "Zählung", "x")
    assert told(STOP, *many).job == expected
    assert told(STOP, one).job == expected


def test_pages_alone_are_a_job_and_nothing_else_is() -> None:
    assert told(STOP, job(3, 0)).job == JobFields("", "", 0)
    request = told(STOP, job(1, 2), job(2, b"17"), job(8, b"A4"))
    assert (request.job, request.problem) == (None, None)


@pytest.mark.parametrize(
    ("attributes", "kept", "problem"),
    [
        ([job(4, 3)], None, "pages-missing"),
        ([job(3, 2), job(4, 3)], JobFields("", "", 2), "color-pages-over-pages"),
        ([job(3, 2), job(1, 9)], JobFields("", "", 2), "kind-unreadable"),
        ([job(3, 2), job(7, 2)], JobFields("", "", 2), "duplex-unreadable"),
        ([job(3, b"2")], None, "pages-unreadable"),
        ([job(3, 2), job(5, 1 << 31)], JobFields("", "", 2), "sheets-unreadable"),
        ([job(3, 2), job(6, 0xFFFFFFFF)], JobFields("", "", 2), "copies-unreadable"),
        ([job(3, b"2"), job(4, 1)], None, "pages-unreadable, pages-missing"),
        ([job(3, 2), job(3, 4)], JobFields("", "", 2), "vendor-attribute-contradicts-itself"),
        ([job(3, 2), job(3, 2)], JobFields("", "", 2), None),
        ([job(3, 2), job(200, 2), job(200, 3)], JobFields("", "", 2), None),
        ([job(3, 2), (26, b"\0\0\x7e\xd9\x05\x09")], JobFields("", "", 2), "vendor-attribute-unreadable"),
        ([job(3, 2), (Type.ACCT_DELAY_TIME, b"\1")], JobFields("", "", 2), "acct-delay-time-unreadable"),
        ([job(3, 2), (Type.NAS_IP_ADDRESS, b"\1")], JobFields("", "", 2), "nas-ip-address-unreadable"),
        ([job(3, 2), (26, b"\0\0\0\x09\x05\x09")], JobFields("", "", 2), None),
    ],
)
def test_what_cannot_be_is_named_and_the_rest_is_read(
    attributes: list[tuple[int, bytes]], kept: JobFields | None, problem: str | None
) -> None:
    request = told(STOP, (Type.USER_NAME, b"alice"), *attributes)
    assert (request.status, request.user_name) == (Status.STOP, "alice")
    assert (request.job, request.problem) == (kept, problem)


def test_a_page_count_that_no_copier_reaches_is_read_as_absent_and_named() -> None:
    most = (1 << 31) - 1
    assert told(STOP, job(3, most), job(4, most)).job == JobFields("", "", most, most)
    for count in (most + 1, 0xFFFFFFFF):
        request = told(STOP, job(2, b"17"), job(3, count))
        assert (request.job, request.problem) == (None, "pages-unreadable")
        request = told(STOP, job(3, 12), job(4, count))
        assert (request.job, request.problem) == (JobFields("", "", 12), "color-pages-unreadable")


def test_a_page_count_in_digits_has_the_same_bound() -> None:
    lines = ("VENDOR Maker 4711", "BEGIN-VENDOR Maker", "ATTRIBUTE Maker-Pages 1 string", "END-VENDOR Maker", "")
    table = parse_dictionary("\n".join(lines))
    mapping = mapping_from_names(table, {"pages": "Maker-Pages"})
    assert told(STOP, job(1, b"2147483647", 4711), mapping=mapping).job == JobFields("", "", 2147483647)
    request = told(STOP, job(1, b"2147483648", 4711), mapping=mapping)
    assert (request.job, request.problem) == (None, "pages-unreadable")


def test_text_that_is_no_utf_8_is_shown_with_replacement_characters() -> None:
    request = told(STOP, (Type.USER_NAME, b"al\xff"), job(3, 1), job(9, b"\xe4.pdf"))
    assert request.user_name == "al\ufffd"
    assert request.job is not None
    assert request.job.document == "\ufffd.pdf"


def test_the_default_mapping_is_the_shipped_dictionary() -> None:
    mapping = default_mapping()
    for field, number_, name, *_ in JOB_ATTRIBUTES:
        assert getattr(mapping, field) == shipped_dictionary().attribute(name)
        assert (getattr(mapping, field).vendor, getattr(mapping, field).number) == (32473, number_)


def test_the_vendor_number_is_a_setting() -> None:
    mine = job(3, 7, vendor=4242)
    assert told(STOP, mine).job is None
    assert told(STOP, mine, mapping=default_mapping(4242)).job == JobFields("", "", 7)


VENDORS_OWN = """
VENDOR Acme 4711
BEGIN-VENDOR Acme
ATTRIBUTE Acme-Total 1 integer
ATTRIBUTE Acme-Mode 2 byte
ATTRIBUTE Acme-Sheets 3 string
ATTRIBUTE Acme-Job 4 short
ATTRIBUTE Acme-Raw 5 octets
ATTRIBUTE Acme-Address 6 ipaddr
ATTRIBUTE Acme-Long 7 integer64
VALUE Acme-Mode COPY 7
VALUE Acme-Mode Fax 8
END-VENDOR Acme
"""


def test_counts_elsewhere_are_a_table_of_names() -> None:
    mapping = mapping_from_names(
        parse_dictionary(VENDORS_OWN),
        {
            "pages": "Acme-Total",
            "kind": "Acme-Mode",
            "sheets": "Acme-Sheets",
            "job_id": "Acme-Job",
            "account": "Acme-Raw",
            "copies": "Acct-Link-Count",
            "paper": "",
        },
    )
    request = told(
        STOP,
        job(1, 12, vendor=4711),
        job(2, b"\x07", vendor=4711),
        job(3, b"6", vendor=4711),
        job(4, b"\x01\x00", vendor=4711),
        job(5, b"acc", vendor=4711),
        (51, number(2)),
        job(8, b"A4"),
        job(9, b"a.pdf"),
        mapping=mapping,
    )
    assert request.problem is None
    assert request.job == JobFields("copy", "256", 12, sheets=6, copies=2, document="a.pdf", account="acc")


def test_a_count_beyond_32_bits_or_not_in_digits_cannot_be() -> None:
    mapping = mapping_from_names(parse_dictionary(VENDORS_OWN), {"pages": "Acme-Long", "sheets": "Acme-Sheets"})
    largest = told(STOP, job(7, (1 << 32).to_bytes(8, "big"), vendor=4711), mapping=mapping)
    assert (largest.job, largest.problem) == (None, "pages-unreadable")
    for text in (b"", b"-1", b"1.5", "²".encode(), b"99999999999"):
        odd = told(STOP, job(7, bytes(7) + b"\1", vendor=4711), job(3, text, vendor=4711), mapping=mapping)
        assert odd.job is not None
        assert (odd.job.pages, odd.job.sheets, odd.problem) == (1, None, "sheets-unreadable")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"toner": "Acme-Total"}, "toner is no field"),
        ({"pages": "Acme-Nothing"}, "no attribute Acme-Nothing"),
        ({"pages": "Acme-Address"}, "pages: Acme-Address has the type ipaddr"),
        ({"pages": "Acme-Raw"}, "pages: Acme-Raw has the type octets"),
    ],
)
def test_a_mapping_that_cannot_be_says_why(names: dict[str, str], says: str) -> None:
    with pytest.raises(Malformed, match=says):
        mapping_from_names(parse_dictionary(VENDORS_OWN), names)


def test_a_mapping_without_pages_has_no_jobs() -> None:
    request = told(STOP, job(3, 7), mapping=replace(default_mapping(), pages=None))
    assert (request.job, request.problem) == (None, None)
