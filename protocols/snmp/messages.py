"""SNMPv1 and SNMPv2c messages (RFC 1157, RFC 3416): requests made, answers read, and the other way round for agents.

A `Varbind` has its value as int, bytes (octet strings, addresses) or str (object identifiers). What an agent does not
have is a kind of its own (`ABSENT`). Left out: traps of SNMPv1, and SNMPv3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from protocols.errors import Malformed, TooLarge
from protocols.snmp import ber

V1, V2C, V3 = 0, 1, 3
LARGEST = 65_507
MOST_VARBINDS = 512


class Pdu(IntEnum):
    """What a message asks or answers; the tag of its PDU."""

    GET = 0xA0
    GET_NEXT = 0xA1
    RESPONSE = 0xA2
    SET = 0xA3
    GET_BULK = 0xA5
    INFORM = 0xA6
    TRAP = 0xA7
    REPORT = 0xA8


class Status(IntEnum):
    """error-status, as far as a reader of counters must tell them apart."""

    NO_ERROR = 0
    TOO_BIG = 1
    NO_SUCH_NAME = 2
    GENERAL = 5
    NO_ACCESS = 6
    AUTHORIZATION = 16


KINDS = {
    ber.INTEGER: "integer",
    ber.OCTET_STRING: "octets",
    ber.NULL: "null",
    ber.OID: "oid",
    0x40: "address",
    0x41: "counter32",
    0x42: "gauge32",
    0x43: "timeticks",
    0x44: "opaque",
    0x46: "counter64",
    0x47: "gauge32",
    0x80: "no-such-object",
    0x81: "no-such-instance",
    0x82: "end-of-mib",
}
ABSENT = frozenset({"null", "no-such-object", "no-such-instance", "end-of-mib"})
"""Kinds of a varbind that has no value."""
NUMBERS = frozenset({"integer", "counter32", "gauge32", "counter64"})
"""Kinds that can be a counter, TimeTicks apart."""
_UNSIGNED = frozenset({"counter32", "gauge32", "timeticks", "counter64"})
_TAGS = {kind: tag for tag, kind in reversed(KINDS.items())}


class Varbind(NamedTuple):
    """One object. `oid`: dotted, without a leading dot. `kind`: one of `KINDS`."""

    oid: str
    kind: str
    value: int | bytes | str | None = None

    @property
    def absent(self) -> bool:
        return self.kind in ABSENT


@dataclass(frozen=True, slots=True)
class Message:
    """One SNMP message. For GET_BULK `status` is non-repeaters and `index` max-repetitions, as on the wire."""

    version: int
    community: bytes
    pdu: Pdu
    request: int
    status: int
    index: int
    varbinds: tuple[Varbind, ...]


def encode(message: Message) -> bytes:
    """The message's octets. Raises Malformed for an object identifier that is none, TooLarge."""
    head = ber.integer(message.version) + ber.tlv(ber.OCTET_STRING, message.community)
    whole = ber.tlv(ber.SEQUENCE, head + encode_pdu(message))
    if len(whole) > LARGEST:
        raise TooLarge("snmp-too-large", f"{len(whole)} octets")
    return whole


def encode_pdu(message: Message) -> bytes:
    """The octets of the message's PDU alone. Raises as `encode`."""
    varbinds = b"".join(ber.tlv(ber.SEQUENCE, ber.oid(each.oid) + _encode_value(each)) for each in message.varbinds)
    numbers = ber.integer(message.request) + ber.integer(message.status) + ber.integer(message.index)
    return ber.tlv(message.pdu, numbers + ber.tlv(ber.SEQUENCE, varbinds))


def request(
    version: int,
    community: bytes,
    number: int,
    oids: Sequence[str],
    pdu: Pdu = Pdu.GET,
    repetitions: int = 0,
) -> bytes:
    """A GET, GET_NEXT or GET_BULK (of `repetitions` rows) for these objects. Raises as `encode`."""
    asked = tuple(Varbind(oid, "null") for oid in oids)
    return encode(Message(version, community, pdu, number, 0, repetitions, asked))


def version_of(data: bytes) -> int:
    """The version that a message says it is of, as on the wire. Raises Malformed."""
    tag, place, end = ber.header(data, 0, len(data))
    _expect(tag, ber.SEQUENCE, "a message")
    return _integer(data, place, end)[0]


def decode(data: bytes) -> Message:
    """Read a whole message of SNMPv1 or SNMPv2c. Raises Malformed, TooLarge."""
    if len(data) > LARGEST:
        raise TooLarge("snmp-too-large", f"{len(data)} octets")
    tag, place, end = ber.header(data, 0, len(data))
    _expect(tag, ber.SEQUENCE, "a message")
    version, place = _integer(data, place, end)
    if version not in (V1, V2C):
        raise Malformed("snmp-version", f"version {version}")
    tag, start, place = ber.header(data, place, end)
    _expect(tag, ber.OCTET_STRING, "a community")
    community = data[start:place]
    return _message(version, community, data, place, end)


def decode_pdu(data: bytes) -> Message:
    """Read the PDU of a message of SNMPv3. Raises Malformed, TooLarge."""
    return _message(V3, b"", data, 0, len(data))


def _message(version: int, community: bytes, data: bytes, place: int, end: int) -> Message:
    tag, place, end = ber.header(data, place, end)
    try:
        pdu = Pdu(tag)
    except ValueError:
        raise Malformed("snmp-pdu", f"no PDU has the tag {tag:#04x}") from None
    number, place = _integer(data, place, end)
    status, place = _integer(data, place, end)
    index, place = _integer(data, place, end)
    tag, place, end = ber.header(data, place, end)
    _expect(tag, ber.SEQUENCE, "a list of objects")
    return Message(version, community, pdu, number, status, index, _varbinds(data, place, end))


def _varbinds(data: bytes, place: int, end: int) -> tuple[Varbind, ...]:
    found: list[Varbind] = []
    while place < end:
        tag, inner, place = ber.header(data, place, end)
        _expect(tag, ber.SEQUENCE, "an object")
        tag, start, inner = ber.header(data, inner, place)
        _expect(tag, ber.OID, "an object's name")
        name = ber.read_oid(data[start:inner])
        tag, start, stop = ber.header(data, inner, place)
        found.append(Varbind(name, *_value(tag, data, start, stop)))
        if len(found) > MOST_VARBINDS:
            raise TooLarge("snmp-too-many", f"more than {MOST_VARBINDS} objects")
    return tuple(found)


def _value(tag: int, data: bytes, start: int, end: int) -> tuple[str, int | bytes | str | None]:
    kind = KINDS.get(tag)
    if kind is None:
        raise Malformed("snmp-type", f"no type has the tag {tag:#04x}")
    if kind in ABSENT:
        return kind, None
    if kind == "integer":
        return kind, ber.read_integer(data, start, end)
    if kind in _UNSIGNED:
        return kind, ber.read_integer(data, start, end, signed=False)
    if kind == "oid":
        return kind, ber.read_oid(data[start:end])
    return kind, data[start:end]


def _encode_value(each: Varbind) -> bytes:
    tag = _TAGS[each.kind]
    value = each.value
    if isinstance(value, int):
        return ber.integer(value, tag)
    if isinstance(value, str):
        return ber.oid(value)
    return ber.tlv(tag, value or b"")


def _integer(data: bytes, place: int, end: int) -> tuple[int, int]:
    tag, start, stop = ber.header(data, place, end)
    _expect(tag, ber.INTEGER, "a number")
    return ber.read_integer(data, start, stop), stop


def _expect(tag: int, wanted: int, what: str) -> None:
    if tag != wanted:
        raise Malformed("snmp-structure", f"the tag {tag:#04x} stands where {what} should be")
