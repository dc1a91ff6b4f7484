"""The declared format of Ethernet frames, ARP messages, and neighbour solicitations and advertisements.

IEEE 802.1Q, RFC 826, RFC 8200 section 3, RFC 4861 sections 4.3 to 4.6.1. `ethernet.py`, `arp.py` and `ndp.py` read the
same by hand; property tests show that they agree with this on any bytes, both ways. The list of options is closed by
`Terminated`, for `GreedyRange` alone swallows errors. Left out: what RFC 4861 section 7.1 says of several fields
together.
"""

from __future__ import annotations

from typing import Any, Final

from construct import (
    Bytes,
    Check,
    Const,
    Construct,
    ConstructError,
    Container,
    ExprValidator,
    FixedSized,
    FocusedSeq,
    GreedyBytes,
    GreedyRange,
    If,
    Int8ub,
    Int16ub,
    Int24ub,
    OneOf,
    RawCopy,
    Struct,
    Terminated,
    this,
)

from protocols.errors import Malformed
from protocols.neighbours.ethernet import TAGGED
from protocols.neighbours.ndp import HOP_LIMIT, ICMPV6, LINK_OPTION, checksum

MAC: Final = Bytes(6)

FRAME: Final = Struct(
    "target" / MAC,
    "source" / MAC,
    "kind" / Int16ub,
    "tagged" / If(this.kind == TAGGED, Struct("tag" / Int16ub, "kind" / Int16ub)),
    "payload" / GreedyBytes,
)

ARP: Final = Struct(
    Const(1, Int16ub),
    Const(0x0800, Int16ub),
    Const(6, Int8ub),
    Const(4, Int8ub),
    "operation" / OneOf(Int16ub, (1, 2)),
    "sender_mac" / MAC,
    "sender" / Bytes(4),
    "target_mac" / MAC,
    "target" / Bytes(4),
)

_OPTION: Final = Struct(
    "number" / Int8ub,
    "units" / ExprValidator(Int8ub, lambda units, _: units > 0),
    "value" / Bytes(this.units * 8 - 2),
)

_MESSAGE: Final = Struct(
    "kind" / OneOf(Int8ub, tuple(LINK_OPTION)),
    Const(0, Int8ub),
    "checksum" / Int16ub,
    "flags" / Int8ub,
    "reserved" / Int24ub,
    "wanted" / ExprValidator(Bytes(16), lambda wanted, _: wanted[0] != 0xFF),
    "options" / FocusedSeq("items", "items" / GreedyRange(_OPTION), Terminated),
)

NEIGHBOUR: Final = Struct(
    "first" / ExprValidator(Bytes(4), lambda first, _: first[0] >> 4 == 6),
    "length" / Int16ub,
    Const(ICMPV6, Int8ub),
    Const(HOP_LIMIT, Int8ub),
    "source" / Bytes(16),
    "target" / Bytes(16),
    "message" / RawCopy(FixedSized(this.length, _MESSAGE)),
    Check(lambda packet: checksum(packet.source, packet.target, packet.message.data) == 0),
)


def read(definition: Construct, data: bytes) -> Container:
    """The fields by name. Raises Malformed where the definition does not allow it."""
    try:
        return definition.parse(data)
    except ConstructError as error:
        raise Malformed("definition", str(error).replace("\n", " ")) from None


def write(definition: Construct, fields: Any) -> bytes:
    """The octets of fields by name. Raises Malformed where the definition does not allow it, or one is missing."""
    try:
        built: bytes = definition.build(fields)
    except (ConstructError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Malformed("definition", str(error).replace("\n", " ")) from None
    return built
