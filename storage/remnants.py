"""Looks for a text in what a ledger's file does not use, and in its WAL: what was deleted must not be found there.

SQLite overwrites deleted rows and pages (`secure_delete`). But when it moves rows from page to page it leaves the old
copies of those that stay, and when these are deleted later, the copies are not. That takes most rows of a page to be
deleted, so it is rare; a vacuum writes the file anew without them. The layout of pages is in SQLite's "Database File
Format", sections 1.5 and 1.6; that of the WAL in section 4. The file is read as it lies on the disk: never within the
process that has the ledger open, for closing it would let go of SQLite's locks (POSIX gives them to the process).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_READ_AT_ONCE = 256
_FILE_HEADER = 100
_POINTER = 2
_HEADERS = {2: 12, 5: 12, 10: 8, 13: 8}
"""Bytes of the header of each kind of page of a b-tree, by its first byte."""
_FREE_BLOCK = 4
_WAL_HEADER = 32
_FRAME_HEADER = 24


@dataclass(frozen=True, slots=True)
class Remnants:
    """How often a text stands in unused parts of the file; and in the WAL or in pages that wait to be replaced from it,
    which is over when those who read the ledger have ended.
    """

    unused: int
    wal: int


def remnants(path: Path, text: str) -> Remnants:
    """Look for a text, ASCII letters of any case. Raises OSError or ValueError (no text, no SQLite file)."""
    needle = text.encode().upper()
    if not needle:
        raise ValueError("no text to look for")
    unused = 0
    with path.open("rb") as file:
        size = _page_size(file)
        wal, replaced = _in_wal(path, size, needle)
        free = _free_pages(file, size)
        for number, page in _pages_with(file, size, needle):
            if number in replaced:
                wal += page.upper().count(needle)
            else:
                unused += (page if number in free else _unused_of(page, number)).upper().count(needle)
    return Remnants(unused, wal)


def _in_wal(path: Path, size: int, needle: bytes) -> tuple[int, set[int]]:
    """How often the needle stands in the WAL, and the numbers of the pages that are in it."""
    count, replaced = 0, set()
    try:
        with path.with_name(path.name + "-wal").open("rb") as file:
            file.seek(_WAL_HEADER)
            while len(frame := file.read(_FRAME_HEADER + size)) > _FRAME_HEADER:
                replaced.add(struct.unpack_from(">I", frame)[0])
                count += frame[_FRAME_HEADER:].upper().count(needle)
    except FileNotFoundError:
        pass
    return count, replaced


def _pages_with(file: BinaryIO, size: int, needle: bytes) -> Iterator[tuple[int, bytes]]:
    """The pages in which the needle stands, with their numbers."""
    file.seek(0)
    first = 1
    while piece := file.read(size * _READ_AT_ONCE):
        if needle in piece.upper():
            for start in range(0, len(piece), size):
                page = piece[start : start + size]
                if needle in page.upper():
                    yield first + start // size, page
        first += len(piece) // size


def _page_size(file: BinaryIO) -> int:
    header = file.read(_FILE_HEADER)
    if not header.startswith(b"SQLite format 3\0"):
        raise ValueError("no SQLite file")
    size: int = struct.unpack_from(">H", header, 16)[0]
    return 65_536 if size == 1 else size


def _free_pages(file: BinaryIO, size: int) -> set[int]:
    """The numbers of the pages on the free list, its trunk pages apart: what these hold are numbers."""
    file.seek(32)
    (trunk,) = struct.unpack(">I", file.read(4))
    free: set[int] = set()
    trunks: set[int] = set()
    while trunk and trunk not in trunks:
        trunks.add(trunk)
        file.seek((trunk - 1) * size)
        page = file.read(size)
        trunk, leaves = struct.unpack_from(">II", page)
        free.update(struct.unpack_from(f">{min(leaves, size // 4 - 2)}I", page, 8))
    return free


def _unused_of(page: bytes, number: int) -> bytes:
    """The parts of a page of a b-tree that no row is in; nothing for other pages."""
    start = _FILE_HEADER if number == 1 else 0
    header = _HEADERS.get(page[start])
    if header is None:
        return b""
    block, cells, content = struct.unpack_from(">HHH", page, start + 1)
    parts = [page[start + header + _POINTER * cells : content or 65_536]]
    while block and block + _FREE_BLOCK <= len(page):
        following, length = struct.unpack_from(">HH", page, block)
        parts.append(page[block + _FREE_BLOCK : block + length])
        block = following if following > block else 0
    return b"\0".join(parts)
