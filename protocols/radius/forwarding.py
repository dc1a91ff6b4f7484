"""How an accounting record is recognised when it comes again, and what of it is sent on.

RFC 2866 sections 4.1 and 5.2, RFC 5080 section 2.2.1, RFC 2865 section 5.33. A device that sends again changes what
tells the time passed and nothing else, so a record is known by a digest of the rest. Which client sent it, how long a
repeat is expected and when a device starts anew are for the caller.
"""

from __future__ import annotations

from hashlib import blake2b

from protocols.errors import Malformed
from protocols.radius.packet import (
    LARGEST_PACKET,
    Attributes,
    LocumType,
    Packet,
    Type,
    Vendor,
    size_of,
    split_vendor,
    vendor_attribute,
)
from protocols.radius.values import LARGEST_INTEGER

_CHANGES_ON_REPEAT = frozenset({Type.ACCT_DELAY_TIME, Type.PROXY_STATE, Type.MESSAGE_AUTHENTICATOR})
_AS_SENT = b"locum-as-sent"
_BY_EVENT = b"locum-by-event"


def repeat_digests(packet: Packet) -> tuple[bytes, ...]:
    """Digests of 16 octets: two packets of one client are the same record if they share one.

    The first is over code and attributes without Acct-Delay-Time, Proxy-State and Message-Authenticator. Where there
    is an Event-Timestamp a second has it less the delay instead: some devices move both together. The two never equal
    each other.
    """
    delay = _integer(packet.get(Type.ACCT_DELAY_TIME)) or 0
    parts: list[bytes] = [bytes((packet.code & 0xFF,))]
    stamp_at = 0
    stamp = None
    for number, value in packet.attributes:
        if number in _CHANGES_ON_REPEAT:
            continue
        if number == Type.EVENT_TIMESTAMP and not stamp_at:
            stamp, stamp_at = _integer(value), len(parts) + 1
        parts.append(bytes((number, len(value))))
        parts.append(value)
    as_sent = blake2b(b"".join(parts), digest_size=16, person=_AS_SENT).digest()
    if stamp is None:
        return (as_sent,)
    parts[stamp_at] = (stamp - delay).to_bytes(8, "big", signed=True)
    return as_sent, blake2b(b"".join(parts), digest_size=16, person=_BY_EVENT).digest()


def forwarded(packet: Packet, *, held: int, taken_at: int, record_id: str, vendor_id: int = Vendor.LOCUM) -> Attributes:
    """The attributes to send to the server: the packet's, as they were and in order, then Locum-Record-Id.

    The record was taken at `taken_at` (Unix seconds) and waited `held` seconds: Acct-Delay-Time grows by them, and an
    absent Event-Timestamp is the time taken less the device's delay. What would make the packet larger than 4096 octets
    is left off.
    """
    attributes = _with_times(_without_record_id(packet.attributes, vendor_id), max(0, held), taken_at)
    return _if_it_fits(attributes, vendor_attribute(vendor_id, LocumType.RECORD_ID, record_id.encode("utf-8")))


def _with_times(attributes: Attributes, held: int, taken_at: int) -> Attributes:
    changed: list[tuple[int, bytes]] = []
    delay: int | None = None
    stamped = False
    for number, value in attributes:
        if number == Type.ACCT_DELAY_TIME and delay is None:
            # One that cannot be read counts as none: the server could not read it either.
            delay = _integer(value) or 0
            value = _octets(delay + held)
        stamped = stamped or number == Type.EVENT_TIMESTAMP
        changed.append((number, value))
    result = tuple(changed)
    if delay is None and held:
        result = _if_it_fits(result, (Type.ACCT_DELAY_TIME, _octets(held)))
    if not stamped:
        result = _if_it_fits(result, (Type.EVENT_TIMESTAMP, _octets(taken_at - (delay or 0))))
    return result


def _without_record_id(attributes: Attributes, vendor_id: int) -> Attributes:
    prefix = vendor_id.to_bytes(4, "big")
    kept = []
    for number, value in attributes:
        if number == Type.VENDOR_SPECIFIC and value[:4] == prefix:
            stripped = _strip_record_id(value)
            if stripped is None:
                continue
            value = stripped
        kept.append((number, value))
    return tuple(kept)


def _strip_record_id(value: bytes) -> bytes | None:
    """The vendor's attribute without record ids; None if nothing is left. One that cannot be read stays as it is."""
    try:
        inner = split_vendor(value)
    except Malformed:
        return value
    if all(number != LocumType.RECORD_ID for number, _ in inner):
        return value
    kept = [bytes((number, len(each) + 2)) + each for number, each in inner if number != LocumType.RECORD_ID]
    return value[:4] + b"".join(kept) if kept else None


def _if_it_fits(attributes: Attributes, more: tuple[int, bytes]) -> Attributes:
    if size_of(attributes) + 2 + len(more[1]) > LARGEST_PACKET:
        return attributes
    return (*attributes, more)


def _integer(value: bytes | None) -> int | None:
    return int.from_bytes(value, "big") if value is not None and len(value) == 4 else None


def _octets(number: int) -> bytes:
    return min(max(number, 0), LARGEST_INTEGER).to_bytes(4, "big")
