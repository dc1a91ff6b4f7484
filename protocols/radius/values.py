"""Single values as they stand in attributes: numbers, text, addresses. RFC 8044 sections 3.1, 3.4, 3.8 and 3.9."""

from __future__ import annotations

import ipaddress
import re

from protocols.errors import Malformed

LARGEST_INTEGER = (1 << 32) - 1
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")


def integer(value: bytes) -> int:
    """Four octets as a number. Raises Malformed for another length."""
    if len(value) != 4:
        raise Malformed("value-length", f"{len(value)} octets, a number has 4")
    return int.from_bytes(value, "big")


def text(value: bytes) -> str:
    """Octets as UTF-8; what is none, and control characters, show as replacement characters.

    A name that steers the terminal of whoever reads it is no name. The octets themselves are kept elsewhere.
    """
    decoded = value.decode("utf-8", "replace")
    return decoded if decoded.isprintable() else _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", decoded)


def ipv4(value: bytes) -> str:
    """Four octets as an address. Raises Malformed for another length."""
    if len(value) != 4:
        raise Malformed("value-length", f"{len(value)} octets, an IPv4 address has 4")
    return ".".join(map(str, value))


def ipv6(value: bytes) -> str:
    """Sixteen octets as an address in its canonical form. Raises Malformed for another length."""
    if len(value) != 16:
        raise Malformed("value-length", f"{len(value)} octets, an IPv6 address has 16")
    return str(ipaddress.IPv6Address(value))
