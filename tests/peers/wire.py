"""RADIUS as the tests write and read it: RFC 2865 §3, 2866 §3, 2869 §5.14, 5997 §3; struct and hashlib only.

Written apart from `protocols` on purpose: the two must agree because both follow the RFCs. Left out: EAP, CHAP,
tunnels.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from dataclasses import dataclass

ACCESS_REQUEST, ACCESS_ACCEPT, ACCESS_REJECT = 1, 2, 3
ACCOUNTING_REQUEST, ACCOUNTING_RESPONSE = 4, 5
ACCESS_CHALLENGE, STATUS_SERVER = 11, 12

USER_NAME, USER_PASSWORD, NAS_IP_ADDRESS, NAS_PORT, SERVICE_TYPE, FRAMED_PROTOCOL = 1, 2, 4, 5, 6, 7
REPLY_MESSAGE, STATE, CLASS, SESSION_TIMEOUT, CALLED_STATION = 18, 24, 25, 27, 30
NAS_IDENTIFIER, PROXY_STATE, STATUS_TYPE, DELAY_TIME, SESSION_ID = 32, 33, 40, 41, 44
EVENT_TIMESTAMP, NAS_PORT_TYPE, EAP_MESSAGE, MESSAGE_AUTHENTICATOR = 55, 61, 79, 80
VENDOR_SPECIFIC, VENDOR = 26, 32473

START, STOP, INTERIM, ACCOUNTING_ON, ACCOUNTING_OFF = 1, 2, 3, 7, 8
JOB_KIND, JOB_ID, PAGES, COLOR_PAGES, SHEETS, COPIES, DUPLEX, PAPER, DOCUMENT, ACCOUNT, UNLOCK_SCOPE, RECORD_ID = range(
    1, 13
)


def attribute(number: int, value: bytes | str | int) -> bytes:
    """One attribute; text is UTF-8, a number 32 bits."""
    if isinstance(value, int):
        value = struct.pack("!I", value)
    elif isinstance(value, str):
        value = value.encode()
    return bytes((number, len(value) + 2)) + value


def vendor(number: int, value: bytes | str | int) -> bytes:
    """One attribute of vendor 32473 in its own Vendor-Specific attribute (RFC 2865 §5.26)."""
    return attribute(VENDOR_SPECIFIC, struct.pack("!I", VENDOR) + attribute(number, value))


def hidden_password(password: bytes, secret: bytes, authenticator: bytes) -> bytes:
    """User-Password as RFC 2865 §5.2 hides it."""
    padded = password + b"\0" * (-len(password) % 16 or (0 if password else 16))
    hidden, before = b"", authenticator
    for start in range(0, len(padded), 16):
        mask = hashlib.md5(secret + before).digest()
        before = bytes(a ^ b for a, b in zip(padded[start : start + 16], mask, strict=True))
        hidden += before
    return attribute(USER_PASSWORD, hidden)


def packet(code: int, identifier: int, authenticator: bytes, attributes: bytes) -> bytes:
    """A datagram with the right length field."""
    return struct.pack("!BBH16s", code, identifier, 20 + len(attributes), authenticator) + attributes


def signed(code: int, identifier: int, authenticator: bytes, attributes: bytes, secret: bytes) -> bytes:
    """A datagram with Message-Authenticator as its first attribute (RFC 2869 §5.14)."""
    blank = packet(code, identifier, authenticator, attribute(MESSAGE_AUTHENTICATOR, bytes(16)) + attributes)
    return blank[:22] + hmac.digest(secret, blank, "md5") + blank[38:]


def access_request(
    secret: bytes,
    identifier: int,
    attributes: bytes,
    *,
    password: bytes | None = None,
    sign: bool = True,
    authenticator: bytes | None = None,
) -> bytes:
    """An Access-Request with a random Request Authenticator, signed unless told otherwise."""
    authenticator = authenticator or os.urandom(16)
    if password is not None:
        attributes = hidden_password(password, secret, authenticator) + attributes
    if sign:
        return signed(ACCESS_REQUEST, identifier, authenticator, attributes, secret)
    return packet(ACCESS_REQUEST, identifier, authenticator, attributes)


def status_server(secret: bytes, identifier: int = 0) -> bytes:
    """Status-Server (RFC 5997 §3)."""
    return signed(STATUS_SERVER, identifier, os.urandom(16), b"", secret)


def accounting_request(secret: bytes, identifier: int, attributes: bytes) -> bytes:
    """An Accounting-Request with its Request Authenticator (RFC 2866 §3)."""
    blank = packet(ACCOUNTING_REQUEST, identifier, bytes(16), attributes)
    return blank[:4] + hashlib.md5(blank + secret).digest() + blank[20:]


def response(code: int, request: bytes, attributes: bytes, secret: bytes) -> bytes:
    """An answer to `request` with its Response Authenticator (RFC 2865 §3)."""
    blank = packet(code, request[1], request[4:20], attributes)
    return blank[:4] + hashlib.md5(blank + secret).digest() + blank[20:]


def is_authentic(answer: bytes, request: bytes, secret: bytes) -> bool:
    """Whether `answer` is a true answer to `request`: identifier, length and Response Authenticator."""
    return (
        len(answer) >= 20
        and answer[1] == request[1]
        and int.from_bytes(answer[2:4]) == len(answer)
        and answer[4:20] == hashlib.md5(answer[:4] + request[4:20] + answer[20:] + secret).digest()
    )


@dataclass(frozen=True, slots=True)
class Packet:
    """A datagram taken apart; attributes in the order of the wire."""

    code: int
    identifier: int
    authenticator: bytes
    attributes: tuple[tuple[int, bytes], ...]
    raw: bytes

    def all(self, number: int) -> list[bytes]:
        """Every value of one attribute."""
        return [value for n, value in self.attributes if n == number]

    def text(self, number: int) -> str | None:
        """The first value of one attribute as text."""
        values = self.all(number)
        return values[0].decode() if values else None

    def number(self, number: int) -> int | None:
        """The first value of one attribute as a number."""
        values = self.all(number)
        return int.from_bytes(values[0]) if values else None

    def ours(self, number: int) -> bytes | None:
        """The first value of one attribute of vendor 32473."""
        head = struct.pack("!I", VENDOR) + bytes((number,))
        return next((value[6:] for value in self.all(VENDOR_SPECIFIC) if value.startswith(head)), None)


def take_apart(datagram: bytes) -> Packet:
    """Parse a datagram that is known to be well formed; anything else is an IndexError or ValueError."""
    code, identifier, length, authenticator = struct.unpack("!BBH16s", datagram[:20])
    if length != len(datagram):
        raise ValueError(f"length field {length}, datagram {len(datagram)}")
    at, attributes = 20, []
    while at < length:
        size = datagram[at + 1]
        if size < 2 or at + size > length:
            raise ValueError(f"attribute at {at} overruns")
        attributes.append((datagram[at], datagram[at + 2 : at + size]))
        at += size
    return Packet(code, identifier, authenticator, tuple(attributes), datagram)
