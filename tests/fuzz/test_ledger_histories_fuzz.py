"""What was written is what verifies, in any order of keeping, signing, erasing, restarts and power cuts.

And whatever is altered in the evidence afterwards, a value, a row or a byte of the file, is found.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from storage import schema
from storage.answers import Erased
from storage.errors import StorageError
from storage.ledger import Ledger
from storage.records import Drop, EraseCard, EraseOld, Keepable, Sign
from storage.signing import Signer
from storage.verify import Wrong, verify
from tests.fuzz.test_storage_fuzz import logins, others, records
from tests.unit.storage_samples import NOW, job, login
from tests.unit.tampering import copied, key_note, make, tamper

SIGNER = Signer.new()
CARDS = ("04A2B3", "04FFFF", "abc")
DAY = 86_400_000

of_cards = st.builds(
    lambda card, number: job(number, key=f"{card}/{number}"), st.sampled_from(CARDS), st.integers(0, 99)
)
of_logins = st.builds(login, st.sampled_from(CARDS), at=st.integers(NOW - 20 * DAY, NOW))
kept = st.lists(records | logins | others | of_cards | of_logins, min_size=1, max_size=8)
erasing = st.builds(EraseCard, st.just(NOW), st.sampled_from(CARDS), st.just("root (0)")) | st.builds(
    EraseOld, st.just(NOW), st.integers(NOW - 10 * DAY, NOW), st.integers(1, 20)
)
drops = st.lists(st.builds(Drop, st.just(NOW), st.integers(1, 30), st.just("r"), st.just("w")), min_size=1, max_size=9)
steps = kept | st.lists(erasing, min_size=1, max_size=2) | drops | st.sampled_from(["sign", "restart", "power cut"])
histories = st.lists(steps, min_size=1, max_size=10)


class Life:
    """A ledger through its restarts and power cuts, each of which is a new place for its file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cuts = 0
        self.path = folder / "0" / "ledger.db"
        self.path.parent.mkdir()
        self.book = Ledger.open(self.path, NOW, SIGNER)
        self._left: list[Ledger] = []
        self.lines: list[str] = []
        self.erased = 0
        self.commit([key_note(SIGNER)])

    def commit(self, items: Sequence[Keepable]) -> None:
        outcomes = self.book.commit(items)
        self.erased += sum(each.entries for each in outcomes if isinstance(each, Erased))
        while self.book.new_checkpoints:
            self.lines.append(self.book.new_checkpoints.popleft().line)

    def restart(self) -> None:
        self.book.close()
        self.book = Ledger.open(self.path, NOW, SIGNER)

    def power_cut(self) -> None:
        self._cuts += 1
        target = self._folder / str(self._cuts) / "ledger.db"
        target.parent.mkdir()
        for suffix in ("", "-wal"):
            if (there := self.path.with_name(f"ledger.db{suffix}")).exists():
                shutil.copyfile(there, target.with_name(f"ledger.db{suffix}"))
        self._left.append(self.book)
        self.path = target
        self.book = Ledger.open(self.path, NOW, SIGNER)

    def end(self) -> None:
        for book in (self.book, *self._left):
            book.close()


@settings(max_examples=40, deadline=None)
@given(histories)
def test_what_was_written_verifies_whatever_happened_in_between(history: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder))
        for what in history:
            if what == "sign":
                life.commit([Sign(NOW)])
            elif what == "restart":
                life.restart()
            elif what == "power cut":
                life.power_cut()
            else:
                life.commit(what)
        live = verify(life.path, SIGNER.public_key if life.lines else None, life.lines)
        assert live.wrong is None, live.wrong
        life.end()
        report = verify(life.path, SIGNER.public_key if life.lines else None, life.lines)
        assert (report.wrong, report.witnesses, report.erased) == (None, len(life.lines), live.erased)
        with closing(sqlite3.connect(life.path)) as book:
            assert report.entries == book.execute("SELECT count(*) FROM entries").fetchone()[0]
            assert report.personal == book.execute("SELECT count(*) FROM personal").fetchone()[0]
        assert report.erased >= life.erased


@cache
def sample() -> Path:
    return make(Path(tempfile.mkdtemp(prefix="locum-test-")) / "ledger.db", SIGNER)


@cache
def content() -> bytes:
    return sample().read_bytes()


def evidence(path: Path) -> object:
    """All that is in the evidence tables; why it could not be read, if it could not."""
    try:
        with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as book:
            return [book.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in schema.EVIDENCE]
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return str(error)


def altered(value: object, place: int, by: int) -> object:
    """Another value of the same type."""
    if isinstance(value, int):
        return value + by
    if isinstance(value, bytes):
        if not value:
            return b"\x00"
        place %= len(value)
        return value[:place] + bytes([value[place] ^ (by & 0xFF or 1)]) + value[place + 1 :]
    if isinstance(value, str) and value:
        place %= len(value)
        return value[:place] + chr((ord(value[place]) + by) % 0xD7FF or 1) + value[place + 1 :]
    return "x" if value == "" else 7


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(schema.EVIDENCE), st.integers(0, 99), st.integers(0, 99), st.integers(0, 999), st.integers(1, 99)
)
def test_any_value_that_is_altered_is_found(table: str, row: int, column: int, place: int, by: int) -> None:
    with closing(sqlite3.connect(sample())) as book:
        keys = [key for (key,) in book.execute(f"SELECT rowid FROM {table} ORDER BY 1")]
        assume(keys)
        key = keys[row % len(keys)]
        columns = [(name, kind) for _, name, kind, *_ in book.execute(f"PRAGMA table_info({table})")]
        name, kind = columns[column % len(columns)]
        value = book.execute(f"SELECT {name} FROM {table} WHERE rowid = ?", (key,)).fetchone()[0]
    changed = altered(value, place, by)
    if value is None and kind == "TEXT":
        changed = "x"
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(sample(), Path(folder))
        try:
            tamper(copy, (f"UPDATE {table} SET {name} = ? WHERE rowid = ?", (changed, key)))
        except sqlite3.IntegrityError:
            assume(False)  # another row has that key
        assert not verify(copy).ok


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(schema.EVIDENCE), st.integers(0, 99))
def test_any_row_that_is_deleted_is_found(table: str, row: int) -> None:
    with closing(sqlite3.connect(sample())) as book:
        keys = [key for (key,) in book.execute(f"SELECT rowid FROM {table} ORDER BY 1")]
    # Without its newest signature a ledger is as it was before it was signed; nothing is lost.
    keys = keys[:-1] if table == "checkpoints" else keys
    assume(keys)
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(sample(), Path(folder))
        tamper(copy, f"DELETE FROM {table} WHERE rowid = {keys[row % len(keys)]}")
        assert not verify(copy).ok


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 255))
def test_any_byte_of_the_file_that_changes_what_is_evidence_is_found(place: int, by: int) -> None:
    raw = bytearray(content())
    raw[place % len(raw)] ^= by
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "ledger.db"
        copy.write_bytes(raw)
        try:
            said = verify(copy).wrong
        except StorageError as error:
            said = Wrong("the file", str(error))
        assert "\n" not in str(said)
        if evidence(copy) != evidence(sample()):
            assert said is not None
