"""The frame of a RADIUS packet: header, attributes, vendor-specific attributes. RFC 2865 sections 3, 5 and 5.26.

Written by hand because every datagram passes here; `definition.py` declares the same format and property tests hold
the two together. Unknown codes and unknown attributes pass. What a value means is not known here, nor whether anyone
signed it. Left out: extended attributes (RFC 6929), which travel as the opaque values they are, and packets over 4096
octets (RFC 7930).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from protocols.errors import Malformed, TooLarge

HEADER_SIZE = 20
LARGEST_PACKET = 4096
LARGEST_VALUE = 253
LARGEST_VENDOR_VALUE = 247
NO_AUTHENTICATOR = bytes(16)

_HEADER = struct.Struct("!BBH16s")
_VENDOR_HEAD = struct.Struct("!IBB")
_HEADS = {number: bytes((number,)) for number in range(1, 256)}
_LENGTHS = [bytes((length + 2,)) for length in range(LARGEST_VALUE + 1)]

Attributes = tuple[tuple[int, bytes], ...]


class Code(IntEnum):
    """Packet types (IANA "RADIUS Packet Type Codes"). A packet's code may be any octet: compare, do not convert."""

    ACCESS_REQUEST = 1
    ACCESS_ACCEPT = 2
    ACCESS_REJECT = 3
    ACCOUNTING_REQUEST = 4
    ACCOUNTING_RESPONSE = 5
    ACCESS_CHALLENGE = 11
    STATUS_SERVER = 12
    STATUS_CLIENT = 13
    DISCONNECT_REQUEST = 40
    DISCONNECT_ACK = 41
    DISCONNECT_NAK = 42
    COA_REQUEST = 43
    COA_ACK = 44
    COA_NAK = 45
    PROTOCOL_ERROR = 52


class Type:
    """Attribute numbers that our code names. All others are in `standard.py`."""

    USER_NAME = 1
    USER_PASSWORD = 2
    CHAP_PASSWORD = 3
    NAS_IP_ADDRESS = 4
    NAS_PORT = 5
    SERVICE_TYPE = 6
    FRAMED_PROTOCOL = 7
    FRAMED_IP_ADDRESS = 8
    REPLY_MESSAGE = 18
    STATE = 24
    CLASS = 25
    VENDOR_SPECIFIC = 26
    SESSION_TIMEOUT = 27
    IDLE_TIMEOUT = 28
    CALLED_STATION_ID = 30
    CALLING_STATION_ID = 31
    NAS_IDENTIFIER = 32
    PROXY_STATE = 33
    ACCT_STATUS_TYPE = 40
    ACCT_DELAY_TIME = 41
    ACCT_SESSION_ID = 44
    ACCT_SESSION_TIME = 46
    ACCT_TERMINATE_CAUSE = 49
    EVENT_TIMESTAMP = 55
    CHAP_CHALLENGE = 60
    NAS_PORT_TYPE = 61
    TUNNEL_PASSWORD = 69
    ARAP_PASSWORD = 70
    EAP_MESSAGE = 79
    MESSAGE_AUTHENTICATOR = 80
    NAS_PORT_ID = 87
    NAS_IPV6_ADDRESS = 95
    ERROR_CAUSE = 101
    DIGEST_RESPONSE = 103


class Vendor:
    """Vendor numbers that our code names. LOCUM is what RFC 5612 sets aside for examples; a site may set another."""

    MICROSOFT = 311
    LOCUM = 32473


class LocumType:
    """Attribute numbers of `dictionary.locum`."""

    JOB_KIND = 1
    JOB_ID = 2
    PAGES = 3
    COLOR_PAGES = 4
    SHEETS = 5
    COPIES = 6
    DUPLEX = 7
    PAPER = 8
    DOCUMENT = 9
    ACCOUNT = 10
    UNLOCK_SCOPE = 11
    RECORD_ID = 12


@dataclass(frozen=True, slots=True)
class Packet:
    """A well-framed packet.

    `authenticator` is 16 octets, each attribute a number of 1 to 255 and a value of 0 to 253 octets.
    """

    code: int
    identifier: int
    authenticator: bytes
    attributes: Attributes

    def get(self, number: int) -> bytes | None:
        """The value of the first attribute of this number, or None."""
        for candidate, value in self.attributes:
            if candidate == number:
                return value
        return None

    def get_all(self, number: int) -> list[bytes]:
        """The values of every attribute of this number, in order."""
        return [value for candidate, value in self.attributes if candidate == number]

    def vendor(self, vendor_id: int) -> list[tuple[int, bytes]]:
        """(number, value) of all attributes of one vendor, in order, wherever in the packet they are.

        Raises Malformed if one of that vendor does not follow RFC 2865 section 5.26. Other vendors are not looked into.
        """
        prefix = vendor_id.to_bytes(4, "big")
        found: list[tuple[int, bytes]] = []
        for number, value in self.attributes:
            if number == Type.VENDOR_SPECIFIC and value[:4] == prefix:
                found += split_vendor(value)
        return found


def parse(datagram: bytes) -> Packet:
    """Read one datagram. Octets beyond the Length field are padding and ignored (RFC 2865 section 3).

    Attribute number 0 is refused, as servers do: a packet that holds it could never be delivered. Raises Malformed or
    TooLarge.
    """
    size = len(datagram)
    if size < HEADER_SIZE:
        raise Malformed("too-short", f"{size} octets, a header has {HEADER_SIZE}")
    if size > LARGEST_PACKET:
        raise TooLarge("too-long", f"{size} octets, at most {LARGEST_PACKET}")
    code, identifier, length, authenticator = _HEADER.unpack_from(datagram)
    if length > LARGEST_PACKET:
        raise TooLarge("too-long", f"Length {length}, at most {LARGEST_PACKET}")
    if not HEADER_SIZE <= length <= size:
        raise Malformed("length-lies", f"Length {length} in a datagram of {size} octets")
    return Packet(code, identifier, authenticator, tuple(_split(datagram, HEADER_SIZE, length, "attribute")))


def split_vendor(value: bytes) -> list[tuple[int, bytes]]:
    """(number, value) of each attribute in the value of one Vendor-Specific attribute (RFC 2865 section 5.26).

    Raises Malformed if it is shorter than a vendor id and one attribute, or if an attribute overruns.
    """
    size = len(value)
    if size < 6:
        raise Malformed("vendor-attribute-length", f"{size} octets hold no vendor id and attribute")
    if value[5] == size - 4 and value[4]:
        # One attribute in each is what nearly all devices send.
        return [(value[4], value[6:])]
    return _split(value, 4, size, "vendor-attribute")


def _split(data: bytes, at: int, end: int, what: str) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    keep = found.append
    try:
        while at < end:
            number = data[at]
            after = at + data[at + 1]
            # A lone octet before padding would borrow its length from the padding: its end is then past `end`, or
            # before at + 2.
            if after < at + 2 or after > end:
                raise Malformed(f"{what}-length", f"length {data[at + 1]} at octet {at} of {end}")
            if not number:
                raise Malformed(f"{what}-zero", f"number 0 at octet {at}")
            keep((number, data[at + 2 : after]))
            at = after
    except IndexError:
        raise Malformed(f"{what}-length", f"no length at octet {at + 1}") from None
    return found


def build(code: int, identifier: int, authenticator: bytes, attributes: Attributes) -> bytes:
    """The packet's octets, without padding.

    Raises TooLarge over 4096 octets or for a value over 253, Malformed for a number or an authenticator that no
    packet can hold.
    """
    return build_encoded(code, identifier, authenticator, encode(attributes))


def encode(attributes: Attributes) -> bytes:
    """The attributes' octets. Raises TooLarge or Malformed for one that no packet can hold."""
    try:
        return b"".join([_HEADS[number] + _LENGTHS[len(value)] + value for number, value in attributes])
    except LookupError:
        raise _blame(attributes) from None


def build_encoded(code: int, identifier: int, authenticator: bytes, body: bytes) -> bytes:
    """As `build`, of attributes that are octets already."""
    if len(authenticator) != 16:
        raise Malformed("authenticator-length", f"{len(authenticator)} octets, an authenticator has 16")
    length = HEADER_SIZE + len(body)
    if length > LARGEST_PACKET:
        raise TooLarge("too-long", f"{length} octets, at most {LARGEST_PACKET}")
    if not (0 <= code < 256 and 0 <= identifier < 256):
        raise Malformed("header-range", f"code {code} and identifier {identifier} are octets")
    return _HEADER.pack(code, identifier, length, authenticator) + body


def _blame(attributes: Attributes) -> Malformed | TooLarge:
    """What is wrong with attributes that no packet can hold."""
    for number, value in attributes:
        if len(value) > LARGEST_VALUE:
            return TooLarge("value-too-long", f"attribute {number} has {len(value)} octets, at most {LARGEST_VALUE}")
        if number not in _HEADS:
            return Malformed("attribute-number", f"{number} is not 1 to 255")
    return Malformed("attributes", "no packet can hold them")


def size_of(attributes: Attributes) -> int:
    """How many octets a packet with these attributes has."""
    return HEADER_SIZE + sum(len(value) + 2 for _, value in attributes)


def vendor_attribute(vendor_id: int, number: int, value: bytes) -> tuple[int, bytes]:
    """One attribute of a vendor as a Vendor-Specific attribute (RFC 2865 section 5.26).

    Raises TooLarge for a value over 247 octets, Malformed for a number or vendor id out of range.
    """
    if len(value) > LARGEST_VENDOR_VALUE:
        raise TooLarge(
            "value-too-long", f"a vendor's attribute has {len(value)} octets, at most {LARGEST_VENDOR_VALUE}"
        )
    if not (0 < number < 256 and 0 <= vendor_id < 1 << 32):
        raise Malformed("attribute-number", f"vendor {vendor_id}, attribute {number}")
    return Type.VENDOR_SPECIFIC, _VENDOR_HEAD.pack(vendor_id, number, len(value) + 2) + value
