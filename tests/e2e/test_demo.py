"""`locum demo` as a visitor runs it: it tells an outage, ends well, and what it says is true of its files."""

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.peers.skips import ROOT
from tests.peers.waiting import eventually

COMMAND = [sys.executable, "-m", "appliance", "demo"]
KEYS = [
    "ok", "copiers", "logins_online", "logins_offline", "logins_refused", "unlocks", "jobs_sent", "jobs_acknowledged",
    "jobs_ledgered", "jobs_delivered", "duplicates", "lost", "unknown_cards", "app_log_warnings", "chain_verified",
    "seconds",
]  # fmt: skip


def demo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, "subprocess.CompletedProcess[str]"]]:
    """A demo with the usual figures: what it leaves behind, and how it ended."""
    directory = tmp_path_factory.mktemp("demo") / "kept"
    yield directory, demo("--json", "--keep", str(directory))
    shutil.rmtree(directory)


@pytest.fixture
def kept(played: tuple[Path, "subprocess.CompletedProcess[str]"]) -> Path:
    """What it leaves behind."""
    return played[0]


def ask(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def test_the_closing_object_is_true_of_the_ledger_and_of_the_servers_book(
    played: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    kept, done = played
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(done.stdout)
    assert list(figures) == KEYS
    assert figures["ok"] is True
    assert figures["chain_verified"] is True
    assert (figures["copiers"], figures["lost"], figures["duplicates"], figures["unknown_cards"]) == (5, 0, 0, 1)
    assert (figures["logins_online"], figures["logins_offline"], figures["logins_refused"]) == (10, 12, 3)
    assert figures["unlocks"] == 2
    assert [figures[f"jobs_{how}"] for how in ("sent", "acknowledged", "ledgered", "delivered")] == [60] * 4
    assert 0 < figures["seconds"] < 90

    ledger, book = kept / "state" / "ledger.db", kept / "server" / "book.db"
    in_book = ask(book, "SELECT record_id, kind, pages FROM jobs")
    in_ledger = ask(ledger, "SELECT id, kind, pages FROM jobs")
    assert len(in_book) == 60
    assert set(in_book) == set(in_ledger)
    assert ask(book, "SELECT * FROM jobs_twice") == []
    assert ask(ledger, "SELECT DISTINCT dialect FROM jobs ORDER BY dialect") == [("radius",), ("terminal",)]
    assert ask(ledger, "SELECT count(*) FROM app_log WHERE level = 'warning'") == [(figures["app_log_warnings"],)]
    assert ask(ledger, "SELECT count(*) FROM notes WHERE note = 'start'") == [(2,)]
    assert ask(ledger, "SELECT count(*) FROM outbox") == [(0,)]


def test_the_unknown_card_is_the_unknown_users_and_the_admin_is_warned(kept: Path) -> None:
    ledger, book = kept / "state" / "ledger.db", kept / "server" / "book.db"
    [(card, device, jobs)] = ask(ledger, "SELECT card, device, jobs FROM unknown_cards")
    assert (card, device) == ("7E57C0DE", "office-1")
    assert ask(book, "SELECT device, count(*) FROM jobs WHERE user = 'unknown' GROUP BY device") == [("office-1", jobs)]
    assert ask(book, "SELECT username, internal FROM users WHERE username = 'unknown'") == [("unknown", 1)]
    warned = "SELECT count(*) FROM app_log WHERE level = 'warning' AND text LIKE '%nobody has the card%'"
    assert ask(ledger, warned) == [(jobs,)]
    created = "SELECT count(*) FROM app_log WHERE text LIKE '%did not exist at the server and was created%'"
    assert ask(ledger, created) == [(1,)]


def test_in_the_library_a_code_was_asked_for_and_in_the_office_none(kept: Path) -> None:
    ledger = kept / "state" / "ledger.db"
    assert ask(ledger, "SELECT device, outcome, scope FROM unlocks WHERE outcome <> 'dropped' ORDER BY seq")[:5] == [
        ("library-1", "wrong-code", "once"),
        ("library-1", "unlocked", "once"),
        ("library-1", "begun", "once"),
        ("library-1", "used", "once"),
        ("library-2", "unlocked", "until-restored"),
    ]
    assert ask(ledger, "SELECT DISTINCT device FROM logins WHERE outcome = 'locked'") == [("library-1",)]
    everything = b"".join(file.read_bytes() for file in kept.rglob("*") if file.is_file())
    assert b"bookworm" not in everything


def test_the_first_outage_still_drained_when_the_server_died_again_and_each_doubt_was_decided(kept: Path) -> None:
    ledger, book = kept / "state" / "ledger.db", kept / "server" / "book.db"
    steps = [step for (step,) in ask(ledger, "SELECT step FROM outage_events ORDER BY seq")]
    first, last = steps.index("recovered"), len(steps) - 1 - steps[::-1].index("recovered")
    assert first < last
    assert "drained" not in steps[first:last]
    assert steps[-1] == "drained"
    doubted = {id for (id,) in ask(ledger, "SELECT record_id FROM deliveries WHERE state = 'in_doubt'")}
    decided = ask(ledger, "SELECT record_id, outcome FROM deliveries WHERE outcome LIKE 'resolved-%' AND who <> ''")
    assert {id for id, _ in decided} == doubted
    assert 1 <= len(doubted) <= 12
    assert ask(book, "SELECT count(*) FROM jobs WHERE record_id IN (SELECT record_id FROM jobs_twice)") == [(0,)]


def test_what_is_kept_is_closed_to_others_and_no_log_has_a_traceback(kept: Path) -> None:
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert {each.name for each in kept.iterdir()} >= {"locum.toml", "locum.log", "server.log", "state", "server"}
    assert all("Traceback" not in log.read_text() for log in kept.glob("*.log"))


def test_the_story_is_told_in_words_and_ends_with_every_figure() -> None:
    done = demo("--copiers", "3", "--jobs", "24")
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout
    in_order = [
        "3 copiers, an Application Server, and Locum between them",
        "locum unlock-code set",
        "aberg, 12.40 left",
        "no credit is left on your account",
        "The server dies",
        "kill -9",
        "Offline mode: Locum answers in the server's place",
        "reads “Offline: activity is logged to your card”",
        "this method is not available offline",
        "this card was refused by the server",
        "reads “Offline mode is locked”",
        "types a code, and it is wrong",
        "types the code, for a single use",
        "reads “Offline mode is locked”",
        "until the connection is restored",
        "Now Locum itself is killed",
        "dies again while Locum hands over",
        "in doubt",
        "A visitor from another office",
        "The server comes back for good",
        "forwarded all",
        "the user 'unknown' did not exist",
        "nobody has the card of this job",
        "locum outbox show",
        "locum outbox resolve",
        "Do the figures add up?",
        "Every figure adds up.",
    ]
    at = 0
    for words in in_order:
        at = told.find(words, at)
        assert at >= 0, words
        at += len(words)
    assert "\x1b" not in told


@pytest.mark.parametrize(("copiers", "jobs"), [(1, 0), (2, 3)])
def test_few_copiers_and_few_jobs_are_enough(copiers: int, jobs: int) -> None:
    done = demo("--json", "--copiers", str(copiers), "--jobs", str(jobs))
    figures = json.loads(done.stdout)
    assert (done.returncode, done.stderr, figures["ok"]) == (0, "", True)
    assert (figures["jobs_delivered"], figures["lost"], figures["unlocks"]) == (jobs, 0, 2 * (copiers > 1))


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
