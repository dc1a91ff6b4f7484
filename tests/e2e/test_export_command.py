"""`locum ledger export` beside a running appliance and without one. `ledger.md`, Export."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from storage.export.making import FORMATS
from storage.signing import Signer
from storage.verify import verify
from tests.benchmarks.history import make
from tests.e2e.line import Line
from tests.peers.signals import heeds_signals
from tests.peers.skips import ROOT
from tests.peers.waiting import eventually
from tests.unit.storage_exports import ledger


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance", "ledger", "export", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_running_appliance_signs_before_and_notes_after(make_line: Callable[..., Line], tmp_path: Path) -> None:
    """It goes on taking jobs; the export is signed to its end, and the ledger says who exported what."""
    line = make_line()
    for _ in range(5):
        line.shift.job("s1", pages=3)
    line.locum.wait_until_drained()
    target = tmp_path / "november.db"
    done = line.locum.run_to_its_end("ledger", "export", "--format", "sqlite", str(target))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = verify(target)
    assert (report.wrong, report.unsigned) == (None, 0)
    (note,) = line.locum.query("SELECT who, data FROM notes WHERE note = 'export'")
    said = json.loads(note["data"])
    manifest = json.loads(target.with_name("november.db.manifest.json").read_text())
    assert (said["format"], said["to"], said["pseudonymised"], said["filters"]) == ("sqlite", str(target), 0, "{}")
    assert said["through"] == manifest["entries"]["through"] == report.last
    assert said["sha256"] in done.stdout
    assert note["who"]
    line.shift.job("s1", pages=3)
    line.locum.wait_until_drained()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o750)
    ledger(folder / "ledger.db")
    return folder


@pytest.mark.parametrize("format", FORMATS)
def test_without_an_appliance_it_is_signed_and_noted_all_the_same(state_dir: Path, tmp_path: Path, format: str) -> None:
    done = run("--format", format, "--state-dir", state_dir, "--card", "c0ffee77", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(state_dir / "ledger.db")) as book:
        (data,) = book.execute("SELECT data FROM notes WHERE note = 'export'").fetchone()
    assert json.loads(data)["filters"] == '{"cards": 1}'
    assert "signed through entry" in done.stdout.lower()
    assert verify(state_dir / "ledger.db").wrong is None


def test_a_copy_is_exported_and_nothing_is_written_beside_it(state_dir: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in state_dir.iterdir()}
    done = run("--format", "jsonl", "--ledger", state_dir / "ledger.db", "--outage", "last", tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in state_dir.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "gestern"), "neither a day like"),
        (("--from", "2026-11-30", "--to", "2026-11-01"), "is before --from"),
        (("--outage", "never"), "no outage is called 'never'"),
        (("--time-zone", "Berlin"), "--time-zone"),
        (("--ledger", "nowhere.db"), "there is no such file"),
        (("--format", "pdf"), "'pdf' is not one of"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    state_dir: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = run("--format", "csv", "--ledger", state_dir / "ledger.db", *arguments, tmp_path / "out")
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_refused_before_anything_is_signed(state_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    done = run("--format", "html", "--state-dir", state_dir, tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    with closing(sqlite3.connect(state_dir / "ledger.db")) as book:
        assert book.execute("SELECT count(*) FROM notes WHERE note IN ('export', 'key')").fetchone() == (0,)
    done = run("--format", "html", "--state-dir", state_dir, state_dir / "out")
    assert done.returncode == 2
    assert "state directory" in done.stderr


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("larger") / "ledger.db"
    make(path, 20_000, Signer.new())
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_says_so_and_leaves_nothing(larger: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "appliance", "ledger", "export", "--format", "xlsx", "--ledger", str(larger)]
    process = subprocess.Popen(
        [*command, str(tmp_path / "out.xlsx")], cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heeds_signals
    )
    eventually(lambda: [*tmp_path.glob(".out.xlsx.*/tmp*")], 20, "the first sheet is being written", every=0.001)
    process.send_signal(number)
    _, words = process.communicate(timeout=20)
    assert process.returncode == 1
    assert words == f"locum: {tmp_path / 'out.xlsx'}: interrupted; nothing is left of the export\n"
    assert [*tmp_path.iterdir()] == []


def test_a_bar_is_shown_on_a_terminal_only(state_dir: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "appliance", "ledger", "export", "--format", "csv", "--ledger"]
    done = subprocess.run(
        [*command, str(state_dir / "ledger.db"), str(tmp_path / "out")],
        cwd=ROOT, stderr=theirs, stdout=subprocess.PIPE, timeout=60, check=False, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    shown = os.read(ours, 1 << 16)
    os.close(ours)
    assert done.returncode == 0
    assert b"%" in shown
    assert b"%" not in done.stdout
