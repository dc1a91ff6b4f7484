"""A small signed ledger with something of everything, and what somebody with a SQLite shell may do to it."""

from __future__ import annotations

import base64
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from storage import checkpoints, proof
from storage.checkpoints import Checkpoint
from storage.ledger import Ledger
from storage.records import (
    AppLogLine,
    Delivery,
    DrillStep,
    Keepable,
    Logout,
    MeterReading,
    Note,
    OutboxState,
    Personal,
    Quarantined,
    Retry,
    Sign,
    UnlockStep,
)
from storage.signing import Signer
from tests.unit.storage_samples import NOW, job, login, mark, offline_login, restart, step

SIGNED = (18, 20, 22)
"""The entries that the sample's checkpoints sign."""
LAST = 23

Change = str | tuple[str, Sequence[Any]] | Callable[[sqlite3.Connection], object]


def key_note(signer: Signer, at: int = NOW) -> Note:
    """The note that a key signs from now on."""
    key = base64.b64encode(signer.public_key).decode()
    return Note(at, "key", {"installation": signer.installation, "public_key": key})


def make(path: Path, signer: Signer | None) -> Path:
    """The sample: 23 entries, of which 18, 20 and 22 are signed; 4 and 5 wait in the outbox, 4 no more."""
    book = Ledger.open(path, NOW, signer)
    first: list[Keepable] = [
        Note(NOW, "start", {"version": "0.1.0", "in_flight": 0}),
        key_note(signer or Signer.new()),
        login("04A1B2C3"),
        job(1),
        job(2, personal=Personal(card="04FFFF", document="größer", raw=b"\x04\x02")),
        restart(),
        mark("start", key="start of 7"),
        step("failed", "grace"),
        step("offline", "offline"),
        offline_login("ab" * 16),
        Logout(NOW, "KM-A4F-000123", "ab" * 16, "stop"),
        AppLogLine(NOW, "warning", 'größer als "null"\n\tund \x7f \u2028', {"n": 3}, Personal(card="04A1B2C3")),
        Quarantined(NOW, "radius", "", "10.7.0.31", "too-short", b"\x00\x01\xff"),
        UnlockStep(NOW, "KM-A4F-000123", "hq", "unlocked", "once"),
        DrillStep(NOW, "*", "start", NOW + 1_800_000, "a test", "root (0) pid 7"),
        MeterReading(NOW, "KM-A4F-000123", "total", 4_711, NOW - 5_000),
        step("recovered", "recovering", at=NOW + 60_000),
        Logout(NOW + 60_000, "KM-A4F-000123", "cd" * 16, "stop"),
        Sign(NOW + 60_000),
    ]
    book.commit(first)
    book.commit(
        [
            Delivery(NOW, 4, "hq", "delivered", None, 1, user="ada"),
            Delivery(NOW, 5, "hq", "unanswered", OutboxState.WAITING, 1, "no answer", maybe_twice=True),
            Sign(NOW + 70_000),
        ]
    )
    book.commit([Retry(NOW, (5,), "root (0) pid 7", (("user", "ada"),)), login("04A1B2C3"), Sign(NOW + 80_000)])
    book.commit([Note(NOW + 90_000, "stop", {})])
    book.close()
    return path


def tamper(path: Path, *changes: Change) -> Path:
    """Change the file as somebody does who knows of the guards: they are put back as they were."""
    with closing(sqlite3.connect(path)) as book:
        guards = book.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            book.execute(f"DROP TRIGGER {name}")
        for change in changes:
            if callable(change):
                change(book)
                continue
            sql, given = (change, ()) if isinstance(change, str) else change
            assert book.execute(sql, given).rowcount > 0, sql
        for _, sql in guards:
            book.execute(sql)
        book.commit()
        book.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return path


def hash_anew(book: sqlite3.Connection) -> None:
    """Make every hash fit again, from the first entry on."""
    head = proof.GENESIS
    for seq, body in book.execute("SELECT seq, body FROM entries ORDER BY seq").fetchall():
        own = proof.entry_hash(head, body.encode())
        book.execute("UPDATE entries SET prev_hash = ?, hash = ? WHERE seq = ?", (head, own, seq))
        head = own


def sign_anew(signer: Signer) -> Callable[[sqlite3.Connection], None]:
    """Replace every checkpoint by one of another key that signs what is there."""

    def change(book: sqlite3.Connection) -> None:
        before: Checkpoint | None = None
        rows = book.execute("SELECT c.seq, e.hash FROM checkpoints c JOIN entries e USING (seq) ORDER BY c.number")
        for seq, own in rows.fetchall():
            made = checkpoints.make(signer, seq, own, NOW + 100_000, before)
            book.execute("DELETE FROM checkpoints WHERE number = ?", (made.number,))
            book.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?)", made.row)
            before = made

    return change


def take_over(old: Signer, new: Signer) -> Callable[[sqlite3.Connection], None]:
    """Let the ledger say everywhere that another key has always signed it, and make all hashes and signatures anew."""

    def change(book: sqlite3.Connection) -> None:
        said = [(old.installation, new.installation)]
        said += [tuple(base64.b64encode(each.public_key).decode() for each in (old, new))]  # type: ignore[list-item]
        for before, after in said:
            book.execute("UPDATE entries SET body = replace(body, ?, ?)", (before, after))
            book.execute("UPDATE notes SET data = replace(data, ?, ?)", (before, after))
        hash_anew(book)
        sign_anew(new)(book)

    return change


def newest_line(path: Path) -> str:
    """The line of the newest checkpoint of a ledger."""
    with closing(sqlite3.connect(path)) as book:
        row = book.execute("SELECT * FROM checkpoints ORDER BY number DESC LIMIT 1").fetchone()
    return Checkpoint(*row).line


def copied(path: Path, folder: Path, name: str = "copy.db") -> Path:
    """A copy of a closed ledger."""
    return Path(shutil.copyfile(path, folder / name))
