"""Capture files: pcap and pcapng, also compressed by gzip, read frame by frame with scapy's readers.

A file that ends in the middle of a frame, or is damaged, is read up to there, and that is said.
"""

from __future__ import annotations

import gzip
import logging
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST_FRAME = 262_144

TOLD_EVERY = 1_000

Told = Callable[[str, int, int], None]
"""Is told what is being done, how many octets of the file were read, and of how many (0: not known)."""

_NOT_READABLE = (OSError, EOFError, ValueError, LookupError, TypeError, struct.error, zlib.error, OverflowError)
"""What scapy's readers may raise for bytes that are no capture, besides its own error; it documents none of it."""
_SECRETS, _PROCESSES = 10, 0x80000001


class CannotRead(Exception):
    """The file is no capture, or cannot be read. The text is one line for a person."""


class Damaged(CannotRead):
    """The file ends in the middle of a frame, or is damaged there. What came before was read."""


@dataclass(frozen=True, slots=True)
class Frame:
    """`at` in ms UTC; `link`: the number of the link layer."""

    at: int
    link: int
    data: bytes


def frames(path: Path, told: Told | None = None) -> Iterator[Frame]:
    """Every frame of a capture file, in its order. Raises CannotRead, and Damaged after the last frame."""
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
        noticed = reader.f = _Noticed(reader.f)
        _at_each_block(reader, noticed)
        number = 0
        while True:
            noticed.begin()
            try:
                data, about = reader._read_packet(LARGEST_FRAME)
                frame = _frame(reader, data, about)
            except (Scapy_Exception, *_NOT_READABLE) as error:
                if noticed.cut or not (noticed.ended and isinstance(error, EOFError)):
                    raise Damaged(
                        f"{path}: is cut off or damaged after frame {number:,}; what follows was not read"
                    ) from error
                return
            number += 1
            yield frame
            if told is not None and number % TOLD_EVERY == 0:
                told("reading", noticed.octets, noticed.of)


class _Noticed:
    """A file of records. `ended`: it ended where a record could have begun. `cut`: it ended within one. `octets`: how
    many were read, `of` how many; 0: not known, for it is compressed.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self.octets = 0
        self.of = 0 if isinstance(file, gzip.GzipFile) else os.fstat(file.fileno()).st_size
        self._reads = 0
        self.ended = False
        self.cut = False

    def begin(self) -> None:
        """A record may begin here."""
        self._reads = 0

    def read(self, size: int) -> bytes:
        self._reads += 1
        data: bytes = self._file.read(size)
        self.octets += len(data)
        if len(data) < size:
            self.ended = not data and self._reads == 1
            self.cut = self.cut or not self.ended
        return data

    def close(self) -> None:
        self._file.close()


def _at_each_block(reader: Any, noticed: _Noticed) -> None:
    """Of pcapng a frame is read with the blocks before it that say nothing of frames."""
    read_block = getattr(reader, "_read_block", None)
    if read_block is None:
        return

    def read(**how: Any) -> Any:
        noticed.begin()
        return read_block(**how)

    reader._read_block = read


def _frame(reader: Any, data: bytes, about: Any) -> Frame:
    if not hasattr(about, "tsresol"):
        per_second = 1_000_000_000 if reader.nano else 1_000_000
        return Frame(about.sec * 1000 + about.usec * 1000 // per_second, reader.linktype, data)
    ticks = 0 if about.tslow is None else about.tshigh << 32 | about.tslow
    return Frame(ticks * 1000 // about.tsresol, about.linktype, data)
