"""Dictionaries in FreeRADIUS's format, and values by type (RFC 8044)."""

from __future__ import annotations

import pytest

from protocols.errors import Malformed, TooLarge
from protocols.radius.dictionary import (
    Definition,
    Value,
    decode,
    encode,
    parse_dictionary,
    shipped_dictionary,
    shipped_text,
    standard_dictionary,
)


def test_the_shipped_dictionary_has_locums_twelve_attributes() -> None:
    shipped = shipped_dictionary()
    numbers = sorted(number for vendor, number in shipped.by_number if vendor == 32473)
    assert numbers == list(range(1, 13))
    assert shipped.attribute("Locum-Unlock-Scope").values == {"Single-Use": 1, "Until-Restored": 2}
    assert shipped.name(32473, 3) == "Locum-Pages"
    assert "VENDOR" in shipped_text()


def test_standard_attributes_are_known_in_any_case_of_letters() -> None:
    definition = standard_dictionary().attribute("acct-status-type")
    assert (definition.vendor, definition.number, definition.type) == (None, 40, "integer")
    assert definition.values["Interim-Update"] == 3


def test_unknown_numbers_have_a_name_made_of_numbers() -> None:
    assert standard_dictionary().name(None, 240) == "Attr-240"
    assert standard_dictionary().name(9, 1) == "Attr-26.9.1"


def test_all_ways_to_write_an_attribute_are_read() -> None:
    dictionary = parse_dictionary(
        """
        # a comment
        VENDOR Old 100        # another
        VENDOR Wide 200 format=2,1
        ATTRIBUTE Old-Style 1 string Old
        BEGIN-VENDOR Old
        ATTRIBUTE Old-Hex 0x0a uint32 array
        ATTRIBUTE Old-Fixed 11 octets[16]
        ATTRIBUTE Old-Tagged 12 integer has_tag
        ATTRIBUTE Old-Outer 13 tlv
        ATTRIBUTE Old-Inner 13.1 integer
        BEGIN-TLV Old-Outer
        ATTRIBUTE Old-Inside 1 integer
        END-TLV Old-Outer
        VALUE Old-Hex Ten 0x0A
        VALUE Old-Inner One 1
        END-VENDOR Old
        BEGIN-VENDOR Wide
        ATTRIBUTE Wide-Number 1 integer
        END-VENDOR Wide
        """
    )
    assert dictionary.attribute("Old-Style") == Definition(100, 1, "string", {}, "Old-Style")
    assert dictionary.attribute("Old-Hex") == Definition(100, 10, "integer", {"Ten": 10}, "Old-Hex")
    assert dictionary.attribute("Old-Fixed").size == 16
    assert dictionary.attribute("Old-Tagged").type == "octets"
    for name in ("Old-Inner", "Old-Inside", "Wide-Number"):
        with pytest.raises(Malformed, match="not readable"):
            dictionary.attribute(name)
    assert dictionary.attribute("User-Name").number == 1


def test_a_base_is_extended_and_not_changed() -> None:
    base = parse_dictionary("ATTRIBUTE Mine 240 string")
    more = parse_dictionary("VALUE NAS-Port-Type Copier 99\nATTRIBUTE Mine 241 octets", base)
    assert base.attribute("Mine").number == 240
    assert more.attribute("Mine") == Definition(None, 241, "octets", {}, "Mine")
    assert more.attribute("NAS-Port-Type").values["Copier"] == 99
    assert "Copier" not in base.attribute("NAS-Port-Type").values


def test_a_vendor_takes_no_name_away_from_the_standard_or_another_vendor() -> None:
    dictionary = parse_dictionary(
        """
        VENDOR Acme 4711
        BEGIN-VENDOR Acme
        ATTRIBUTE Class 1 integer
        ATTRIBUTE State 2.1 integer
        VALUE Class First 1
        END-VENDOR Acme
        """
    )
    assert dictionary.attribute("Class") == standard_dictionary().attribute("Class")
    assert dictionary.attribute("State").number == 24
    assert dictionary.attribute("Acme.Class") == Definition(4711, 1, "integer", {"First": 1}, "Class")


def test_a_site_may_give_the_shipped_vendor_a_number_of_its_own() -> None:
    changed = parse_dictionary(shipped_text().replace("32473", "4242"), shipped_dictionary())
    assert changed.attribute("Locum-Pages").vendor == 4242
    assert changed.name(4242, 3) == "Locum-Pages"
    assert changed.name(32473, 3) == "Attr-26.32473.3"


@pytest.mark.parametrize(
    "line",
    [
        "ATTRIBUTE Short 1",
        "ATTRIBUTE Zero 0 string",
        "ATTRIBUTE Large 256 string",
        "ATTRIBUTE Odd x string",
        "ATTRIBUTE Type 1 colour",
        "VALUE Nobody One 1",
        "VALUE Service-Type Odd one",
        "VENDOR Acme",
        "VENDOR Acme 4294967296",
        "BEGIN-VENDOR Nobody",
        "$INCLUDE other",
        "NONSENSE",
    ],
)
def test_an_error_names_its_line(line: str) -> None:
    with pytest.raises(Malformed, match="line 3: ") as error:
        parse_dictionary(f"# first\n\n{line}\n")
    assert error.value.reason == "dictionary"
    assert line in str(error.value)


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(Malformed, match="no attribute Nothing"):
        standard_dictionary().attribute("Nothing")


VALUES: list[tuple[str, bytes, Value]] = [
    ("string", b"", ""),
    ("string", "ä".encode(), "ä"),
    ("octets", b"\0\xff", b"\0\xff"),
    ("byte", b"\xff", 255),
    ("short", b"\1\0", 256),
    ("integer", b"\xff\xff\xff\xff", 4294967295),
    ("signed", b"\xff\xff\xff\xff", -1),
    ("integer64", b"\0\0\0\1\0\0\0\0", 1 << 32),
    ("date", b"\0\0\0\1", 1),
    ("ipaddr", b"\x0a\0\0\1", "10.0.0.1"),
    ("ipv6addr", bytes(15) + b"\1", "::1"),
    ("ipv6prefix", b"\0\x20\x20\x01\x0d\xb8", "2001:db8::/32"),
    ("ifid", bytes(range(8)), "0001:0203:0405:0607"),
    ("ether", b"\0\x11\x22\x33\x44\x55", "00:11:22:33:44:55"),
]


@pytest.mark.parametrize(("kind", "octets", "value"), VALUES)
def test_values_are_read_and_written_by_type(kind: str, octets: bytes, value: Value) -> None:
    definition = Definition(None, 1, kind)
    assert decode(definition, octets) == value
    assert encode(definition, value) == octets


@pytest.mark.parametrize(
    ("kind", "octets"), [(kind, octets) for kind, octets, _ in VALUES if kind not in ("string", "octets")]
)
def test_a_value_too_short_or_too_long_is_malformed(kind: str, octets: bytes) -> None:
    definition = Definition(None, 1, kind)
    with pytest.raises(Malformed):
        decode(definition, octets[:-1])
    if kind != "ipv6prefix":
        with pytest.raises(Malformed):
            decode(definition, octets + b"\0")


@pytest.mark.parametrize(
    "octets", [b"", b"\0", b"\0\x81" + bytes(16), b"\0\x10\xff", b"\0\x08\xff\xff", b"\0\0" + bytes(17)]
)
def test_an_ipv6_prefix_that_cannot_be_is_malformed(octets: bytes) -> None:
    with pytest.raises(Malformed):
        decode(Definition(None, 1, "ipv6prefix"), octets)


def test_an_ipv6_prefix_may_have_zeros_behind() -> None:
    assert decode(Definition(None, 1, "ipv6prefix"), b"\0\x20\x20\x01\x0d\xb8" + bytes(12)) == "2001:db8::/32"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("integer", -1),
        ("integer", 1 << 32),
        ("integer", "Unknown"),
        ("byte", 256),
        ("ipaddr", "10.0.0"),
        ("ipv6addr", "::g"),
        ("ipaddr", 5),
        ("octets", "text"),
        ("ether", "00:11"),
        ("ipaddr", b"\1"),
    ],
)
def test_a_value_that_its_type_cannot_hold_is_malformed(kind: str, value: Value) -> None:
    with pytest.raises(Malformed):
        encode(Definition(None, 1, kind), value)


def test_a_fixed_size_is_exact_and_253_octets_the_most() -> None:
    fixed = Definition(None, 1, "octets", size=16)
    assert decode(fixed, bytes(16)) == bytes(16)
    for wrong in (bytes(15), bytes(17)):
        with pytest.raises(Malformed):
            decode(fixed, wrong)
        with pytest.raises(Malformed):
            encode(fixed, wrong)
    with pytest.raises(TooLarge):
        encode(Definition(None, 1, "string"), "x" * 254)


def test_numbers_can_be_given_by_name() -> None:
    assert encode(standard_dictionary().attribute("Service-Type"), "Call-Check") == b"\0\0\0\x0a"
