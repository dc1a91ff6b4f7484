"""`locum demo` as a visitor runs it: it tells an outage, ends well, and what it says is true of its files."""

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.peers.skips import ROOT
from tests.peers.waiting import eventually

COMMAND = [sys.executable, "-m", "appliance", "demo"]
KEYS = [
    "ok", "copiers", "logins_online", "logins_offline", "logins_refused", "unlocks", "jobs_sent", "jobs_acknowledged",
    "jobs_ledgered", "jobs_delivered", "duplicates", "lost", "unknown_cards", "app_log_warnings", "chain_verified",
    "seconds",
]  # fmt: skip


def demo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)


def ask(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def test_the_closing_object_is_true_of_the_ledger_and_of_the_servers_book(tmp_path: Path) -> None:
    kept = tmp_path / "demo"
    done = demo("--json", "--keep", str(kept))
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(done.stdout)
    assert list(figures) == KEYS
    assert figures["ok"] is True
    assert figures["chain_verified"] is True
    assert figures["unlocks"] is None
    assert (figures["copiers"], figures["lost"], figures["unknown_cards"]) == (5, 0, 1)
    assert (figures["logins_online"], figures["logins_offline"], figures["logins_refused"]) == (10, 10, 3)
    assert [figures[f"jobs_{how}"] for how in ("sent", "acknowledged", "ledgered", "delivered")] == [60] * 4
    assert 0 < figures["seconds"] < 60

    ledger, book = kept / "state" / "ledger.db", kept / "server" / "book.db"
    in_book = ask(book, "SELECT device, job_number, kind, pages, card FROM records WHERE job_number IS NOT NULL")
    in_ledger = ask(ledger, "SELECT device, job_number, kind, pages, card FROM jobs_full")
    assert len(in_book) - len(set(in_book)) == figures["duplicates"]
    assert set(in_book) == set(in_ledger)
    assert len(in_ledger) == 60
    assert ask(book, "SELECT DISTINCT card FROM records WHERE job_number IS NOT NULL AND user = ''") == [("7E57C0DE",)]
    assert ask(ledger, "SELECT count(*) FROM app_log WHERE level = 'warning'") == [(figures["app_log_warnings"],)]
    assert ask(ledger, "SELECT count(*) FROM notes WHERE note = 'start'") == [(2,)]
    steps = [step for (step,) in ask(ledger, "SELECT step FROM outage_events ORDER BY seq")]
    assert steps[:2] == ["failed", "offline"]
    assert steps[-2:] == ["recovered", "drained"]

    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert {each.name for each in kept.iterdir()} >= {"locum.toml", "locum.log", "server.log", "state", "server"}
    assert all("Traceback" not in log.read_text() for log in kept.glob("*.log"))


def test_the_story_is_told_in_words_and_ends_with_every_figure() -> None:
    done = demo("--copiers", "2", "--jobs", "16")
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout
    in_order = [
        "2 copiers, an Application Server, and Locum between them",
        "reads “Welcome, Anna Berg”",
        "There is no credit left on your account",
        "The server dies",
        "kill -9",
        "Offline mode: Locum answers in the server's place",
        "reads “Offline: activity is logged to your card”",
        "this method is not available offline",
        "this card was refused by the server",
        "Now Locum itself is killed",
        "A visitor from another office",
        "The server comes back",
        "forwarded all",
        "Do the figures add up?",
        "Every figure adds up.",
    ]
    places = [told.find(words) for words in in_order]
    assert -1 not in places, in_order[places.index(-1)]
    assert places == sorted(places)
    assert "\x1b" not in told
    assert "records" in told


def test_one_copier_and_one_job_are_enough() -> None:
    done = demo("--json", "--copiers", "1", "--jobs", "1")
    figures = json.loads(done.stdout)
    assert (done.returncode, figures["ok"], figures["jobs_delivered"], figures["lost"]) == (0, True, 1, 0)


def test_a_directory_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "somebodys").write_text("own")
    done = demo("--keep", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"locum: --keep {tmp_path}: is not empty; name a directory that is new or empty\n"


def test_a_demo_that_is_stopped_leaves_no_process_behind(tmp_path: Path) -> None:
    kept = tmp_path / "demo"
    with (tmp_path / "told").open("wb") as told:
        process = subprocess.Popen([*COMMAND, "--keep", str(kept)], cwd=ROOT, stdout=told, stderr=told)
    try:
        eventually(lambda: b"The server dies" in (tmp_path / "told").read_bytes(), 30, "the server is killed")
        assert running_on(kept)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 130
    finally:
        process.kill()
        process.wait()
    assert running_on(kept) == []


def running_on(directory: Path) -> list[int]:
    """The processes that have this directory in their command line."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                line = Path(entry.path, "cmdline").read_bytes()
            except OSError:
                continue
            if str(directory).encode() + b"/" in line:
                found.append(int(entry.name))
    return found
