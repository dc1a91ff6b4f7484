"""What the kernel hands to a listening socket, and what not: a program for its packet filter (classic BPF).

IPv4 and IPv6, UDP and TCP, from or to one of the ports; and every later fragment, for only the first has ports. A tag
that is still in the frame is looked behind (the kernel takes the outermost out before a socket sees the frame). Linux,
Documentation/networking/filter.rst. Left out: IPv6 with extension headers other than a fragment's first.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence

SO_ATTACH_FILTER = 26
MOST_PORTS = 48
WHOLE = 262_144

_INSTRUCTION = struct.Struct("HBBI")
_LOAD_BYTE, _LOAD_HALF, _LOAD_BYTE_AT, _LOAD_HALF_AT = 0x30, 0x28, 0x50, 0x48
_LOAD_X, _ADD, _ADD_X, _TO_X, _TO_A = 0x01, 0x04, 0x0C, 0x07, 0x87
_EQUAL, _AND_BITS, _RETURN, _JUMP, _AND, _SHIFT = 0x15, 0x45, 0x06, 0x05, 0x54, 0x64

NOTHING = _INSTRUCTION.pack(_RETURN, 0, 0, 0)
"""A program that lets nothing through: what has come already stays."""

Instruction = tuple[int, str, str, int]
"""Operation, where to go if true and if false ("" the next), and its number."""


def program(ports: Sequence[int]) -> bytes:
    """The filter's instructions in the machine's own order. Raises ValueError for more than `MOST_PORTS` ports."""
    if not 0 < len(ports) <= MOST_PORTS:
        raise ValueError(f"{len(ports)} ports; from 1 to {MOST_PORTS} can be listened for")
    lines: list[tuple[str, Instruction]] = []

    def add(code: int, number: int = 0, true: str = "", false: str = "", label: str = "") -> None:
        lines.append((label, (code, true, false, number)))

    # X: how many octets a tag takes.
    add(_LOAD_X, 0)
    add(_LOAD_HALF, 12)
    for tag in (0x8100, 0x88A8):
        add(_EQUAL, tag, "tagged", "")
    add(_JUMP, true="kind")
    add(_LOAD_X, 4, label="tagged")
    add(_LOAD_HALF_AT, 12, label="kind")
    add(_EQUAL, 0x0800, "", "six")
    add(_LOAD_BYTE_AT, 23)
    add(_EQUAL, 17, "four", "")
    add(_EQUAL, 6, "four", "no")
    add(_LOAD_HALF_AT, 20, label="four")
    add(_AND_BITS, 0x1FFF, "yes", "")
    # A + X: where the ports stand, behind a header of its own length.
    add(_LOAD_BYTE_AT, 14)
    add(_AND, 0x0F)
    add(_SHIFT, 2)
    add(_ADD_X)
    add(_TO_X)
    add(_JUMP, true="ports")
    add(_EQUAL, 0x86DD, "", "no", label="six")
    add(_LOAD_BYTE_AT, 20)
    add(_EQUAL, 44, "yes", "")
    add(_EQUAL, 17, "behind", "")
    add(_EQUAL, 6, "behind", "no")
    add(_TO_A, label="behind")
    add(_ADD, 40)
    add(_TO_X)
    add(_LOAD_HALF_AT, 14, label="ports")
    for port in ports:
        add(_EQUAL, port, "yes", "")
    add(_LOAD_HALF_AT, 16)
    for port in ports:
        add(_EQUAL, port, "yes", "")
    add(_RETURN, 0, label="no")
    add(_RETURN, WHOLE, label="yes")
    return _assembled(lines)


def attach(listening: socket.socket, instructions: bytes) -> None:
    """Let through to the socket what the program lets through. Raises OSError."""
    held = ctypes.create_string_buffer(instructions, len(instructions))
    many = len(instructions) // _INSTRUCTION.size
    listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", many, ctypes.addressof(held)))


def _assembled(lines: list[tuple[str, Instruction]]) -> bytes:
    places = {label: number for number, (label, _) in enumerate(lines) if label}
    made = []
    for number, (_, (code, true, false, value)) in enumerate(lines):
        ahead = {each: places[each] - number - 1 for each in (true, false) if each}
        if code == _JUMP:
            made.append(_INSTRUCTION.pack(code, 0, 0, ahead[true]))
        else:
            made.append(_INSTRUCTION.pack(code, ahead.get(true, 0), ahead.get(false, 0), value))
    return b"".join(made)
