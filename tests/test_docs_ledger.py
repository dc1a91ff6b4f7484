"""What docs/ledger.md says of the ledger's file is held against a real, small one.

Every table, view and column is there and no other; queries, commands of SQLite's tools and the program that checks the
chain run as they are printed, and that program finds what was altered.
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


def statements() -> list[str]:
    return [text.strip() for block in blocks("sql") for text in block.text.split(";") if text.strip()]


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
    for block in blocks("sh"):
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


def checked(ledger: Path) -> subprocess.CompletedProcess[str]:
    """What the program of docs/ledger.md says of a ledger."""
    programs = [block for block in blocks("python") if block.page == "docs/ledger.md"]
    assert len(programs) == 1
    file = ledger.parent / "check_ledger.py"
    file.write_text(programs[0].text)
    # -I: nothing of ours can be imported, so an auditor needs nothing of ours
    return subprocess.run([sys.executable, "-I", str(file), str(ledger)], capture_output=True, text=True, check=False)


def altered(ledger: Path, *changes: str) -> Path:
    """The ledger after somebody with a shell, who knows of the triggers, has changed it."""
    with closing(sqlite3.connect(ledger)) as book:
        guards = book.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for (guard,) in guards:
            book.execute(f"DROP TRIGGER {guard}")
        for change in changes:
            assert book.execute(change).rowcount > 0, change
        book.commit()
    return ledger


def test_the_program_for_auditors_finds_a_ledger_sound(ledger: Path) -> None:
    done = checked(ledger)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(ledger)) as book:
        count, head = book.execute("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
    assert f"sound: {count} entries" in done.stdout
    assert head.hex() in done.stdout


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET body = replace(body, '\"pages\":12', '\"pages\":11') WHERE kind = 'job'",
        "UPDATE entries SET hash = zeroblob(32) WHERE seq = 5",
        "UPDATE entries SET id = 'x' WHERE seq = 5",
        "DELETE FROM entries WHERE seq = 2",
        "UPDATE jobs SET pages = 1",
        "UPDATE personal SET card = '00000000' WHERE card <> ''",
        "UPDATE logins SET outcome = 'refused' WHERE seq = 2",
        "UPDATE deliveries SET outcome = 'delivered'",
        "UPDATE deliveries SET unknown_card = NULL",
        "UPDATE unlocks SET who = 'ada'",
        "UPDATE drills SET reason = 'another'",
    ],
)
def test_the_program_for_auditors_finds_what_was_altered(change: str, ledger: Path) -> None:
    done = checked(altered(ledger, change))
    assert done.returncode != 0
    assert "NOT SOUND" in done.stderr


def test_the_chain_holds_when_what_is_personal_was_deleted(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as book:
        assert book.execute("DELETE FROM personal WHERE card <> ''").rowcount > 0
        book.commit()
    assert checked(ledger).returncode == 0
