"""What witnesses say, held against the entries as they pass.

A line that is signed by a key that has nothing to do with this ledger (another appliance's, at the same syslog server)
says nothing of it; if all lines are so, the ledger is not the one that was witnessed. A witness of entries that were
given up when an older copy was put back is explained by the note of that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from storage.signing import installation_of
from storage.verifying.findings import Broken, Wrong
from storage.verifying.notes import Notes
from storage.witness import Mark, Witness


class Watch:
    """The marks of all witnesses by the entry they speak of. `agreed`: so many fit."""

    def __init__(self, witnesses: Sequence[Witness]) -> None:
        self._marks: dict[int, list[Mark]] = defaultdict(list)
        for each in witnesses:
            for mark in each.marks:
                self._marks[mark.seq].append(mark)
        self._forged = sum(each.forged for each in witnesses)
        self._unlike: list[Mark] = []
        self._newest = 0
        self.agreed = 0

    @property
    def seqs(self) -> Collection[int]:
        """Entries that somebody speaks of and that were not seen yet."""
        return self._marks.keys()

    def see(self, seq: int, own_hash: bytes) -> None:
        """The entry `seq` has this hash."""
        for mark in self._marks.pop(seq, ()):
            if mark.hash == own_hash:
                self.agreed += 1
                self._newest = seq
            else:
                self._unlike.append(mark)

    def first_before(self, seq: int, notes: Notes, keys: Collection[bytes]) -> Broken | None:
        """The first entry before `seq` that is not what a witness knows. `keys`: those of this ledger."""
        for mark in self._unlike:
            if mark.seq < seq and _is_ours(mark, keys) and not notes.restored_after(mark.seq, mark.time):
                return self._differs(mark)
        return None

    def finish(self, first: int, last: int, may_end: bool, notes: Notes, keys: Collection[bytes]) -> list[str]:
        """All entries, `first` to `last`, are seen and sound. `may_end`: other entries may follow elsewhere.

        Returns remarks; raises Broken if a witness knows better.
        """
        left = [mark for seq in sorted(self._marks) for mark in self._marks[seq]]
        others = [mark for mark in (*self._unlike, *left) if not _is_ours(mark, keys)]
        beyond = [mark for mark in left if mark.seq > last and _is_ours(mark, keys)]
        unlike = [mark for mark in self._unlike if _is_ours(mark, keys)]
        earlier = [mark for mark in left if mark.seq < first and _is_ours(mark, keys)]
        missed = [*unlike, *(() if may_end else beyond)]
        given_up = [mark for mark in missed if notes.restored_after(mark.seq, mark.time)]
        for mark in missed:
            if mark not in given_up:
                if mark.seq <= last:
                    raise self._differs(mark)
                wrong = _cut(mark, last)
                raise Broken(mark.seq, wrong.where, wrong.what)
        if others and not (self.agreed or beyond or unlike or earlier):
            raise Broken(last + 1, "the file", _other_ledger(others, keys))
        if given_up:
            raise self._given_up(given_up[0], notes)
        return _remarks(others, beyond, earlier, self._forged)

    def _differs(self, mark: Mark) -> Broken:
        return Broken(
            self._newest + 1,
            f"entry {mark.seq}",
            f"it is not the one that {mark.source} knows{_when(mark)}: something from entry {self._newest + 1} to "
            f"{mark.seq} was changed and hashed anew, or the file was replaced",
        )

    @staticmethod
    def _given_up(mark: Mark, notes: Notes) -> Broken:
        restored = notes.restored_after(mark.seq, mark.time)
        through, seq = (restored.through, restored.seq) if restored else (0, 0)
        return Broken(
            mark.seq,
            f"entry {mark.seq}",
            f"it is not the one that {mark.source} knows{_when(mark)}: entry {seq} says that an older copy, through "
            f"entry {through}, was put back; what had been written after that is not in this file",
        )


def _is_ours(mark: Mark, keys: Collection[bytes]) -> bool:
    return mark.key is None or not keys or mark.key in keys


def _when(mark: Mark) -> str:
    return f" (signed {mark.time})" if mark.time else ""


def _cut(mark: Mark, last: int) -> Wrong:
    return Wrong(
        f"entry {last + 1}",
        f"it is missing: {mark.source} knows entry {mark.seq}{_when(mark)}, the entries end with {last}: the end was "
        "cut off, or this is an older copy",
    )


def _other_ledger(others: Sequence[Mark], keys: Collection[bytes]) -> str:
    theirs, ours = _named({mark.key for mark in others if mark.key}), _named(keys)
    return (
        f"{others[0].source} is signed by the key {theirs}, this ledger by {ours}: it was replaced, or the witness is "
        "another appliance's"
    )


def _named(keys: Collection[bytes]) -> str:
    return ", ".join(sorted(installation_of(key) for key in keys))


def _remarks(others: Sequence[Mark], beyond: Sequence[Mark], earlier: Sequence[Mark], forged: int) -> list[str]:
    said = []
    if others:
        keys = _named({mark.key for mark in others if mark.key})
        said.append(f"{len(others)} lines of witnesses are signed by other keys ({keys}) and are not of this ledger")
    if beyond:
        said.append(f"{len(beyond)} lines of witnesses speak of entries after the last one of this file")
    if earlier:
        said.append(f"{len(earlier)} lines of witnesses speak of entries before the first one of this file")
    if forged:
        said.append(f"{forged} lines of witnesses have signatures that do not hold, and were not used")
    return said
