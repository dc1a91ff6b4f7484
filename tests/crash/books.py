"""What crash tests compare: what a load was told is kept, what the ledger holds, what the server got."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from tests.peers.load import Outcome, session_and_job
from tests.peers.locum import Locum
from tests.peers.sink import Sink

Job = tuple[str, str]
"""Session and job number."""


def told(outcome: Outcome, sessions: int, first: int = 0) -> set[Job]:
    """The jobs of a load of `records(...)` that were acknowledged."""
    return {session_and_job(first + index, sessions) for index in outcome.answered_indices()}


def kept(ledger: Path) -> Counter[Job]:
    """How often each job stands in a ledger file; opening it replays its WAL as SQLite does."""
    with closing(sqlite3.connect(ledger)) as book:
        return Counter((str(s), str(j)) for s, j in book.execute("SELECT session, job_number FROM jobs"))


def assert_sound(ledger: Path) -> None:
    """SQLite finds no fault, and the numbers of the entries have no gap."""
    with closing(sqlite3.connect(ledger)) as book:
        assert book.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        count, last = book.execute("SELECT count(*), coalesce(max(seq), 0) FROM entries").fetchone()
        assert count == last


def assert_none_lost(wanted: Iterable[Job], ledger: Path) -> None:
    """Acknowledged and lost = 0, and nothing is stored twice."""
    stored = kept(ledger)
    lost = sorted(job for job in set(wanted) if not stored[job])
    assert lost == [], f"{len(lost)} acknowledged jobs are not in the ledger: {lost[:5]}"
    twice = [job for job, count in stored.items() if count > 1]
    assert twice == [], f"stored twice: {twice[:5]}"


def arrived(sink: Sink) -> Counter[Job]:
    """How often each job came to the sink."""
    return Counter({(str(session), str(job)): int(count) for session, job, count in sink.book(whole=True)["jobs"]})


def assert_copies_named(came: Counter[Job], locum: Locum) -> None:
    """Whatever the server got more than once is named in the ledger."""
    named = {
        (row["session"], row["job_number"])
        for row in locum.query(
            "SELECT j.session, j.job_number FROM maybe_forwarded_twice t JOIN jobs j ON j.seq = t.seq"
        )
    }
    unnamed = sorted(job for job, count in came.items() if count > 1 and job not in named)
    assert unnamed == [], f"{len(unnamed)} came twice and are not named: {unnamed[:5]}"
