"""FreeRADIUS's decode tables: an independent reading of the same bytes.

What our dictionary does not know (other vendors' names, tags, TLVs, extended attributes) is counted as unsupported; all
else must be read alike, and what concerns framing must be refused alike.
"""

from __future__ import annotations

import re
from collections import Counter

import pytest

from protocols.errors import Malformed, NotAuthentic, ProtocolError
from protocols.radius.dictionary import Definition, decode, standard_dictionary
from protocols.radius.packet import NO_AUTHENTICATOR, Attributes, Type, build, parse, split_vendor
from protocols.radius.secrets import reveal_password, reveal_salted, verify_message_authenticator
from tests.vectors.radius_inputs import Vector, vectors

# FreeRADIUS's test program decrypts every packet with these, whatever authenticator is in it.
TEST_SECRET = b"testing123"
TEST_AUTHENTICATOR = bytes(range(16))

TOKEN = re.compile(r'\s*(?:(?P<text>"(?:\\.|[^"\\])*")|(?P<mark>[={},])|(?P<word>[^\s={},]+))')
NOT_FRAMING = ("unknown packet code", "Message-Authenticator is required")
TAGGED = frozenset(
    {"Tunnel-Type", "Tunnel-Medium-Type", "Tunnel-Client-Endpoint", "Tunnel-Server-Endpoint", "Tunnel-Private-Group-Id"}
)
DICTIONARY = standard_dictionary()


class Unsupported(Exception):
    """The expected text names something that we do not decode."""


def flat(text: str) -> list[tuple[tuple[str, ...], str]]:
    """`A = { B = 1 }, C = 2` as [(("A", "B"), "1"), (("C",), "2")]."""
    found: list[tuple[tuple[str, ...], str]] = []
    path: list[str] = []
    name = ""
    for token in TOKEN.finditer(text):
        word = token["text"] or token["word"]
        if token["mark"] == "{":
            path.append(name)
            name = ""
        elif token["mark"] == "}":
            path.pop()
        elif word is not None and not name:
            name = word
        elif word is not None:
            found.append(((*path, name), word))
            name = ""
    return found


def unescaped(text: str) -> bytes:
    """The octets of a quoted string: octal escapes, and a backslash before what would mean something."""
    octets = text[1:-1].encode("utf-8")
    named = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}

    def one(match: re.Match[bytes]) -> bytes:
        return bytes([int(match[1], 8)]) if match[1].isdigit() else named.get(match[1], match[1])

    return re.sub(rb"\\([0-7]{3}|.)", one, octets)


def same(definition: Definition, value: bytes, expected: str) -> bool:
    """Whether our reading of a value is the expected text."""
    if definition.number == Type.USER_PASSWORD:
        return reveal_password(value, TEST_AUTHENTICATOR, TEST_SECRET) == unescaped(expected).rstrip(b"\0")
    if definition.number == Type.TUNNEL_PASSWORD:
        return reveal_salted(value[1:], TEST_AUTHENTICATOR, TEST_SECRET) == unescaped(expected)
    if expected.startswith("0x"):
        return value.hex() == expected[2:].lower()
    if expected.startswith('"'):
        return value == unescaped(expected)
    decoded = decode(definition, value)
    if expected.startswith("::"):
        if expected[2:] not in definition.values:
            raise Unsupported(f"value {expected} of {definition.name}")
        return decoded == definition.values[expected[2:]]
    return str(decoded) == expected


def agrees(attributes: Attributes, expected: list[tuple[tuple[str, ...], str]]) -> bool:
    """Whether our reading of every attribute is the expected one, in order. Raises Unsupported."""
    ours: list[tuple[tuple[str, ...], bytes]] = []
    for number, value in attributes:
        if number == Type.VENDOR_SPECIFIC:
            try:
                vendor = int.from_bytes(value[:4], "big")
                ours += [
                    (("Vendor-Specific", f"raw.{vendor}", f"raw.{inner}"), octets)
                    for inner, octets in split_vendor(value)
                ]
            except Malformed:
                ours.append((("raw.Vendor-Specific",), value))
        elif value or number == 89:
            # FreeRADIUS leaves off empty values, but for Chargeable-User-Identity.
            ours.append(((DICTIONARY.name(None, number),), value))
    joined: list[tuple[tuple[str, ...], bytes]] = []
    for path, value in ours:
        if joined and path == ("EAP-Message",) == joined[-1][0]:
            joined[-1] = (path, joined[-1][1] + value)
        else:
            joined.append((path, value))
    for path, _ in expected:
        if len(path) > 3 or not all(part.startswith("raw.") for part in path[1:]):
            raise Unsupported(f"names in {'.'.join(path)}")
        if len(path) == 1 and path[0].removeprefix("raw.").lower() not in DICTIONARY.by_name:
            raise Unsupported(f"name {path[0]}")
        if path[0] in TAGGED:
            raise Unsupported(f"tag of {path[0]}")
    if len(joined) != len(expected):
        return False
    for (path, value), (wanted, text) in zip(joined, expected, strict=True):
        if len(path) > 1 or wanted[0].startswith("raw."):
            if path[-1].removeprefix("raw.") != wanted[-1].removeprefix("raw.") or value.hex() != text[2:].lower():
                return False
            if len(path) == 1 and path[0] != "Vendor-Specific" and not path[0].startswith("raw."):
                definition = DICTIONARY.attribute(path[0])
                if definition.type != "octets":
                    with pytest.raises(Malformed):
                        decode(definition, value)
        elif path != wanted or not same(DICTIONARY.attribute(path[0]), value, text):
            return False
    return True


def datagram_of(vector: Vector) -> bytes:
    """The vector's packet, or its attributes under a header that fits."""
    if vector.kind == "decode-proto":
        return vector.data
    length = (20 + len(vector.data)).to_bytes(2, "big")
    return b"\x02\x00" + length + NO_AUTHENTICATOR + vector.data


def outcome(vector: Vector) -> str:
    """What comes of one vector: read alike, unsupported, or not alike."""
    datagram = datagram_of(vector)
    packet = parse(datagram)
    expected = flat(vector.expected)
    if vector.kind == "decode-proto":
        expected = [each for each in expected if not each[0][0].startswith("Packet-")]
    assert build(packet.code, packet.identifier, packet.authenticator, packet.attributes) == datagram
    try:
        return "alike" if agrees(packet.attributes, expected) else "not alike"
    except Unsupported:
        return "unsupported"


def test_what_freeradius_reads_is_read_alike() -> None:
    outcomes: Counter[str] = Counter()
    different = []
    for vector in vectors():
        if not vector.refused:
            came = outcome(vector)
            outcomes[came] += 1
            if came == "not alike":
                different.append(vector.where)
    print(f"FreeRADIUS's decode lines: {dict(outcomes)}")
    assert not different
    assert outcomes["alike"] >= 30


def test_what_freeradius_refuses_for_its_framing_is_refused() -> None:
    refused = 0
    for vector in vectors():
        if not vector.refused or any(reason in vector.expected for reason in NOT_FRAMING):
            continue
        refused += 1
        datagram = datagram_of(vector)
        with pytest.raises(ProtocolError) as error:
            verify_message_authenticator(datagram, parse(datagram), TEST_SECRET)
        assert isinstance(error.value, Malformed | NotAuthentic), vector.where
    print(f"{refused} refused")
    assert refused >= 14


def test_a_missing_message_authenticator_is_told_and_unknown_codes_pass() -> None:
    for vector in vectors():
        if vector.refused and any(reason in vector.expected for reason in NOT_FRAMING):
            assert verify_message_authenticator(vector.data, parse(vector.data), TEST_SECRET) is False
