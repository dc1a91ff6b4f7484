"""What can only be asked of the whole file, when all its rows are sound: its end, its keys, guards, its beginning,
erasures that nobody noted, the outbox.
"""

from __future__ import annotations

from storage import times
from storage.checkpoints import EVERY_ENTRIES, EVERY_MS
from storage.signing import installation_of
from storage.verifying.findings import Broken, Wrong
from storage.verifying.shape import Shape, check_statements
from storage.verifying.signatures import Signatures
from storage.verifying.walk import Walk


def check(walk: Walk, shape: Shape, version: int) -> list[str]:
    """Check all that after a walk that found nothing wrong. Returns remarks; raises Broken."""
    remarks = []
    if walk.signatures is None:
        remarks.append(f"a ledger of schema {version} has no signatures")
        if walk.given:
            raise Broken(walk.last, "the file", "nothing in it is signed, by the given key or another")
    else:
        remarks += _signatures(walk, walk.signatures)
    wrong, more = check_statements(walk.book, shape, walk.kind, version)
    wrong = wrong or _beginning(walk) or _erasures(walk)
    if wrong is None:
        wrong, outbox = walk.outstanding.compare(walk.book, walk.kind.guarded)
        more += outbox
    if wrong is not None:
        raise Broken(walk.last + 1, wrong.where, wrong.what)
    if walk.kind.name == "archive" and walk.kind.through not in (None, walk.last):
        raise Broken(
            walk.last + 1, "the file", f"it says that it ends with entry {walk.kind.through}: {walk.last} is the last"
        )
    remarks += _unsigned_end(walk)
    if walk.first > 1:
        signed = f"a checkpoint signs entry {walk.first - 1}, on which the first one here goes on"
        remarks.append(f"entries 1 to {walk.first - 1} are not in this file; {signed}")
    if walk.kind.erased:
        noted = "erased by notes that are not in this file, as it says itself; the ledger that goes on has a note of it"
        remarks.append(f"personal data of {walk.kind.erased} entries was {noted}")
    return remarks + more


def _signatures(walk: Walk, signatures: Signatures) -> list[str]:
    row = signatures.row
    if row is not None and walk.kind.name != "export":
        end = f"checkpoint {row[1]} signs entry {row[0]}, but the entries end with {walk.last}: the end was cut off"
        raise Broken(walk.last + 1, f"entry {walk.last + 1}", f"it is missing: {end}")
    signatures.rest()
    if signatures.last is None and walk.kind.name != "export" and walk.count > EVERY_ENTRIES:
        unsigned = (
            f"nothing in it is signed, though every {EVERY_ENTRIES:,} entries are: the checkpoints were removed, or"
        )
        raise Broken(walk.first, "the file", f"{unsigned} somebody wrote it without a key")
    if walk.given:
        _demand_given_key(walk, signatures)
    elif len(signatures.keys) > 1:
        later = list(signatures.keys)[1:]
        said = ", ".join(f"{installation_of(key)} by entry {walk.notes.keys.get(key)}" for key in later)
        return [f"the key changed; it is the ledger itself that introduces {said}"]
    return []


def _unsigned_end(walk: Walk) -> list[str]:
    """A running appliance leaves nothing unsigned for long; what could be written without the key is named."""
    last = walk.signatures.last if walk.signatures is not None else None
    if last is None or last.seq >= walk.last:
        return []
    query = "SELECT recorded_at FROM entries WHERE seq IN (?, ?) ORDER BY seq"
    try:
        ends = [times.milliseconds(at) for (at,) in walk.book.execute(query, (last.seq + 1, walk.last))]
    except (TypeError, ValueError):
        ends = []
    if ends and 0 <= ends[-1] - ends[0] <= EVERY_MS:
        return []
    return [
        f"the entries from {last.seq + 1} on are not signed, though they are of more than 15 minutes: the appliance "
        "was stopped meanwhile or its clock was set, or somebody wrote them without the key; what notes among them "
        "say of erasures and archives is not signed either"
    ]


def _demand_given_key(walk: Walk, signatures: Signatures) -> None:
    trusted, last = signatures.trusted, signatures.last
    if last is None:
        raise Broken(walk.last, "the file", "nothing in it is signed, by the given key or another")
    if trusted is not None and trusted.seq == last.seq:
        return
    introduced = walk.notes.keys.get(last.public_key)
    what = f"it is signed by the key {installation_of(last.public_key)}, which is not the given one"
    if introduced:
        what += f"; entry {introduced} introduces that key: if the appliance was replaced, give it too"
    elif walk.kind.guarded:
        what += ": the ledger was made or signed anew by somebody else, or the given key is another appliance's"
    number = trusted.number + 1 if trusted is not None else last.number
    raise Broken(trusted.seq + 1 if trusted is not None else walk.first, f"checkpoint {number}", what)


def _beginning(walk: Walk) -> Wrong | None:
    """A ledger that begins late must say that what was before was archived."""
    through = walk.first - 1
    if through < 1 or not walk.kind.guarded or any(each.through == through for each in walk.notes.archived):
        return None
    return Wrong(
        "entry 1", f"it is missing: the first is {walk.first}, and no note says that those before were archived"
    )


def _erasures(walk: Walk) -> Wrong | None:
    """As many commitments must lack their row as the notes of erasures say, and each must be explained by a note that
    comes after it.
    """
    if walk.kind.personal != "whole":
        return None
    missing, noted = len(walk.missing), walk.noted
    # What a file leaves to notes in another one may be any of its entries.
    elsewhere = max(0, walk.kind.erased) + sum(max(0, -each.erased) for each in walk.notes.archived)
    found = walk.notes.unexplained(walk.missing, elsewhere)
    if missing == noted and not found:
        return None
    what = f"the rows of {missing} entries are missing, the notes speak of {noted}"
    if missing < noted:
        return Wrong("personal", f"{what}: rows that had been erased were put back")
    why = "rows were deleted that nobody noted"
    if walk.notes.recovered:
        entry = walk.notes.recovered[-1]
        why = f"rows were lost when the ledger was damaged, as entry {entry} (App.Log) says that it was, or deleted"
    if missing == noted:
        what += ", but not of these"
    if len(found) == 1:
        why += f"; that of entry {found[0]} is one"
    elif found:
        why += f"; at least one of them between entry {found[0]} and entry {found[-1]}"
    return Wrong("personal", f"{what}: {why}")
