"""Who is asking to be let in, and how: what Locum reads of an Access-Request.

RFC 2865 section 4.1; MS-CHAP from RFC 2548, EAP from RFC 3579, Digest from RFC 5090, ARAP from RFC 2869. Any
credential that is there is named, the strongest first: a request that holds one of these is never taken for a bare
card. Whether the request is authentic was asked before; whether a name is a card number is a matter of configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from protocols.radius import values
from protocols.radius.packet import LocumType, Packet, Type, Vendor
from protocols.radius.secrets import reveal_password

# MS-CHAP-Response and MS-CHAP2-Response.
_MS_CHAP_RESPONSES = frozenset({1, 25})


_T = TypeVar("_T")


class Method(StrEnum):
    """How the user proves who they are. CARD is for the caller, once NONE and the name's pattern say so."""

    CARD = "card"
    NONE = "none"
    PASSWORD = "password"
    CHAP = "chap"
    MSCHAP = "mschap"
    EAP = "eap"


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """`method` is NONE without a credential and for an empty password. CHAP stands for other challenge digests too.

    `user_name` is "" if absent; octets that are no UTF-8 show as replacement characters. `password` is there for
    PASSWORD only; it is not shown when the value is printed. `nas_address` is IPv4 if given, else IPv6.
    """

    user_name: str
    method: Method
    service_type: int | None
    nas_port_type: int | None
    nas_identifier: str | None
    nas_address: str | None
    state: bytes | None
    unlock_scope: int | None
    calling_station: str | None
    password: bytes | None = field(default=None, repr=False)


def read(packet: Packet, secret: bytes, *, vendor_id: int = Vendor.LOCUM) -> AccessRequest:
    """Read an Access-Request from the device that shares `secret`; `vendor_id` is where Locum's own attributes are.

    Raises Malformed for a value of a wrong length: a request that cannot be read must not be judged.
    """
    first: dict[int, bytes] = {}
    for number, value in packet.attributes:
        first.setdefault(number, value)
    vendors = Type.VENDOR_SPECIFIC in first
    method, password = _credential(packet, first, secret, packet.vendor(Vendor.MICROSOFT) if vendors else [])

    def get(number: int, convert: Callable[[bytes], _T]) -> _T | None:
        value = first.get(number)
        return None if value is None else convert(value)

    return AccessRequest(
        user_name=get(Type.USER_NAME, values.text) or "",
        method=method,
        service_type=get(Type.SERVICE_TYPE, values.integer),
        nas_port_type=get(Type.NAS_PORT_TYPE, values.integer),
        nas_identifier=get(Type.NAS_IDENTIFIER, values.text),
        nas_address=get(Type.NAS_IP_ADDRESS, values.ipv4) or get(Type.NAS_IPV6_ADDRESS, values.ipv6),
        state=first.get(Type.STATE),
        unlock_scope=_unlock_scope(packet, vendor_id) if vendors else None,
        calling_station=get(Type.CALLING_STATION_ID, values.text),
        password=password,
    )


def _credential(
    packet: Packet, first: dict[int, bytes], secret: bytes, microsoft: list[tuple[int, bytes]]
) -> tuple[Method, bytes | None]:
    if Type.EAP_MESSAGE in first:
        return Method.EAP, None
    if microsoft and any(number in _MS_CHAP_RESPONSES for number, _ in microsoft):
        return Method.MSCHAP, None
    if Type.CHAP_PASSWORD in first or Type.ARAP_PASSWORD in first or Type.DIGEST_RESPONSE in first:
        return Method.CHAP, None
    hidden = first.get(Type.USER_PASSWORD)
    password = b"" if hidden is None else reveal_password(hidden, packet.authenticator, secret)
    return (Method.PASSWORD, password) if password else (Method.NONE, None)


def _unlock_scope(packet: Packet, vendor_id: int) -> int | None:
    for number, value in packet.vendor(vendor_id):
        if number == LocumType.UNLOCK_SCOPE:
            return values.integer(value)
    return None
