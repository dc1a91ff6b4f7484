"""What docs/ledger.md says of the ledger's file is held against a real, small one.

Every table, view and column is there and no other; queries and commands of SQLite's tools run as they are printed.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from appliance.simulator.book import Book
from storage import schema, views
from storage.ledger import Ledger
from storage.records import (
    AppLogLine,
    Delivery,
    DrillStep,
    Logout,
    Note,
    OutboxState,
    Quarantined,
    Remember,
    Resolve,
    Retry,
    Take,
    UnlockStep,
)
from tests.docs_pages import blocks, code, command_lines, rows, sections
from tests.peers.skips import program
from tests.unit.storage_samples import NOW, job, login, mark, offline_login, restart, step


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A small ledger with something of everything, closed."""
    path = tmp_path / "ledger.db"
    book = Ledger.open(path, NOW)
    book.commit(
        [
            Note(NOW, "start", {"version": "0.1.0", "in_flight": 0}),
            login("04A1B2C3"),
            job(1, personal=job(1).personal),
            restart(),
            mark("start", key="start of 7"),
            step("failed", "grace"),
            step("offline", "offline"),
            offline_login("ab" * 16),
            Logout(NOW, "KM-A4F-000123", "ab" * 16, "stop"),
            AppLogLine(NOW, "warning", 'größer als "null"\n\tund Ümläut \x7f \u2028', {"client": "10.7.0.31", "n": 3}),
            Quarantined(NOW, "radius", "", "10.7.0.31", "too-short", b"\x00\x01\xff"),
            UnlockStep(NOW, "KM-A4F-000123", "hq", "unlocked", "once"),
            DrillStep(NOW, "*", "start", NOW + 1_800_000, "a test", "root (0) pid 7"),
            Remember("proven:hq:0011", "1"),
            step("recovered", "recovering", at=NOW + 60_000),
        ]
    )
    book.commit([Take(NOW, "hq", (3, 4))])
    book.commit(
        [
            Delivery(NOW, 3, "hq", "unanswered", OutboxState.WAITING, 1, "no answer", maybe_twice=True),
            Delivery(NOW, 3, "hq", "delivered", None, 2, unknown_card=True),
            Delivery(NOW, 5, "hq", "unknown", OutboxState.IN_DOUBT, 1, maybe_twice=True),
            Resolve(NOW, 5, "resend", "root (0) pid 7", "not in its job log"),
            Retry(NOW, (5,), "root (0) pid 7", (("user", "ada"), ("printer", "srv"))),
        ]
    )
    book.close()
    return path


def objects(path: Path) -> dict[str, set[str]]:
    """Every table and view of the file with its columns."""
    with closing(sqlite3.connect(path)) as book:
        found = book.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')").fetchall()
        return {
            name: {row[1] for row in book.execute(f"PRAGMA table_info({name})")}
            for (name,) in found
            if not name.startswith("sqlite_")
        }


def test_ledger_page_has_every_table_view_and_column(ledger: Path) -> None:
    there = objects(ledger)
    assert set(there) >= {*schema.EVIDENCE, *schema.WORKING, *views.VIEWS}
    said = {title: text for title, text in sections("docs/ledger.md").items() if title in there}
    assert set(there) - set(said) == {"_sqlite_migrations"}
    missing = []
    for name, text in said.items():
        known = code(text)
        for other in re.findall(r"all columns of `(\w+)`", text):
            known |= there[other]
        missing += [f"{name}.{column}" for column in sorted(there[name] - known)]
    assert missing == []


def test_ledger_page_tells_of_no_column_that_is_not_there(ledger: Path) -> None:
    there = objects(ledger)
    wrong = []
    for name, text in sections("docs/ledger.md").items():
        if name in there:
            listed = {each for row in rows(text) if row[0] != "column" for each in code(row[0])}
            wrong += [f"{name}.{each}" for each in sorted(listed - there[name])]
    assert wrong == []


ELSEWHERE = ("docs/exports.md", "docs/report.md")
"""Pages whose queries are run by tests of their own, on exports and with a period."""


def statements() -> list[str]:
    shown = [block.text for block in blocks("sql") if block.page not in ELSEWHERE]
    return [text.strip() for each in shown for text in each.split(";") if text.strip()]


def test_there_are_queries_to_try() -> None:
    assert len(statements()) >= 5


@pytest.mark.parametrize("query", statements(), ids=lambda query: query.splitlines()[0].strip("- "))
def test_queries_run(query: str, ledger: Path) -> None:
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as book:
        book.execute(query).fetchall()


def test_sqlite_tools_run_as_shown(ledger: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(ledger.read_bytes())
    ran = 0
    Book(tmp_path / "lab").close()
    places = {"/var/lib/locum/ledger.db": str(ledger), "/var/backups/ledger-copy.db": str(copy)}
    places["/tmp/lab/book.db"] = str(tmp_path / "lab" / "book.db")
    for block in [each for each in blocks("sh") if each.page not in ELSEWHERE]:
        for words in command_lines(block):
            tool = Path(words[0]).name
            if tool == "sqlite-utils":
                start = [sys.executable, "-m", "sqlite_utils"]
            elif tool == "sqlite3" and program("sqlite3") is not None:
                start = [str(program("sqlite3"))]
            else:
                continue
            rest = [re.sub("|".join(places), lambda found: places[found[0]], word) for word in words[1:]]
            done = subprocess.run([*start, *rest], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{words}: {done.stderr}"
            ran += 1
    assert ran >= 3
