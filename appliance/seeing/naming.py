"""What a machine calls itself, where it is seen passing: by SNMP and by mDNS.

Answers to SNMP (RFC 3416, any version that is not encrypted) with sysDescr or hrDeviceDescr; mDNS (RFC 6762) with the
text records of printers (`ty`, `product`). Read by scapy, whose errors on damaged bytes mean that nothing was said.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

SNMP_PORT = 161
MDNS_PORT = 5353
LONGEST = 120

_SYSTEM = "1.3.6.1.2.1.1.1.0"
_DEVICE = "1.3.6.1.2.1.25.3.2.1.3."
_KEYS = (b"ty=", b"product=")
_NOT_READABLE = (ValueError, LookupError, TypeError, AttributeError, struct.error, OverflowError, RecursionError)
"""What scapy may raise for bytes that are neither; it documents none of it."""


def load() -> None:
    """Load scapy now: a process that gives up its rights may not be able to read it afterwards."""
    by_snmp(b"")
    by_mdns(b"")


def by_snmp(data: bytes) -> str:
    """The description in an answer, "" if there is none."""
    from scapy.asn1.asn1 import ASN1_Error
    from scapy.error import Scapy_Exception
    from scapy.layers.snmp import SNMP

    try:
        found = dict(_values(SNMP(data)))
    except (ASN1_Error, Scapy_Exception, *_NOT_READABLE):
        return ""
    device = next((text for name, text in found.items() if name.startswith(_DEVICE) and text), "")
    return device or found.get(_SYSTEM, "")


def by_mdns(data: bytes) -> str:
    """The model in the text records of a printer, "" if there is none."""
    from scapy.error import Scapy_Exception
    from scapy.layers.dns import DNS, DNSRR

    try:
        message: Any = DNS(data)
        for record in (*message.an, *message.ar):
            if isinstance(record, DNSRR) and record.type == 16:
                for text in record.rdata if isinstance(record.rdata, list) else [record.rdata]:
                    for key in _KEYS:
                        if isinstance(text, bytes) and text[: len(key)].lower() == key:
                            return _plain(text[len(key) :].strip(b"()"))
    except (Scapy_Exception, *_NOT_READABLE):
        return ""
    return ""


def _values(message: Any) -> Iterator[tuple[str, str]]:
    for binding in getattr(message.PDU, "varbindlist", ()):
        value = binding.value.val
        if isinstance(value, bytes):
            yield str(binding.oid.val), _plain(value)


def _plain(text: bytes) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in text.decode("utf-8", "replace"))
    return " ".join(shown.split())[:LONGEST]
