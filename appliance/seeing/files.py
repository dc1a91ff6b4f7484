"""Capture files: pcap and pcapng, also compressed by gzip, read frame by frame with scapy's readers.

A file that ends in the middle of a frame is read up to there.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST_FRAME = 262_144

_NOT_READABLE = (OSError, EOFError, ValueError, LookupError, TypeError, struct.error, zlib.error, OverflowError)
"""What scapy's readers may raise for bytes that are no capture, besides its own error; it documents none of it."""
_SECRETS, _PROCESSES = 10, 0x80000001


class CannotRead(Exception):
    """The file is no capture, or cannot be read. The text is one line for a person."""


@dataclass(frozen=True, slots=True)
class Frame:
    """`at` in ms UTC; `link`: the number of the link layer."""

    at: int
    link: int
    data: bytes


def frames(path: Path) -> Iterator[Frame]:
    """Every frame of a capture file, in its order. Raises CannotRead."""
    from scapy.error import Scapy_Exception
    from scapy.utils import RawPcapNgReader

    logging.getLogger("scapy").setLevel(logging.CRITICAL)
    try:
        # It takes pcap files too, by its own rule.
        reader: Any = RawPcapNgReader(str(path))
    except OSError as error:
        raise CannotRead(f"{path}: cannot be read ({error.strerror or 'it is damaged'})") from error
    except (Scapy_Exception, *_NOT_READABLE) as error:
        raise CannotRead(f"{path}: is no capture in pcap or pcapng") from error
    with closing(reader):
        # Blocks that say nothing of frames are not looked into.
        for kind in (_SECRETS, _PROCESSES):
            getattr(reader, "blocktypes", {}).pop(kind, None)
        while True:
            try:
                data, about = reader._read_packet(LARGEST_FRAME)
                frame = _frame(reader, data, about)
            except (Scapy_Exception, *_NOT_READABLE):
                return
            yield frame


def _frame(reader: Any, data: bytes, about: Any) -> Frame:
    if not hasattr(about, "tsresol"):
        per_second = 1_000_000_000 if reader.nano else 1_000_000
        return Frame(about.sec * 1000 + about.usec * 1000 // per_second, reader.linktype, data)
    ticks = 0 if about.tslow is None else about.tshigh << 32 | about.tslow
    return Frame(ticks * 1000 // about.tsresol, about.linktype, data)
