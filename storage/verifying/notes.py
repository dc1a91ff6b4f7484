"""Notes in the chain that say something of the chain itself: erasures, keys, archives, restored copies, recoveries."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

_RECOVERED = b'"text":"the ledger was damaged ('
"""How the line of App.Log begins that `storage.salvage` leaves."""


@dataclass(frozen=True, slots=True)
class Erased:
    """The personal data of so many entries before the entry `seq` was erased."""

    seq: int
    entries: int


@dataclass(frozen=True, slots=True)
class Archived:
    """Entries through `through` were closed into an archive; `erased` of them by notes that are not in the archive."""

    seq: int
    through: int
    erased: int


@dataclass(frozen=True, slots=True)
class Restored:
    """An older copy, which ended with the entry `through`, was put in place; noted in entry `seq` at `at`."""

    seq: int
    at: str
    through: int


@dataclass(slots=True)
class Notes:
    """What the notes said that were read so far. `keys`: public keys (32 bytes) and the entry that introduces each;
    `signs_since`: the first of these entries; `recovered`: entries of App.Log that say that a damaged ledger was
    recovered.
    """

    erasures: list[Erased] = field(default_factory=list)
    recovered: list[int] = field(default_factory=list)
    keys: dict[bytes, int] = field(default_factory=dict)
    signs_since: int | None = None
    archived: list[Archived] = field(default_factory=list)
    restored: list[Restored] = field(default_factory=list)

    def read(self, seq: int, at: str, body: bytes) -> None:
        """Take in the entry of a note."""
        note, said = _said(body)
        if note == "erased":
            self.erasures.append(Erased(seq, _number(said, "entries")))
        elif note == "archive":
            erased = said.get("erased")  # below 0 where notes in the archive tell of an archive before it
            balance = erased if type(erased) is int else 0
            self.archived.append(Archived(seq, _number(said, "through"), balance))
        elif note == "restored":
            self.restored.append(Restored(seq, at, _number(said, "through")))
        elif note in ("key", "adopted"):
            if note == "key" and self.signs_since is None:
                self.signs_since = seq
            key = _key(said.get("public_key") or said.get("key"))
            if key is not None:
                self.keys.setdefault(key, seq)

    def read_line(self, seq: int, body: bytes) -> None:
        """Take in the entry of a line of App.Log."""
        if _RECOVERED in body:
            self.recovered.append(seq)

    def unexplained(self, missing: Sequence[int], elsewhere: int) -> Sequence[int]:
        """Numbers of entries among which at least one lacks its personal data without a note that says so: as few as
        can be told; empty if the notes explain all of `missing` (in order). `elsewhere`: so many may be explained by
        notes that are not here.

        An erasure takes from entries before its note. So if after some note more are missing than all later notes speak
        of, one of these it is.
        """
        explained = elsewhere
        for note in reversed(self.erasures):
            after = missing[bisect_right(missing, note.seq) :]
            if len(after) > explained:
                return after
            explained += note.entries
        return missing if len(missing) > explained else ()

    def restored_after(self, seq: int, time: str) -> Restored | None:
        """The restoring of an older copy that explains why what was entry `seq` at `time` is here no more."""
        for each in self.restored:
            if each.through < seq and (not time or time <= each.at):
                return each
        return None


def _said(body: bytes) -> tuple[str, dict[str, Any]]:
    try:
        data = msgspec.json.decode(body)["data"]
        said = msgspec.json.decode(data["data"])
        return data["note"], said if isinstance(said, dict) else {}
    except (msgspec.DecodeError, KeyError, TypeError, RecursionError):
        return "", {}


def _number(said: dict[str, Any], name: str) -> int:
    value = said.get(name)
    return value if type(value) is int and value > 0 else 0


def _key(text: object) -> bytes | None:
    try:
        key = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (ValueError, binascii.Error):
        return None
    return key if len(key) == 32 else None
