"""The little of ASN.1's Basic Encoding Rules that SNMP uses (RFC 3417 section 8): definite lengths, few types.

By hand, because a fleet of copiers is asked a hundred times a second; the tests hold it against pysnmp's reading. What
agents get wrong and can still be understood is understood: an unsigned value whose highest bit is set without a zero
octet before it, lengths in more octets than needed.
"""

from __future__ import annotations

from functools import lru_cache

from protocols.errors import Malformed, TooLarge

INTEGER, OCTET_STRING, NULL, OID, SEQUENCE = 0x02, 0x04, 0x05, 0x06, 0x30

MOST_SUBIDS = 128
LARGEST_SUBID = (1 << 32) - 1
LONGEST_INTEGER = 9
"""Octets: a Counter64 and its leading zero."""


def tlv(tag: int, content: bytes) -> bytes:
    """One value with its tag and length. Raises TooLarge for content that no datagram holds."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    if size < 0x100:
        return bytes((tag, 0x81, size)) + content
    if size >= 0x10000:
        raise TooLarge("snmp-too-large", f"{size} octets")
    return bytes((tag, 0x82, size >> 8, size & 0xFF)) + content


def integer(value: int, tag: int = INTEGER) -> bytes:
    """A signed integer; with another tag an unsigned one, which is encoded the same way."""
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


@lru_cache(maxsize=16_384)
def oid(dotted: str) -> bytes:
    """An object identifier such as "1.3.6.1.2.1.1.3.0", encoded. Raises Malformed for what is none."""
    parts = dotted.removeprefix(".").split(".")
    if not all(part.isascii() and part.isdecimal() and len(part) <= 10 for part in parts):
        raise Malformed("snmp-oid", f"{dotted!r} is no object identifier")
    numbers = [int(part) for part in parts]
    first = numbers[0] * 40 + (numbers[1] if len(numbers) > 1 else 0)
    if not 2 <= len(numbers) <= MOST_SUBIDS or numbers[0] > 2 or (numbers[0] < 2 and numbers[1] > 39):
        raise Malformed("snmp-oid", f"{dotted!r} is no object identifier")
    if max(numbers) > LARGEST_SUBID:
        raise Malformed("snmp-oid", f"{dotted!r} has a number above 2^32")
    content = bytearray()
    for number in (first, *numbers[2:]):
        octets = [number & 0x7F]
        while number := number >> 7:
            octets.append(number & 0x7F | 0x80)
        content += bytes(reversed(octets))
    return tlv(OID, bytes(content))


def header(data: bytes, place: int, end: int) -> tuple[int, int, int]:
    """Tag, start and end of the value at `place`, which must end by `end`. Raises Malformed."""
    if place + 2 > end:
        raise Malformed("snmp-cut-short", "a value is cut short")
    tag, size = data[place], data[place + 1]
    start = place + 2
    if size >= 0x80:
        octets = size & 0x7F
        if not 1 <= octets <= 4 or start + octets > end:
            raise Malformed("snmp-length", "a length is none")
        size = int.from_bytes(data[start : start + octets], "big")
        start += octets
    if start + size > end:
        raise Malformed("snmp-length", "a length goes beyond the end")
    return tag, start, start + size


def read_integer(data: bytes, start: int, end: int, *, signed: bool = True) -> int:
    """An integer's content. Raises Malformed."""
    if not start < end <= start + LONGEST_INTEGER:
        raise Malformed("snmp-integer", f"an integer of {end - start} octets")
    return int.from_bytes(data[start:end], "big", signed=signed)


@lru_cache(maxsize=16_384)
def read_oid(content: bytes) -> str:
    """An object identifier's content as dotted text. Raises Malformed."""
    if content and content[-1] & 0x80:
        raise Malformed("snmp-oid", "an object identifier is cut short")
    numbers: list[int] = []
    number = 0
    for octet in content:
        number = number << 7 | octet & 0x7F
        if number > LARGEST_SUBID + 80:
            raise Malformed("snmp-oid", "an object identifier has a number above 2^32")
        if not octet & 0x80:
            numbers.append(number)
            number = 0
    if len(numbers) > MOST_SUBIDS:
        raise Malformed("snmp-oid", f"an object identifier of {len(numbers)} numbers")
    if not numbers:
        return "0.0"  # some agents answer an empty one
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))
