"""What is read by hand agrees with the declared definitions, on any bytes and both ways."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from protocols.errors import Malformed, ProtocolError
from protocols.radius import accounting, definition, values
from protocols.radius.jobs import LARGEST_COUNT
from protocols.radius.packet import LocumType, Packet, Type, build, parse, split_vendor, vendor_attribute

QUICK = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
THOROUGH = settings(QUICK, max_examples=100)

numbers = st.integers(0, 2**32 - 1).map(lambda number: number.to_bytes(4, "big"))
small_numbers = st.integers(0, 5).map(lambda number: number.to_bytes(4, "big"))
any_values = st.one_of(small_numbers, numbers, st.binary(max_size=20), st.binary(min_size=16, max_size=16))
known = st.sampled_from(sorted(definition.ACCOUNTING_ATTRIBUTES))
plain = st.tuples(st.one_of(known, st.integers(1, 255)), any_values)
job = st.builds(vendor_attribute, st.sampled_from([32473, 9]), st.integers(1, 13), any_values)
broken_job = st.binary(max_size=12).map(lambda tail: (26, b"\0\0\x7e\xd9" + tail))
attribute_lists = st.lists(st.one_of(plain, job, job, broken_job), max_size=14).map(tuple)
framed = attribute_lists.map(lambda attributes: build(4, 7, bytes(range(16)), attributes))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A packet with some octets changed, cut short or with more behind."""
    datagram = bytearray(draw(framed))
    for _ in range(draw(st.integers(0, 3))):
        datagram[draw(st.integers(0, len(datagram) - 1))] = draw(st.integers(0, 255))
    return bytes(datagram[: draw(st.integers(0, len(datagram)))]) if draw(st.booleans()) else bytes(datagram)


def by_hand(datagram: bytes) -> Packet | None:
    try:
        return parse(datagram)
    except ProtocolError:
        return None


def as_declared(datagram: bytes) -> Packet | None:
    try:
        read = definition.read(definition.PACKET, datagram)
    except Malformed:
        return None
    attributes = tuple((each.number, bytes(each.value)) for each in read.body.attributes)
    return Packet(read.code, read.identifier, bytes(read.body.authenticator), attributes)


@QUICK
@given(st.one_of(damaged(), framed, st.binary(max_size=60)))
def test_packets_are_read_as_declared(datagram: bytes) -> None:
    assert by_hand(datagram) == as_declared(datagram)


@QUICK
@given(attribute_lists)
def test_packets_are_built_as_declared(attributes: tuple[tuple[int, bytes], ...]) -> None:
    items = [{"number": number, "value": value} for number, value in attributes]
    declared = {"code": 4, "identifier": 7, "body": {"authenticator": bytes(16), "attributes": items}}
    assert definition.write(definition.PACKET, declared) == build(4, 7, bytes(16), attributes)


@QUICK
@given(st.one_of(st.binary(max_size=30), job.map(lambda each: each[1])))
def test_vendor_attributes_are_read_as_declared(value: bytes) -> None:
    try:
        declared = [
            (each.number, bytes(each.value)) for each in definition.read(definition.VENDOR_SPECIFIC, value).attributes
        ]
    except Malformed:
        with pytest.raises(Malformed):
            split_vendor(value)
    else:
        assert split_vendor(value) == declared


FIELDS = {number: field for field, number, *_ in accounting.JOB_ATTRIBUTES}
STATUS = {1: "start", 2: "stop", 3: "interim", 7: "on", 8: "off"}
PROBLEMS = {
    Type.ACCT_STATUS_TYPE: "acct-status-type-unreadable",
    Type.ACCT_DELAY_TIME: "acct-delay-time-unreadable",
    Type.ACCT_SESSION_TIME: "acct-session-time-unreadable",
    Type.EVENT_TIMESTAMP: "event-timestamp-unreadable",
    Type.NAS_IP_ADDRESS: "nas-ip-address-unreadable",
}


def shown(value: Any) -> Any:
    """A text as it is shown: without control characters. The definition declares what is on the wire."""
    return values.text(value.encode("utf-8")) if isinstance(value, str) else value


def record_as_declared(datagram: bytes) -> tuple[accounting.AccountingRequest, set[str]]:
    """An AccountingRequest put together from the typed values of the definition, and its problems."""
    first: dict[int, Any] = {}
    classes: list[bytes] = []
    told: dict[int, Any] = {}
    raw: dict[int, Any] = {}
    problems: set[str] = set()
    for each in definition.read(definition.ACCOUNTING_RECORD, datagram).body.attributes:
        if each.number == Type.VENDOR_SPECIFIC:
            if isinstance(each.value, definition.Unreadable):
                problems.add("vendor-attribute-unreadable")
            elif not isinstance(each.value, bytes):
                for inner in each.value.attributes:
                    # Two texts that are not UTF-8 may look alike and not be the same.
                    assume("\ufffd" not in str(inner.value))
                    if raw.setdefault(inner.number, inner.value) != inner.value and inner.number in FIELDS:
                        problems.add("vendor-attribute-contradicts-itself")
                    told.setdefault(inner.number, shown(inner.value))
        elif each.number == Type.CLASS:
            classes.append(bytes(each.value))
        else:
            first.setdefault(each.number, shown(each.value))

    def typed(number: int) -> Any:
        value = first.get(number)
        if isinstance(value, definition.Unreadable):
            problems.add(PROBLEMS.get(number, ""))
            return None
        return value

    four = typed(Type.NAS_IP_ADDRESS)
    address = values.ipv4(four) if four is not None else None
    if address is None:
        if isinstance(first.get(Type.NAS_IPV6_ADDRESS), definition.Unreadable):
            problems.add("nas-ipv6-address-unreadable")
        elif Type.NAS_IPV6_ADDRESS in first:
            address = values.ipv6(first[Type.NAS_IPV6_ADDRESS])
    if Type.ACCT_STATUS_TYPE not in first:
        problems.add("acct-status-type-missing")
    request = accounting.AccountingRequest(
        status=accounting.Status(STATUS.get(typed(Type.ACCT_STATUS_TYPE), "other")),
        user_name=typed(Type.USER_NAME),
        session_id=typed(Type.ACCT_SESSION_ID) or "",
        nas_identifier=typed(Type.NAS_IDENTIFIER),
        nas_address=address,
        classes=tuple(classes),
        delay=typed(Type.ACCT_DELAY_TIME) or 0,
        event_timestamp=typed(Type.EVENT_TIMESTAMP),
        session_time=typed(Type.ACCT_SESSION_TIME),
        job=job_as_declared(told, problems),
        problem=None,
    )
    return request, problems


def job_as_declared(told: dict[int, Any], problems: set[str]) -> accounting.JobFields | None:
    kinds = ("", "copy", "print", "scan", "fax")
    job: dict[str, Any] = {"kind": "", "job_id": ""}
    for number, value in told.items():
        too_large = isinstance(value, int) and value > LARGEST_COUNT
        if isinstance(value, definition.Unreadable) or too_large:
            if number in FIELDS:
                problems.add(FIELDS[number].replace("_", "-") + "-unreadable")
        elif number == LocumType.JOB_KIND:
            job["kind"] = kinds[value]
        elif number == LocumType.DUPLEX:
            job["duplex"] = value == 1
        elif number in FIELDS:
            job[FIELDS[number]] = value
    if "pages" not in job:
        if "color_pages" in job:
            problems.add("pages-missing")
        return None
    if job.get("color_pages", 0) > job["pages"]:
        problems.add("color-pages-over-pages")
        del job["color_pages"]
    return accounting.JobFields(**job)


@QUICK
@given(st.one_of(framed, damaged()))
def test_accounting_records_are_read_as_declared(datagram: bytes) -> None:
    packet = by_hand(datagram)
    if packet is None:
        with pytest.raises(Malformed):
            definition.read(definition.ACCOUNTING_RECORD, datagram)
        return
    read = accounting.read(packet, accounting.default_mapping())
    declared, problems = record_as_declared(datagram)
    assert set((read.problem or "").split(", ")) - {""} == problems
    for name in accounting.AccountingRequest.__slots__:
        if name != "problem":
            assert getattr(read, name) == getattr(declared, name), name


@THOROUGH
@given(framed)
def test_a_record_that_was_read_is_written_again_octet_by_octet(datagram: bytes) -> None:
    record = definition.read(definition.ACCOUNTING_RECORD, datagram)
    # Text that is no UTF-8 is shown with replacement characters, so it cannot be written again from what is shown.
    if b"\xff" not in datagram and "\ufffd" not in str(record):
        assert definition.write(definition.ACCOUNTING_RECORD, record) == datagram


@THOROUGH
@given(st.integers(0, LARGEST_COUNT), st.integers(0, 2**32 - 1), st.integers(1, 4), st.text(max_size=40))
def test_a_record_written_as_declared_is_read_by_hand(pages: int, delay: int, kind: int, document: str) -> None:
    ours = [
        {"number": LocumType.JOB_KIND, "value": kind},
        {"number": LocumType.PAGES, "value": pages},
        {"number": LocumType.DOCUMENT, "value": document},
    ]
    attributes = [
        {"number": Type.ACCT_STATUS_TYPE, "value": 2},
        {"number": Type.ACCT_DELAY_TIME, "value": delay},
        {"number": Type.VENDOR_SPECIFIC, "value": {"vendor": 32473, "attributes": ours}},
    ]
    record = {"code": 4, "identifier": 1, "body": {"attributes": attributes}}
    read = accounting.read(parse(definition.write(definition.ACCOUNTING_RECORD, record)), accounting.default_mapping())
    assert (read.status, read.delay, read.problem) == (accounting.Status.STOP, delay, None)
    assert read.job == accounting.JobFields(accounting.KINDS[kind - 1], "", pages, document=shown(document))


@pytest.mark.parametrize(
    "broken",
    [
        {"code": 4},
        {"code": 256, "identifier": 1, "body": {"attributes": []}},
        {"code": 4, "identifier": 1, "body": {"attributes": [{"number": 0, "value": b""}]}},
        {"code": 4, "identifier": 1, "body": {"attributes": [{"number": 1, "value": bytes(254)}]}},
        {"code": 4, "identifier": 1, "body": {"attributes": [{"number": 1, "value": bytes(250)}] * 17}},
        {"code": 4, "identifier": 1, "body": {"attributes": [{"number": 1}]}},
        None,
    ],
)
def test_what_the_definition_does_not_allow_is_malformed(broken: Any) -> None:
    with pytest.raises(Malformed):
        definition.write(definition.PACKET, broken)


@pytest.mark.parametrize(
    "value", [{"number": 40, "value": "stop"}, {"number": 40, "value": 1 << 32}, {"number": 4, "value": 5}]
)
def test_a_typed_value_that_is_none_is_never_written_as_something_else(value: Any) -> None:
    with pytest.raises(Malformed):
        definition.write(definition.ACCOUNTING_RECORD, {"code": 4, "identifier": 1, "body": {"attributes": [value]}})


def test_a_value_out_of_its_range_is_not_written() -> None:
    ours = {"vendor": 32473, "attributes": [{"number": LocumType.JOB_KIND, "value": 9}]}
    record = {"code": 4, "identifier": 1, "body": {"attributes": [{"number": 26, "value": ours}]}}
    with pytest.raises(Malformed):
        definition.write(definition.ACCOUNTING_RECORD, record)


def test_one_bad_attribute_is_refused_and_not_read_as_none_at_all() -> None:
    good = build(4, 1, bytes(16), ((1, b"bob"), (25, b"mark")))
    bad = good[:-6] + b"\x19\x07mark"
    with pytest.raises(Malformed):
        definition.read(definition.PACKET, bad)
