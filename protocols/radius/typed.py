"""Values by type: what an attribute's octets mean, and the other way round.

RFC 8044 section 3, under the names that dictionaries use; RFC 3162 section 2.3 for prefixes. Types that hold others
(TLV, struct, extended) and filters of one vendor are octets here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from protocols.errors import Malformed, TooLarge
from protocols.radius import values
from protocols.radius.packet import LARGEST_VALUE

Value = int | str | bytes

_SAME_TYPE = {
    "uint8": "byte", "uint16": "short", "uint32": "integer", "uint64": "integer64", "int32": "signed",
    "ipv4addr": "ipaddr", "text": "string", "combo-ip": "octets", "abinary": "octets", "vsa": "octets",
    "bool": "byte", "time_delta": "integer", "ipv4prefix": "octets", "tlv": "octets", "extended": "octets",
    "long-extended": "octets", "evs": "octets", "struct": "octets", "union": "octets", "group": "octets",
    "virtual": "octets", "attribute": "octets",
}  # fmt: skip
_SIZES = {
    "byte": 1,
    "short": 2,
    "integer": 4,
    "date": 4,
    "signed": 4,
    "integer64": 8,
    "ipaddr": 4,
    "ipv6addr": 16,
    "ifid": 8,
    "ether": 6,
}
NUMBERS = frozenset({"byte", "short", "integer", "date", "signed", "integer64"})
_TYPES = frozenset(_SIZES) | {"string", "octets", "ipv6prefix"}
_TYPE_WORD = re.compile(r"([a-z0-9_-]+)(?:\[(\d+)\])?\Z")


@dataclass(frozen=True, slots=True)
class Definition:
    """One attribute: its vendor (None: a standard attribute), number, type, and its values as name -> number.

    `size` is an exact length in octets that the type does not already give, or None.
    """

    vendor: int | None
    number: int
    type: str
    values: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    name: str = ""
    size: int | None = None


def decode(definition: Definition, value: bytes) -> Value:
    """A value by its type: int for numbers and dates (Unix seconds), str for text and addresses, bytes for octets.

    Text with octets that are no UTF-8 has replacement characters. Raises Malformed for a wrong length.
    """
    kind = definition.type
    size = _SIZES.get(kind, definition.size)
    if size is not None and len(value) != size:
        raise Malformed(
            "value-length", f"{definition.name or definition.number}: {len(value)} octets, {kind} has {size}"
        )
    if kind == "string":
        return value.decode("utf-8", "replace")
    if kind in NUMBERS:
        return int.from_bytes(value, "big", signed=kind == "signed")
    match kind:
        case "ipaddr":
            return values.ipv4(value)
        case "ipv6addr":
            return values.ipv6(value)
        case "ipv6prefix":
            return _decode_prefix(value)
        case "ifid":
            return value.hex(":", 2)
        case "ether":
            return value.hex(":")
    return value


def encode(definition: Definition, value: Value) -> bytes:
    """The octets of a value, the other way round. Numbers also by the name of a value.

    Raises Malformed, or TooLarge over 253 octets.
    """
    try:
        encoded = _encode(definition, value)
    except (ValueError, OverflowError) as error:
        raise Malformed(
            "value", f"{definition.name or definition.number}: {value!r} is no {definition.type}: {error}"
        ) from None
    if len(encoded) > LARGEST_VALUE:
        raise TooLarge(
            "value-too-long", f"{definition.name or definition.number}: {len(encoded)} octets, at most {LARGEST_VALUE}"
        )
    size = _SIZES.get(definition.type, definition.size)
    if size is not None and len(encoded) != size:
        raise Malformed(
            "value-length", f"{definition.name or definition.number}: {len(encoded)} octets instead of {size}"
        )
    return encoded


def _encode(definition: Definition, value: Value) -> bytes:
    kind = definition.type
    if kind in NUMBERS:
        if isinstance(value, str) and value in definition.values:
            value = definition.values[value]
        if not isinstance(value, int):
            raise ValueError("neither a number nor the name of one")
        return value.to_bytes(_SIZES[kind], "big", signed=kind == "signed")
    if kind == "octets" or isinstance(value, bytes):
        if not isinstance(value, bytes):
            raise ValueError("octets are bytes")
        return value
    if not isinstance(value, str):
        raise ValueError("not text")
    match kind:
        case "string":
            return value.encode("utf-8")
        case "ipaddr":
            return ipaddress.IPv4Address(value).packed
        case "ipv6addr":
            return ipaddress.IPv6Address(value).packed
        case "ipv6prefix":
            network = ipaddress.IPv6Network(value)
            used = -(-network.prefixlen // 8)
            return bytes((0, network.prefixlen)) + network.network_address.packed[:used]
    return bytes.fromhex(value.replace(":", ""))


def _decode_prefix(value: bytes) -> str:
    # RFC 3162 section 2.3: reserved, prefix length, the prefix; bits beyond its length are zero.
    if not 2 <= len(value) <= 18 or value[1] > 128 or (len(value) - 2) * 8 < value[1]:
        raise Malformed("value-length", f"{len(value)} octets are no IPv6 prefix")
    try:
        return str(ipaddress.IPv6Network((value[2:].ljust(16, b"\0"), value[1])))
    except ValueError:
        raise Malformed("value", "an IPv6 prefix with bits set beyond its length") from None


def type_of(word: str) -> tuple[str, int | None]:
    """The type and exact size that a dictionary's word stands for ("uint32", "octets[16]"). Raises ValueError."""
    found = _TYPE_WORD.match(word)
    kind = _SAME_TYPE.get(found[1], found[1]) if found else ""
    if not found or kind not in _TYPES:
        raise ValueError(f"the type {word} is not known")
    return kind, int(found[2]) if found[2] and kind == "octets" else None
