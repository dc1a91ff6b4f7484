"""Verify holds the outbox against the records and their deliveries: the queue decides what the server is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from storage.ledger import Ledger
from storage.records import Counts, Delivery, Drop, Keepable, Mode, OutboxState, Resolve, Retry, Sign, Take
from storage.signing import Signer
from storage.verify import Report, verify
from tests.unit.storage_samples import NOW, job, mark
from tests.unit.tampering import Change, copied, make, tamper

SIGNER = Signer.new()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sample") / "ledger.db", SIGNER)


def counted(book: sqlite3.Connection) -> None:
    """As the triggers leave it, which `tamper` takes away meanwhile."""
    book.execute("DELETE FROM outbox_counts")
    book.execute("INSERT INTO outbox_counts SELECT upstream, state, count(*) FROM outbox GROUP BY 1, 2")


FOUND: dict[str, tuple[list[Change], str]] = {
    "a row of what was delivered": (
        ["UPDATE outbox SET seq = 4 WHERE seq = 5", "UPDATE outbox SET at = (SELECT at FROM jobs WHERE seq = 4)"],
        "row 4 of outbox: the record, entry 4, had left the outbox: a delivery of it says so",
    ),
    "a row less, of a record that was tried": (
        ["DELETE FROM outbox WHERE seq = 5"],
        'entry 5: its record is not in the outbox, and its last delivery says "waiting": somebody took it out, or it '
        "was lost",
    ),
    "another server": (
        ["UPDATE outbox SET upstream = 'mine' WHERE seq = 5"],
        "row 5 of outbox: its upstream is not that of the record, entry 5",
    ),
    "another device": (
        ["UPDATE outbox SET device = 'mine' WHERE seq = 7"],
        "row 7 of outbox: its device is not that of the record, entry 7",
    ),
    "a state that holds it back": (
        ["UPDATE outbox SET state = 'rejected' WHERE seq = 5"],
        'row 5 of outbox: its state is "rejected", but its last delivery says "waiting"',
    ),
    "a doubt that nobody had": (
        ["UPDATE outbox SET state = 'in_doubt' WHERE seq = 7"],
        'row 7 of outbox: its state is "in_doubt", but there is no delivery of it',
    ),
    "a state that there is not": (
        ["UPDATE outbox SET state = 'gone' WHERE seq = 7"],
        'row 7 of outbox: its state is "gone", but there is no delivery of it',
    ),
}


@pytest.mark.parametrize(("changes", "words"), FOUND.values(), ids=FOUND)
def test_an_outbox_that_is_not_what_the_deliveries_say_is_wrong(
    changes: list[Change], words: str, sample: Path, tmp_path: Path
) -> None:
    assert str(verify(tamper(copied(sample, tmp_path), *changes, counted)).wrong) == words


def test_counts_that_are_not_those_of_the_rows_are_wrong(sample: Path, tmp_path: Path) -> None:
    path = tamper(copied(sample, tmp_path), "UPDATE outbox_counts SET records = 1 WHERE state = 'waiting'")
    assert str(verify(path).wrong) == 'outbox_counts: it says 1 waiting for "hq", the outbox has 3'
    path = tamper(path, "DELETE FROM outbox_counts")
    assert str(verify(path).wrong) == 'outbox_counts: it says 0 waiting for "hq", the outbox has 3'


@pytest.mark.parametrize("table", ["outbox", "outbox_counts"])
def test_an_outbox_that_is_gone_is_wrong(table: str, sample: Path, tmp_path: Path) -> None:
    path = copied(sample, tmp_path)
    with closing(sqlite3.connect(path)) as book:
        triggers = book.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'outbox'")
        statements = [sql for (sql,) in triggers]
        for name in ("outbox_in", "outbox_out", "outbox_moved"):
            book.execute(f"DROP TRIGGER {name}")
        book.execute(f"DROP TABLE {table}")
        if table == "outbox_counts":
            for sql in statements:
                book.execute(sql)
        book.commit()
    expected = "the trigger outbox_in, which counts the outbox, was removed" if table == "outbox" else f"table {table}"
    assert expected in str(verify(path).wrong)


def write(path: Path, *batches: list[Keepable]) -> Report:
    book = Ledger.open(path, NOW, SIGNER)
    for batch in batches:
        book.commit(batch)
    book.close()
    return verify(path)


def _refused(seq: int) -> Delivery:
    return Delivery(NOW, seq, "hq", "refused", OutboxState.REJECTED, 1, "no such user")


def _doubtful(seq: int) -> Delivery:
    return Delivery(NOW, seq, "hq", "unknown", OutboxState.IN_DOUBT, 1, maybe_twice=True)


WAYS: dict[str, Callable[[], list[list[Keepable]]]] = {
    "relayed": lambda: [[job(2, outbox=OutboxState.SENT)]],
    "taken": lambda: [[job(2)], [Take(NOW, "hq", (2,))]],
    "refused": lambda: [[job(2)], [_refused(2)]],
    "refused and let go again": lambda: [[job(2)], [_refused(2)], [Retry(NOW, (2,), "ada")]],
    "refused, let go again and taken": lambda: [
        [job(2)], [_refused(2)], [Retry(NOW, (2,), "ada")], [Take(NOW, "hq", (2,))]
    ],
    "in doubt": lambda: [[job(2, outbox=OutboxState.SENT)], [_doubtful(2)]],
    "in doubt and sent again": lambda: [[job(2)], [_doubtful(2)], [Resolve(NOW, 2, "resend", "ada")]],
    "in doubt and there": lambda: [[job(2)], [_doubtful(2)], [Resolve(NOW, 2, "sent", "ada")]],
    "dropped while in flight, and answered after that": lambda: [
        [job(2)],
        [Take(NOW, "hq", (2,))],
        [Drop(NOW, 2, "a test", "ada")],
        [Delivery(NOW, 2, "hq", "unanswered", OutboxState.WAITING, 1)],
    ],
    "recovered from a capture, not to be forwarded": lambda: [[job(2, outbox=None, mode=Mode.RECOVERED)]],
    "of a kind that the server does not take, cut before that was noted": lambda: [
        [job(2, outbox=None, counts=Counts("scan", 0))]
    ],
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_of_a_record_verifies(way: Callable[[], list[list[Keepable]]], tmp_path: Path) -> None:
    delivered = [Delivery(NOW, 1, "hq", "delivered", None, 1)]
    before: list[Keepable] = [job(1), *way()[0]]
    assert write(tmp_path / "ledger.db", before, *way()[1:], [*delivered, Sign(NOW)]).wrong is None


def test_what_waits_for_nobody_is_told_and_is_not_called_wrong_for_it_may_be_right(tmp_path: Path) -> None:
    marks: list[Keepable] = [mark(event, key=event, outbox=None) for event in ("start", "interim")]
    report = write(tmp_path / "ledger.db", [job(1), *marks])
    assert report.wrong is None
    said = "the record of entry 2, and 1 more like it, is not in the outbox and was never forwarded"
    assert said in report.remarks
