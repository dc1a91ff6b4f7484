"""One batch on its way into the file: from kept values to rows, in a transaction that its caller begins and commits.

A batch works on a copy of the chain's end and adopts nothing: if its transaction fails, it is thrown away and nothing
has changed. Rows are gathered by table and written together; only what must see them (taking, retrying, resolving,
dropping) has them written first. Evidence gets its number, id, salt and hash here.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from storage import cards, checkpoints, entries, erasure, identifiers, outbox_changes, proof, times
from storage.answers import Changed, Erased, Outcome, Repeat, Signed, Stored
from storage.checkpoints import Checkpoint
from storage.errors import NotStorable, StorageError
from storage.job_numbers import Name, name_of
from storage.records import (
    NOBODY,
    Delivery,
    DeviceSeen,
    Drop,
    EraseCard,
    EraseOld,
    Keepable,
    Login,
    Note,
    OutboxState,
    Record,
    Remember,
    Resolve,
    Retry,
    Sign,
    Take,
)
from storage.repeats import Recognition, Repeats, marks_of, scope_of
from storage.rows import Rows, Target
from storage.signing import Signer

POISON = (TypeError, ValueError, OverflowError, AttributeError, LookupError, msgspec.MsgspecError)
"""What a value of impossible shape raises on its way; anything else is not about the value."""

Result = Outcome | StorageError
KnownBy = Sequence[bytes]
"""What a record that comes again is known by: its marks, or number and content if it is known for ever."""

_NO_EVIDENCE = Stored(0, "")
_NOISE = identifiers.RANDOM_BYTES + proof.SALT_BYTES
_STAMP = ("seq", "id", "at")
_ENTRIES = Target("entries", ("seq", "id", "kind", "recorded_at", "body", "prev_hash", "hash"))
_PERSONAL = Target("personal", ("seq", "card", "user", "document", "account", "raw", "salt"))
_CHECKPOINTS = Target("checkpoints", ("number", "seq", "body", "signature", "public_key"))
_PLAIN = {
    plain.table: Target(plain.table, (*_STAMP, *plain.columns), (*"???", *plain.expressions)) for plain in entries.PLAIN
}
_DEVICES = Target(
    "devices",
    ("device", "client", "dialect", "upstream", "first_seen", "last_seen"),
    otherwise="ON CONFLICT (device) DO UPDATE SET client = excluded.client, dialect = excluded.dialect, "
    "upstream = excluded.upstream, last_seen = excluded.last_seen",
)
_MEMORY = Target("memory", ("key", "value"), replacing=True)


@dataclass(slots=True)
class Chain:
    """The end of the chain: number and hash of the last entry, the time and counter of its id, and the newest
    checkpoint.
    """

    seq: int
    head: bytes
    stamp: int
    checkpoint: Checkpoint | None = None

    @property
    def signed(self) -> int:
        """The last entry that a checkpoint signs; 0: none."""
        return self.checkpoint.seq if self.checkpoint is not None else 0


class Batch:
    """Writes values through a connection that is in a transaction; afterwards `chain` is the new end."""

    def __init__(
        self, connection: sqlite3.Connection, chain: Chain, repeats: Repeats, signer: Signer | None = None
    ) -> None:
        self.chain = replace(chain)
        self.checkpoints: list[Checkpoint] = []
        """Those that this batch made."""
        self.erased = False
        """Whether this batch deleted personal data."""
        self.recognition = Recognition({}, {})
        self._cursor = connection.cursor()
        self._repeats = repeats
        self._signer = signer
        self._sign_at = chain.signed + checkpoints.EVERY_ENTRIES
        self._noise = b""
        self._entries = Rows(_ENTRIES)
        self._personal = Rows(_PERSONAL)
        self._plain: dict[str, Rows] = {}
        self._outbox = outbox_changes.OutboxChanges()
        self._cards = Rows(cards.LESSONS)
        self._devices = Rows(_DEVICES)
        self._memory = Rows(_MEMORY)
        self._signed = Rows(_CHECKPOINTS)
        self._jobs = 0

    def write(self, items: Sequence[Keepable]) -> list[Result]:
        """Write all values; a value that cannot be stored yields `NotStorable` in its place and leaves no trace.

        Raises sqlite3.Error for the file's and the disk's errors, and for values that only SQLite refuses.
        """
        self._noise = os.urandom(_NOISE * len(items))
        known_by = self._recognise(items)
        results: list[Result] = []
        for place, item in enumerate(items):
            try:
                results.append(self._one(item, place, known_by.get(place)))
            except POISON as error:
                results.append(_not_storable(item, error))
        self._flush()
        self._finish()
        return results

    def _recognise(self, items: Sequence[Keepable]) -> dict[int, KnownBy]:
        known_by: dict[int, KnownBy] = {}
        marks: list[bytes] = []
        names: list[Name] = []
        scopes: set[str] = set()
        for place, item in enumerate(items):
            if type(item) is not Record:
                continue
            try:
                if item.for_ever:
                    known_by[place] = name = name_of(item)
                    names.append(name)
                    continue
                if item.repeat_scope:
                    scopes.add(scope_of(item))
                if item.repeat_keys:
                    known_by[place] = own = marks_of(item)
                    marks += own
            except POISON:
                continue  # said when the item's turn comes
        if marks or scopes or names:
            self.recognition = self._repeats.recognise(scopes, marks, names)
        return known_by

    def _one(self, item: Keepable, place: int, known_by: KnownBy | None) -> Outcome:
        if type(item) is Record:
            if item.for_ever:
                return self._numbered(item, place, name_of(item) if known_by is None else known_by)
            return self._record(item, place, known_by or [])
        return _HANDLERS.get(type(item), Batch._evidence)(self, item, place)

    def _record(self, item: Record, place: int, marks: Sequence[bytes]) -> Outcome:
        if item.repeat_keys and not marks:
            marks_of(item)
        earlier = self.recognition.find(item, marks) if marks else None
        if earlier is not None:
            return Repeat(earlier.seq, self._id_of(earlier.seq))
        stored = self._new_record(item, place)
        if marks or item.repeat_scope:
            self.recognition.add(item, marks, stored.seq)
        return stored

    def _numbered(self, item: Record, place: int, name: KnownBy) -> Outcome:
        number, content = name
        earlier, conflict = self.recognition.numbers.find((number, content))
        if earlier is not None:
            return Repeat(earlier, self._id_of(earlier))
        if conflict:
            item = replace(item, event="conflict")
        stored = self._new_record(item, place)
        self.recognition.numbers.add((number, content), stored.seq)
        return replace(stored, conflict=True) if conflict else stored

    def _new_record(self, item: Record, place: int) -> Stored:
        changes = self._outbox.row_of(item)
        stored = self._evidence(item, place)
        if changes is not None:
            self._outbox.add(stored.seq, changes)
        if item.counts is not None:
            self._jobs += 1
        return stored

    def _evidence(self, item: Any, place: int) -> Stored:
        try:
            return self._entry(item, place)
        except proof.NotCanonical:
            return self._entry(entries.cleaned(item), place)

    def _entry(self, item: entries.Evidence, place: int) -> Stored:
        plain, data, personal = entries.describe(item)
        chain = self.chain
        start = place * _NOISE
        random = self._noise[start : start + identifiers.RANDOM_BYTES]
        salt = self._noise[start + identifiers.RANDOM_BYTES : start + _NOISE]
        someone = personal is not NOBODY and personal != NOBODY
        data["personal"] = proof.commitment(salt, personal) if someone else None
        at = times.text(item.at)
        stamp = identifiers.next_stamp(item.at, chain.stamp)
        identifier = identifiers.uuid7(stamp, random)
        seq = chain.seq + 1
        body = proof.canonical_checked(
            {"data": data, "id": identifier, "kind": plain.kind, "recorded_at": at, "seq": seq}
        )
        digest = proof.entry_hash(chain.head, body)
        row = plain.pick(data)
        self._entries.add((seq, identifier, plain.kind, at, body.decode(), chain.head, digest))
        if someone:
            self._personal.add(
                (
                    seq,
                    personal.card,
                    personal.user,
                    personal.document,
                    personal.account,
                    personal.raw,
                    salt,
                )
            )
        rows = self._plain.get(plain.table)
        if rows is None:
            rows = self._plain[plain.table] = Rows(_PLAIN[plain.table])
        rows.add((seq, identifier, at, *row))
        chain.seq, chain.head, chain.stamp = seq, digest, stamp
        if seq >= self._sign_at:
            self._make_checkpoint(item.at)
        return Stored(seq, identifier)

    def _sign(self, item: Sign, place: int) -> Outcome:
        if self.chain.seq > self.chain.signed:
            self._make_checkpoint(item.at)
        return Signed(self.chain.checkpoint)

    def _make_checkpoint(self, at: int) -> None:
        if self._signer is None:
            return
        made = checkpoints.make(self._signer, self.chain.seq, self.chain.head, at, self.chain.checkpoint)
        self.checkpoints.append(made)
        self._signed.add(made.row)
        self.chain.checkpoint = made
        self._sign_at = made.seq + checkpoints.EVERY_ENTRIES

    def _login(self, item: Login, place: int) -> Outcome:
        lesson = cards.lesson(item) if item.teaches else None
        stored = self._evidence(item, place)
        if lesson is not None:
            self._cards.add(lesson)
        return stored

    def _delivery(self, item: Delivery, place: int) -> Outcome:
        change = outbox_changes.change_of(item)
        stored = self._evidence(item, place)
        self._outbox.change(change)
        return stored

    def _remember(self, item: Remember, place: int) -> Outcome:
        self._memory.add((item.key, item.value))
        return _NO_EVIDENCE

    def _device_seen(self, item: DeviceSeen, place: int) -> Outcome:
        at = times.text(item.at)
        self._devices.add((item.device, item.client, item.dialect, item.upstream, at, at))
        return _NO_EVIDENCE

    def _take(self, item: Take, place: int) -> Outcome:
        self._flush()
        return outbox_changes.take(self._cursor, item)

    def _retry(self, item: Retry, place: int) -> Outcome:
        self._flush()
        note = entries.note_of_retry(item)
        entries.describe(entries.cleaned(note))  # what cannot be noted must not be done either
        times.text(item.at)
        changed = outbox_changes.retry(self._cursor, item)
        if changed.items:
            records = " ".join(str(seq) for seq, _, _ in changed.items[:_NAMED])
            data: dict[str, str | int] = {"did": "outbox retry", "count": len(changed.items), "records": records}
            self._evidence(replace(note, note=replace(note.note, data=data | note.note.data)), place)
        return changed

    def _resolve(self, item: Resolve, place: int) -> Outcome:
        outcome, state = _RESOLVED[item.how]
        self._flush()
        found = outbox_changes.find(self._cursor, item.seq)
        if found is None or found.state != OutboxState.IN_DOUBT:
            return Changed(())
        settled = (item.at, item.seq, found.upstream, outcome, state, found.tries, item.reason, item.who)
        self._evidence(entries.SettledByHand(*settled), place)
        if state is None:
            self._outbox.leave(item.seq)
        else:
            outbox_changes.wait_again(self._cursor, [item.seq])
        return Changed(((item.seq, found.upstream, found.order_key),))

    def _drop(self, item: Drop, place: int) -> Outcome:
        self._flush()
        found = outbox_changes.find(self._cursor, item.seq)
        if found is None:
            return Changed(())
        settled = (item.at, item.seq, found.upstream, "dropped", None, found.tries, item.reason, item.who)
        self._evidence(entries.SettledByHand(*settled), place)
        self._outbox.leave(item.seq)
        return Changed(((item.seq, found.upstream, found.order_key),))

    def _erase_card(self, item: EraseCard, place: int) -> Outcome:
        item = entries.cleaned(item)
        if erasure.names(item.reason.encode(), item.card):
            raise ValueError("the reason names the card")
        note = Note(item.at, "erased", {"what": "card", "reason": item.reason}, item.who)
        entries.describe(note)  # what cannot be noted must not be done either
        times.text(item.at)
        self._flush()
        found = erasure.of_card(self._cursor, item.card)
        first = found.seqs[0] if found.seqs else 0
        if found.waiting:
            return Erased(0, waiting=found.waiting, first=first)
        self.erased |= erasure.forget_card(self._cursor, item.card)
        return self._note_erased(erasure.erase(self._cursor, found.seqs), first, note, place)

    def _erase_old(self, item: EraseOld, place: int) -> Outcome:
        note = Note(item.at, "erased", {"what": "age", "before": times.text(item.before)})
        self._flush()
        jump = erasure.clock_jump(self._cursor, item.at)
        if jump:
            return Erased(0, clock_jump=jump)
        seqs = erasure.older(self._cursor, item)
        self.erased |= erasure.forget_old_cards(self._cursor, item.before, item.limit)
        return self._note_erased(erasure.erase(self._cursor, seqs), min(seqs, default=0), note, place)

    def erase_quarantined(self, after: int, last: int, at: int) -> None:
        """Delete the bytes of the quarantined records with a seq above `after` and up to `last`, and note it; after
        `write`, in its transaction. Raises sqlite3.Error.
        """
        self._noise = os.urandom(_NOISE)
        erased = erasure.erase_quarantined(self._cursor, after, last)
        self._note_erased(erased, 0, Note(at, "erased", {"what": "quarantine"}), 0)
        self._flush()

    def _note_erased(self, erased: int, first: int, note: Note, place: int) -> Erased:
        if not erased:
            return Erased(0)
        self.erased = True
        noted = self._evidence(replace(note, data={**note.data, "entries": erased}), place)
        return Erased(erased, noted.seq, first=first)

    def _id_of(self, seq: int) -> str:
        self._entries.write(self._cursor)
        row = self._cursor.execute("SELECT id FROM entries WHERE seq = ?", (seq,)).fetchone()
        return row[0] if row else ""

    def _flush(self) -> None:
        for rows in (self._entries, self._personal, *self._plain.values(), self._signed):
            rows.write(self._cursor)
        self._outbox.write(self._cursor)
        for rows in (self._cards, self._devices, self._memory):
            rows.write(self._cursor)

    def _finish(self) -> None:
        self._repeats.write(self.recognition, self._cursor)
        if self._jobs:
            self._cursor.execute(
                "INSERT INTO totals VALUES ('jobs', ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                (self._jobs,),
            )


_NAMED = 1_000
_RESOLVED: dict[str, tuple[str, OutboxState | None]] = {
    "sent": ("resolved-sent", None),
    "resend": ("resolved-resend", OutboxState.WAITING),
}
_HANDLERS: dict[type, Callable[[Batch, Any, int], Outcome]] = {
    Login: Batch._login,
    Delivery: Batch._delivery,
    Remember: Batch._remember,
    DeviceSeen: Batch._device_seen,
    Take: Batch._take,
    Retry: Batch._retry,
    Resolve: Batch._resolve,
    Drop: Batch._drop,
    Sign: Batch._sign,
    EraseCard: Batch._erase_card,
    EraseOld: Batch._erase_old,
}


def _not_storable(item: Keepable, error: Exception) -> NotStorable:
    return NotStorable(
        f"a {type(item).__name__} cannot be stored ({type(error).__name__}: {error}); please report this"
    )
