"""Witnesses: what was said of a ledger's entries and is kept elsewhere, so that a cut or replaced file is found out.

A witness is a checkpoint's line, in any text (a syslog server's file, the box's own `checkpoints.log`, a mail); the
mark that Locum writes to a PaperCut server (JSON with `highest` and `head`); or NUMBER:HASH, an entry's number and its
hash in hex. Only the first is signed.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from storage import checkpoints
from storage.checkpoints import Checkpoint
from storage.errors import StorageError

_PAIR = re.compile(r"\s*(\d{1,18}):([0-9A-Fa-f]{64})\s*")
_MARK = re.compile(r"\{[^{}]*\"head\"[^{}]*\}")
_FORMS = "a checkpoint's line, the mark at a PaperCut server, or NUMBER:HASH"
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


class NoWitness(StorageError):
    """What was given is no witness. The text is one line."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The entry `seq` has this hash (32 bytes), says `source`. Of a checkpoint: `key`, its public key, and `time`."""

    seq: int
    hash: bytes
    source: str
    key: bytes | None = None
    time: str = ""

    @property
    def text(self) -> str:
        """As NUMBER:HASH."""
        return f"{self.seq}:{self.hash.hex()}"


@dataclass(frozen=True, slots=True)
class Witness:
    """What one witness says. `forged`: so many lines had signatures that do not hold; they say nothing."""

    marks: tuple[Mark, ...]
    forged: int = 0


def read(given: str) -> Witness:
    """A witness as it is named on a command line: the line itself, or the file that holds such lines.

    Raises NoWitness.
    """
    if checkpoints.DOMAIN.decode() in given or _PAIR.fullmatch(given) or given.lstrip().startswith("{"):
        found = _read([given], "the given line")
    else:
        try:
            with Path(given).open(encoding="utf-8", errors="replace") as lines:
                found = _read(lines, given)
        except (OSError, ValueError) as error:
            if not given or isinstance(error, ValueError) or error.errno in _NO_FILE:
                raise NoWitness(f"the witness {_short(given)!r} is neither a file nor {_FORMS}") from error
            raise NoWitness(
                f"the witness {given} cannot be read ({error.strerror}); give a file, or {_FORMS}"
            ) from error
    if not found.marks:
        fault = "no signature in it holds" if found.forged else "nothing in it is one"
        raise NoWitness(f"{_short(given)} is no witness: {fault}; give {_FORMS}, or a file with such lines")
    return found


def mark_of(point: Checkpoint, source: str) -> Mark | None:
    """What a checkpoint says; None if it makes no sense or its signature does not hold."""
    said = point.said()
    if said is None or not point.signed():
        return None
    return Mark(said.seq, said.hash, source, point.public_key, said.time)


def pair_of(text: str, source: str) -> Mark | None:
    """What NUMBER:HASH says; None if the text is none."""
    pair = _PAIR.fullmatch(text)
    return Mark(int(pair[1]), bytes.fromhex(pair[2]), source) if pair else None


def _short(given: str) -> str:
    return given if len(given) <= 60 else f"{given[:60]}..."


def _read(lines: Iterable[str], source: str) -> Witness:
    marks: dict[Mark, None] = {}
    forged = 0
    for line in lines:
        for point in _checkpoints(line):
            mark = mark_of(point, source)
            if mark is None:
                forged += 1
            else:
                marks[mark] = None
        for mark in _unsigned(line, source):
            marks[mark] = None
    return Witness(tuple(marks), forged)


def _checkpoints(line: str) -> Iterator[Checkpoint]:
    if checkpoints.DOMAIN.decode() in line:
        # a log that is JSON itself has the quotes escaped
        yield from checkpoints.lines_in(line.replace('\\"', '"'))


def _unsigned(line: str, source: str) -> Iterator[Mark]:
    if pair := pair_of(line, source):
        yield pair
    elif checkpoints.DOMAIN.decode() not in line:
        for text in _MARK.findall(line):
            yield from _watermark(text, source)


def _watermark(text: str, source: str) -> Iterator[Mark]:
    try:
        said = json.loads(text)
        seq, head = said["highest"], bytes.fromhex(said["head"])
    except (ValueError, KeyError, TypeError):
        return
    if type(seq) is int and seq > 0 and len(head) == 32:
        yield Mark(seq, head, source)
