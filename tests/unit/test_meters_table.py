"""The table of meters: whose device it is, what a formula is, and what is wrong with a table of the admin's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.meters import identity
from protocols.meters.formula import Counter, WrongTable, packed, parse
from protocols.meters.table import read_table, shipped_text
from protocols.snmp.messages import Varbind

TABLE = read_table(shipped_text())
LIFE, UNIT = f"{identity.LIFE_COUNT}.1.", f"{identity.COUNTER_UNIT}.1."


def found(*varbinds: Varbind) -> dict[str, Varbind]:
    return {each.oid: each for each in varbinds}


def meters(has: dict[str, Varbind], table: str = "") -> dict[str, int]:
    vendor = identity.vendor_of(has, read_table(shipped_text(), table))
    profile = identity.profile(vendor, has)
    return identity.shown(profile, identity.read_counters(profile, has))


@pytest.mark.parametrize(
    ("object_id", "description", "maker"),
    [
        ("1.3.6.1.4.1.367.1.1", "", "Ricoh"),
        ("1.3.6.1.4.1.18334.1.2.1.2.1.50.2.2", "Develop ineo 280", "Develop"),
        ("1.3.6.1.4.1.18334.1.1.1.2.1.181.2.4", "", "Konica Minolta"),
        ("", "LANIER MP C3003", "Ricoh"),
        ("1.3.6.1.4.1.8072.3.2.10", "SHARP MX-2640N", "Sharp"),
        ("1.3.6.1.4.1.3670.1", "", ""),
        ("", "", ""),
    ],
)
def test_whose_device_it_is(object_id: str, description: str, maker: str) -> None:
    assert TABLE.vendor_of(object_id, description).name == maker


def test_the_table_of_ricohs_counters_is_read_by_type() -> None:
    base = "1.3.6.1.4.1.367.3.2.1.2.19.5.1"
    rows = {10: 5000, 200: 1500, 201: 1000, 204: 500, 400: 3400, 401: 3000, 404: 400, 300: 100, 870: 70, 871: 7}
    has = found(Varbind(identity.SYS_OBJECT_ID, "oid", "1.3.6.1.4.1.367.1.1"))
    for index, (kind, value) in enumerate(rows.items(), 1):
        has |= found(Varbind(f"{base}.2.{index}", "integer", kind), Varbind(f"{base}.9.{index}", "integer", value))
    shown = meters(has)
    wanted = {"total": 5000, "copy": 1500, "print": 3400, "fax": 100, "scan": 77, "color": 900, "copy_color": 500}
    assert {name: shown[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("markers", "total"),
    [
        ([(100, 7)], 100),
        ([(100, None)], 100),
        ([(100, 8)], 100),
        ([(100, 11)], None),
        ([(100, 16), (7, 7)], 7),
        ([(100, 7), (100, 7)], 100),
        ([(100, 7), (40, 7)], 140),
        ([], None),
    ],
)
def test_the_life_count_counts_where_its_unit_is_pages(
    markers: list[tuple[int, int | None]], total: int | None
) -> None:
    has: dict[str, Varbind] = {}
    for number, (count, unit) in enumerate(markers, 1):
        has |= found(Varbind(f"{LIFE}{number}", "counter32", count))
        if unit is not None:
            has |= found(Varbind(f"{UNIT}{number}", "integer", unit))
    assert meters(has).get("total") == total


@pytest.mark.parametrize(
    "lie",
    [
        ("octets", b"100 pages"),
        ("octets", b""),
        ("integer", -2),
        ("counter64", 1 << 63),
        ("timeticks", 100),
        ("oid", "1.3"),
    ],
)
def test_what_is_no_count_is_none(lie: tuple[str, int | bytes | str]) -> None:
    assert "total" not in meters(found(Varbind(f"{LIFE}1", *lie)))


@pytest.mark.parametrize(
    "shown",
    [("octets", b"100"), ("octets", b" 100\0"), ("integer", 100), ("gauge32", 100), ("counter64", 100)],
)
def test_a_counter_of_another_type_is_read_too(shown: tuple[str, int | bytes | str]) -> None:
    assert meters(found(Varbind(f"{LIFE}1", *shown)))["total"] == 100


def test_a_device_that_is_not_its_hosts_first_one_is_read() -> None:
    has = found(
        Varbind("1.3.6.1.2.1.25.3.2.1.2.1", "oid", "1.3.6.1.2.1.25.3.1.3"),
        Varbind("1.3.6.1.2.1.25.3.2.1.3.1", "octets", b"a processor"),
        Varbind("1.3.6.1.2.1.25.3.2.1.2.4", "oid", identity.A_PRINTER),
        Varbind("1.3.6.1.2.1.25.3.2.1.3.4", "octets", b"Brother HL-9000 series"),
        Varbind("1.3.6.1.2.1.43.5.1.1.17.4", "octets", b"B123"),
        Varbind("1.3.6.1.2.1.43.10.2.1.4.4.1", "gauge32", 77),
        Varbind(identity.SYS_OBJECT_ID, "oid", "1.3.6.1.4.1.8072.3.2.10"),
        Varbind(identity.SYS_DESCR, "octets", b"Linux print 4.9"),
    )
    known = identity.profile(identity.vendor_of(has, TABLE), has)
    assert (known.vendor, known.model, known.serial) == ("Brother", "Brother HL-9000", "B123")
    assert known.serial_object == "1.3.6.1.2.1.43.5.1.1.17.4"
    assert meters(has)["total"] == 77


def test_a_maker_that_no_table_knows_is_named_as_the_machine_names_it() -> None:
    has = found(
        Varbind(identity.DEVICE_ID, "octets", b"MFG:Pagemaster;CMD:PCL;MDL:P 9000;"),
        Varbind("1.3.6.1.2.1.43.10.2.1.4.1.1", "counter32", 5),
    )
    known = identity.profile(identity.vendor_of(has, TABLE), has)
    assert (known.vendor, known.model) == ("Pagemaster", "P 9000")


def test_packed_counters_are_read_also_cut_short() -> None:
    whole = bytes.fromhex("0001040000134b02010400000c69010104000006e2ff")
    assert packed(whole) == {0: 4939, 2: 3177, 1: 1762}
    assert packed(whole[:-6]) == {0: 4939, 2: 3177}
    assert packed(bytes.fromhex("a101020414a2")) == {0xA1: 0x414}
    assert packed(bytes.fromhex("31010101410101036301010354010101")) == {0x31: 1, 0x41: 3, 0x63: 3, 0x54: 1}
    assert packed(b"") == packed(b"\xff\x01\x04") == {}


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_any_packed_block_is_read(block: bytes) -> None:
    assert all(0 <= tag < 256 and value >= 0 for tag, value in packed(block).items())


def test_the_admins_table_goes_before_ours() -> None:
    own = """
    [[vendor]]
    name = "Mine"
    objects = ["1.3.6.1.4.1.1347"]
    [vendor.counters]
    total = ["1.3.6.1.4.1.1347.9.1.0 - 1.3.6.1.4.1.1347.9.2.0?"]
    """
    has = found(
        Varbind(identity.SYS_OBJECT_ID, "oid", "1.3.6.1.4.1.1347.41"),
        Varbind("1.3.6.1.4.1.1347.9.1.0", "integer", 50),
        Varbind("1.3.6.1.4.1.1347.9.2.0", "integer", 8),
    )
    assert meters(has, own) == {"total": 42}


def test_a_formula_is_read() -> None:
    first, second, third, fourth = parse("1.2.3 + 1.2.4#0a? - @200+life?")
    assert (first.counter, first.sign, first.optional) == (Counter("1.2.3"), 1, False)
    assert (second.counter, second.optional) == (Counter("1.2.4", 10), True)
    assert (third.kind, third.sign) == (200, -1)
    assert (fourth.life, fourth.optional) == (True, True)


@pytest.mark.parametrize("text", ["", "+ 1.2", "1.2 1.3", "1.2 *1.3", "lives", "1.2#zz", "@x", "1.2 +"])
def test_what_is_no_formula_is_refused(text: str) -> None:
    with pytest.raises(WrongTable):
        parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = ", "is no TOML"),
        ("[[vendors]]\nname = 'a'", "unknown key"),
        ("vendor = 3", "a list of tables"),
        ("[[vendor]]\nobjects = []", "has no name"),
        ("[[vendor]]\nname = 'a'\nobject = ['1.2.3']", "unknown key 'object'"),
        ("[[vendor]]\nname = 'a'\nobjects = ['1.2.x']", "no object identifier"),
        ("[[vendor]]\nname = 'a'\ndescribes = ['(']", "no regular expression"),
        ("[[vendor]]\nname = 'a'\n[vendor.counters]\npages = ['life']", "no such counter"),
        ("[[vendor]]\nname = 'a'\n[vendor.counters]\ntotal = 'life'", "must be a list"),
        ("[[vendor]]\nname = 'a'\n[vendor.counters]\ntotal = ['life +']", "is no formula"),
        ("[[vendor]]\nname = 'a'\ntable = { keys = '1.2.3.4' }", "table must be"),
    ],
)
def test_a_wrong_table_is_named_with_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(WrongTable, match=words):
        read_table("", text)
