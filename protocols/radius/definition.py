"""The declared format of RADIUS packets and of the accounting record: what each attribute is, how long, in which range.

RFC 2865 sections 3, 5 and 5.26, RFC 2866 section 5, RFC 2869 section 5.3, RFC 3162 section 2.1, and `dictionary.locum`.
`packet.py` and `accounting.py` read the same by hand because every datagram passes there; property tests show that they
agree with this on any bytes, both ways. Every list is closed by `Terminated`: `GreedyRange` alone swallows errors, and
`Prefixed` alone loses octets. Left out: what several attributes mean together (colour pages over pages).
"""

from __future__ import annotations

from typing import Any, Final

from construct import (
    Bytes,
    Construct,
    ConstructError,
    Container,
    Default,
    ExprAdapter,
    ExprValidator,
    FocusedSeq,
    GreedyBytes,
    GreedyRange,
    Int8ub,
    Int16ub,
    Int32ub,
    Prefixed,
    Select,
    Struct,
    Switch,
    Terminated,
    ValidationError,
    this,
)

from protocols.errors import Malformed
from protocols.radius.packet import HEADER_SIZE, LARGEST_PACKET, LocumType, Type, Vendor


class Unreadable(bytes):
    """A value that does not follow its attribute's definition: kept as it is."""


def _filling(definition: Construct) -> Construct:
    """A value that fills its attribute: not an octet more or less."""
    return FocusedSeq("value", "value" / definition, Terminated)


def _exactly(size: int) -> Construct:
    return _filling(ExprAdapter(Bytes(size), lambda octets, _: octets, _octets))


def _list_of(definition: Construct) -> Construct:
    return FocusedSeq("items", "items" / GreedyRange(definition), Terminated)


def _between(definition: Construct, least: int, most: int) -> Construct:
    return ExprValidator(definition, lambda value, _: least <= value <= most)


def _sized(length: Construct, head: int, inner: Construct) -> Construct:
    """`inner` behind a length that counts `head` octets before it too."""
    return Prefixed(ExprAdapter(length, lambda value, _: value - head, lambda value, _: value + head), inner)


def _octets(value: Any, _: Any) -> bytes:
    # construct writes numbers where octets are declared, and bytes(9) is nine zeros.
    if not isinstance(value, bytes):
        raise ValidationError("neither readable as declared nor octets")
    return bytes(value)


NUMBER: Final = _filling(Int32ub)
TEXT: Final = ExprAdapter(
    GreedyBytes, lambda octets, _: octets.decode("utf-8", "replace"), lambda text, _: text.encode("utf-8")
)
OCTETS: Final = ExprAdapter(GreedyBytes, lambda octets, _: octets, _octets)
ADDRESS: Final = _exactly(4)
ADDRESS_V6: Final = _exactly(16)
DIGEST: Final = _exactly(16)
FLAG: Final = _filling(_between(Int32ub, 0, 1))
KIND: Final = _filling(_between(Int32ub, 1, 4))
UNLOCK_SCOPE: Final = _filling(_between(Int32ub, 1, 2))

ACCOUNTING_ATTRIBUTES: Final[dict[int, Construct]] = {
    Type.USER_NAME: TEXT,
    Type.NAS_IP_ADDRESS: ADDRESS,
    Type.CLASS: OCTETS,
    Type.NAS_IDENTIFIER: TEXT,
    Type.PROXY_STATE: OCTETS,
    Type.ACCT_STATUS_TYPE: NUMBER,
    Type.ACCT_DELAY_TIME: NUMBER,
    Type.ACCT_SESSION_ID: TEXT,
    Type.ACCT_SESSION_TIME: NUMBER,
    Type.EVENT_TIMESTAMP: NUMBER,
    Type.MESSAGE_AUTHENTICATOR: DIGEST,
    Type.NAS_IPV6_ADDRESS: ADDRESS_V6,
}

JOB_ATTRIBUTES: Final[dict[int, Construct]] = {
    LocumType.JOB_KIND: KIND,
    LocumType.JOB_ID: TEXT,
    LocumType.PAGES: NUMBER,
    LocumType.COLOR_PAGES: NUMBER,
    LocumType.SHEETS: NUMBER,
    LocumType.COPIES: NUMBER,
    LocumType.DUPLEX: FLAG,
    LocumType.PAPER: TEXT,
    LocumType.DOCUMENT: TEXT,
    LocumType.ACCOUNT: TEXT,
    LocumType.UNLOCK_SCOPE: UNLOCK_SCOPE,
    LocumType.RECORD_ID: TEXT,
}

_UNREADABLE: Final = ExprAdapter(GreedyBytes, lambda octets, _: Unreadable(octets), _octets)


def _typed(values: dict[int, Construct]) -> Construct:
    return Select(Switch(this.number, values, default=OCTETS), _UNREADABLE)


def _attribute(value: Construct) -> Construct:
    """Number (1 to 255), length (2 to 255, itself and the number counted), value."""
    return Struct("number" / _between(Int8ub, 1, 255), "value" / _sized(Int8ub, 2, value))


def _vendor_specific(attributes: Construct) -> Construct:
    several = ExprValidator(_list_of(attributes), lambda items, _: len(items) > 0)
    return Struct("vendor" / Int32ub, "attributes" / several)


def _packet(attribute: Construct) -> Construct:
    """Code, identifier, Length (20 to 4096, all counted), authenticator, attributes. What follows is padding."""
    length = _between(Int16ub, HEADER_SIZE, LARGEST_PACKET)
    body = Struct("authenticator" / Default(Bytes(16), bytes(16)), "attributes" / _list_of(attribute))
    return Struct("code" / Int8ub, "identifier" / Int8ub, "body" / _sized(length, 4, body))


ATTRIBUTE: Final = _attribute(OCTETS)
VENDOR_SPECIFIC: Final = _vendor_specific(ATTRIBUTE)
PACKET: Final = _packet(ATTRIBUTE)


def accounting_record(vendor_id: int = Vendor.LOCUM) -> Construct:
    """An Accounting-Request with every value typed, the jobs' attributes being those of `vendor_id`.

    A value that does not follow its definition is `Unreadable`; the frame is refused as `PACKET` refuses it.
    """
    ours = ExprValidator(
        _vendor_specific(_attribute(_typed(JOB_ATTRIBUTES))), lambda value, _: value["vendor"] == vendor_id
    )
    vendor_specific = Select(ours, ExprAdapter(GreedyBytes, _not_ours(vendor_id), _octets))
    return _packet(_attribute(_typed({**ACCOUNTING_ATTRIBUTES, Type.VENDOR_SPECIFIC: vendor_specific})))


def _not_ours(vendor_id: int) -> Any:
    prefix = vendor_id.to_bytes(4, "big")
    return lambda octets, _: Unreadable(octets) if octets[:4] == prefix else octets


ACCOUNTING_RECORD: Final = accounting_record()


def read(definition: Construct, data: bytes) -> Container:
    """What the definition makes of the bytes. Raises Malformed where it does not fit."""
    try:
        return definition.parse(data)
    except ConstructError as error:
        raise Malformed("definition", str(error).replace("\n", " ")) from None


def write(definition: Construct, value: Any) -> bytes:
    """The bytes of a value. Raises Malformed where the definition does not allow it, or a part is missing."""
    try:
        built: bytes = definition.build(value)
    except (ConstructError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Malformed("definition", str(error).replace("\n", " ")) from None
    return built
