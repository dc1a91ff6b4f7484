"""Verify: is this file what Locum wrote, whole and unaltered, as far as it and its witnesses can show?

The first thing that is wrong, in order of the entries, is named; what concerns the whole file (its end, guards,
erasures that nobody noted, witnesses) is asked when its rows are sound. What each check shows, and what none can, is in
docs/verifying.md; the checks themselves are in `storage.verifying`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storage import witness
from storage.signing import installation_of
from storage.verifying import opening, shape, whole
from storage.verifying.findings import Broken, Unreadable, Wrong, damage
from storage.verifying.walk import Progress, Walk
from storage.verifying.watching import Watch

__all__ = ["Report", "Wrong", "verify"]


@dataclass(frozen=True, slots=True)
class Report:
    """What verifying a file showed. With `wrong`, the figures are those up to there.

    `kind`: ledger, backup, archive or export; `version`: of its schema; `first`, `last`: numbers of its first and last
    sound entry; `head`: the hash of the last, hex; `signed_through`: the last entry that a checkpoint signs with a
    trusted key, 0: none; `signed_at`: that checkpoint's time; `unsigned`: entries after it; `erased`: entries whose
    personal data was deleted, as notes say; `lost`: entries that lack it, of which no note up to `last` says so;
    `personal`: entries whose personal data was checked; `key`: the public key (32 bytes) of
    that checkpoint, or of the newest one; `key_source`: given, or file; `witnesses`: so many marks of witnesses agree.
    """

    kind: str = "ledger"
    version: int = 0
    entries: int = 0
    checkpoints: int = 0
    first: int = 0
    last: int = 0
    head: str = ""
    signed_through: int = 0
    signed_at: str | None = None
    unsigned: int = 0
    erased: int = 0
    lost: int = 0
    personal: int = 0
    key: bytes | None = None
    key_source: str = "file"
    witnesses: int = 0
    wrong: Wrong | None = None
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return self.wrong is None

    @property
    def installation(self) -> str | None:
        """The fingerprint of the key."""
        return installation_of(self.key) if self.key is not None else None


def verify(
    path: Path,
    public_key: bytes | Sequence[bytes] | None = None,
    witnesses: Sequence[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Verify a ledger, or any copy, archive or export (SQLite) of one. Nothing is written to it.

    `public_key`: 32 bytes each, of the installations that are trusted to have signed; without one the file's own are
    used. `witnesses`: files or lines, see `storage.witness`. `progress` hears how many entries of how many are checked.
    Raises StorageError if there is nothing to verify: no such file, no ledger, a newer schema, no witness in what was
    given. A file that is damaged is found wrong.
    """
    given = [public_key] if isinstance(public_key, bytes) else list(public_key or ())
    watch = Watch([witness.read(each) for each in witnesses])
    try:
        with opening.opened(path) as copy:
            kind = shape.kind_of(copy.connection)
            return _checked(copy, Walk(copy.connection, kind, given, watch, progress))
    except opening.Damaged as error:
        words = str(error)
    except Unreadable as error:
        words = damage(error)
        if not words:
            raise opening.CannotVerify(f"{path} cannot be read ({error}); verify a copy of it") from error
    return Report(wrong=Wrong("the file", words))


def _checked(copy: opening.Copy, walk: Walk) -> Report:
    wrong: Wrong | None = None
    sound: int | None = None
    remarks = [*walk.kind.words(), *copy.remarks]
    try:
        shape.check_kind(walk.kind)
        expected = shape.shape_of(copy.version)
        shape.check_tables(copy.connection, expected, copy.version)
        walk.run(expected)
        remarks += whole.check(walk, expected, copy.version)
        remarks += walk.watch.finish(walk.first, walk.last, walk.kind.name != "ledger", walk.notes, walk.keys)
    except Broken as found:
        first = walk.watch.first_before(found.seq, walk.notes, walk.keys) or found
        wrong, sound = first.wrong, max(0, min(walk.count, first.seq - max(walk.first, 1)))
    signatures = walk.signatures
    signed = signatures.trusted if signatures is not None else None
    shown = signed or (signatures.last if signatures is not None else None)
    said = signed.said() if signed is not None else None
    through = signed.seq if signed is not None else 0
    missing = len(walk.missing)
    erased = max(0, min(missing, walk.noted))
    return Report(
        kind=walk.kind.name,
        version=copy.version,
        entries=walk.count if sound is None else sound,
        checkpoints=signatures.count if signatures is not None else 0,
        first=walk.first,
        last=walk.last,
        head=walk.head.hex() if walk.count else "",
        signed_through=through,
        signed_at=said.time if said is not None else None,
        unsigned=max(0, walk.last - max(through, walk.first - 1)),
        erased=erased,
        lost=missing - erased,
        personal=walk.held,
        key=shown.public_key if shown is not None else None,
        key_source="given" if walk.given else "file",
        witnesses=walk.watch.agreed,
        wrong=wrong,
        remarks=tuple(remarks),
    )
