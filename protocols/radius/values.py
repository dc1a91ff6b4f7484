"""Single values as they stand in attributes: numbers, text, addresses. RFC 8044 sections 3.1, 3.4, 3.8 and 3.9."""

from __future__ import annotations

import ipaddress

from protocols.errors import Malformed

LARGEST_INTEGER = (1 << 32) - 1


def integer(value: bytes) -> int:
    """Four octets as a number. Raises Malformed for another length."""
    if len(value) != 4:
        raise Malformed("value-length", f"{len(value)} octets, a number has 4")
    return int.from_bytes(value, "big")


def text(value: bytes) -> str:
    """Octets as UTF-8; what is none shows as replacement characters."""
    return value.decode("utf-8", "replace")


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
