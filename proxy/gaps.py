"""Gaps in the ledger: what went on while nothing could be stored, and is therefore not written down.

Records that the server acknowledged itself, logins, and other evidence (tries to unlock, quarantined bytes): how many
there were of each, and between which times, is noted for each upstream. At once when something can be stored again, and
until then at most once a minute, for a note still fits on a disk that takes nothing new. What is left to the device,
which sends it again, is no gap.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.commands import Command, Keep
from proxy.events import Event, Kept, Moment, NotKept
from storage.records import Login, Note, Quarantined, Record, UnlockStep

RETRY_STORAGE = 1.0
NOTE_EVERY = 60.0
"""While the disk is full, notes are written on the reserve, which is there for the outbox."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What is not in the ledger, of one upstream: how many of each, the first and the last (milliseconds UTC).

    Also the token of a change: what is missing if that cannot be kept.
    """

    upstream: str
    first: int
    last: int
    records: int = 0
    logins: int = 0
    others: int = 0

    def with_more(self, more: Gap) -> Gap:
        """Both together."""
        return Gap(
            self.upstream,
            min(self.first, more.first),
            max(self.last, more.last),
            self.records + more.records,
            self.logins + more.logins,
            self.others + more.others,
        )


@dataclass(frozen=True, slots=True)
class NoteAsked:
    """Token: a note about a gap was to be kept."""

    gap: Gap


class Gaps:
    """The gaps that are not noted yet, by upstream. It is a flow: it is told what became of what it has kept."""

    def __init__(self) -> None:
        self._missing: dict[str, Gap] = {}
        self._noted = float("-inf")
        self._note_at = float("inf")

    def keep(self, change: Login | UnlockStep | Quarantined, upstream: str, *, wait: bool = False) -> Keep:
        """Keep a change on which nothing depends; where it cannot be stored, it is part of the gap."""
        return Keep(change, self, _missing(change, upstream), wait=wait)

    def missed(self, change: Record | UnlockStep, at: Moment) -> None:
        """This could not be stored, and went on all the same."""
        self._widen(_missing(change, change.upstream), at)

    def note(self, at: Moment) -> list[Command]:
        """Something could be stored: the gaps can be, if there are any."""
        missing, self._missing = self._missing, {}
        self._note_at = float("inf")
        return [Keep(_note(gap, at), self, NoteAsked(gap), wait=False) for gap in missing.values()]

    def tick(self, at: Moment) -> list[Command]:
        """Try now and then, though nothing could be stored yet."""
        return self.note(at) if at.now >= self._note_at else []

    def handle(self, event: Event) -> list[Command]:
        """What became of a change or a note."""
        match event:
            case Kept(token=Gap(), at=at):
                return self.note(at) if self._missing else []
            case Kept(token=NoteAsked(), at=at):
                self._noted = at.now
                if self._missing:
                    self._note_at = at.now + NOTE_EVERY
            case NotKept(token=Gap() as gap, at=at) | NotKept(token=NoteAsked(gap), at=at):
                self._widen(gap, at)
        return []

    def _widen(self, more: Gap, at: Moment) -> None:
        gap = self._missing.get(more.upstream)
        self._missing[more.upstream] = more if gap is None else gap.with_more(more)
        self._note_at = min(self._note_at, max(at.now + RETRY_STORAGE, self._noted + NOTE_EVERY))


def _missing(change: Record | Login | UnlockStep | Quarantined, upstream: str) -> Gap:
    records, logins = isinstance(change, Record), isinstance(change, Login)
    return Gap(upstream, change.at, change.at, int(records), int(logins), int(not records and not logins))


def _note(gap: Gap, at: Moment) -> Note:
    data: dict[str, str | int] = {
        "upstream": gap.upstream,
        "first": gap.first,
        "last": gap.last,
        "records": gap.records,
        "logins": gap.logins,
        "others": gap.others,
    }
    return Note(at.wall, "gap", data)
