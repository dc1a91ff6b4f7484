"""Whether the kernel still has Locum's routing rules: other programs that manage the network take away what is not
theirs, and what the bridge takes up would go nowhere. Asked by rtnetlink(7) itself, for the running appliance asks
every second and shall not carry a library for one question.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter

OUT_TABLE, HERE_TABLE = 19567, 19568
"""Routing tables: what Locum sends as a device, and what is for its listeners."""
PRIORITY = 19
"""Before the main table's (32766), and where hardly anybody has rules."""

_WANTED = {"bridge": Counter({PRIORITY: 1, PRIORITY + 1: 1, PRIORITY + 2: 1}), "router": Counter({PRIORITY: 2})}
_HEADER = struct.Struct("=IHHII")
_RULE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_GET_RULE, _NEW_RULE, _DONE, _ERROR = 34, 32, 3, 2
_REQUEST_DUMP = 0x301
_TABLE, _PRIORITY = 15, 6
"""Numbers of linux/rtnetlink.h and linux/fib_rules.h."""
_LONGEST = 2.0
_AT_ONCE = 1 << 16


def leads_here(version: int, mode: str) -> bool:
    """Whether all routing rules of an IP version are there that `mode` needs; also if the kernel does not tell."""
    try:
        return _rules(version) >= _WANTED[mode]
    except OSError:
        return True


def _rules(version: int) -> Counter[int]:
    """How many routing rules of this IP version lead to Locum's tables, by priority. Raises OSError."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as asking:
        asking.settimeout(_LONGEST)
        body = _RULE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        asking.send(_HEADER.pack(_HEADER.size + len(body), _GET_RULE, _REQUEST_DUMP, 1, 0) + body)
        found: Counter[int] = Counter()
        while True:
            data = asking.recv(_AT_ONCE)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, *_ = _HEADER.unpack_from(data, at)
                if kind in (_DONE, _ERROR) or length < _HEADER.size:
                    return found
                told = _numbers(data[at + _HEADER.size + _RULE.size : at + length]) if kind == _NEW_RULE else {}
                if told.get(_TABLE) in (OUT_TABLE, HERE_TABLE):
                    found[told.get(_PRIORITY, 0)] += 1
                at += (length + 3) & ~3


def _numbers(data: bytes) -> dict[int, int]:
    """The attributes that are 32-bit numbers."""
    found: dict[int, int] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length == _ATTRIBUTE.size + 4:
            found[kind] = int.from_bytes(data[at + 4 : at + 8], "little" if struct.pack("=H", 1)[0] else "big")
        if length < _ATTRIBUTE.size:
            break
        at += (length + 3) & ~3
    return found
