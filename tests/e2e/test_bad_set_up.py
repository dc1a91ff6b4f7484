"""What a person gets wrong: one line that says what and what to do, exit 2, nothing damaged."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.line import Line
from tests.peers.locum import Locum
from tests.peers.ports import LOOPBACK, free_ports
from tests.peers.waiting import eventually


@pytest.fixture
def locum(tmp_path: Path) -> Locum:
    """A Locum that is set up and not started; its server need not exist."""
    auth, acct = free_ports(2)
    return Locum(tmp_path / "locum", auth, acct, b"server-secret")


def _is_refused(locum: Locum, *words: str) -> str:
    """`locum run` ends with 2 and one line that has these words."""
    done = locum.run_to_its_end("run")
    said = done.stderr.strip()
    assert done.returncode == 2, f"exit {done.returncode}: {said}"
    assert len(said.splitlines()) == 1, said
    assert "Traceback" not in said
    for word in words:
        assert word.lower() in said.lower(), said
    return said


def test_an_unknown_key_names_file_line_and_the_nearest_key(locum: Locum) -> None:
    """A slip of the pen in the config."""
    text = locum.config_text().replace("answer_timeout", "answer_timout")
    locum.write_config(text)
    number = 1 + next(i for i, each in enumerate(text.splitlines()) if "answer_timout" in each)
    _is_refused(locum, f"locum.toml:{number}", "answer_timout", "answer_timeout")


def test_an_impossible_value_names_file_and_line(locum: Locum) -> None:
    """A delay that is no duration."""
    locum.write_config(locum.config_text().replace('delay = "1s"', 'delay = "soon"'))
    _is_refused(locum, "locum.toml:", "delay")


def test_a_config_that_is_not_there(locum: Locum) -> None:
    """The file is named."""
    locum.config.unlink()
    _is_refused(locum, "locum.toml")


def test_a_secret_file_that_is_not_there(locum: Locum) -> None:
    """The file is named."""
    (locum.home / "hq.secret").unlink()
    _is_refused(locum, "hq.secret")


def test_a_secret_file_that_cannot_be_read(locum: Locum) -> None:
    """A folder where a file should be: unreadable for root too."""
    (locum.home / "hq.secret").unlink()
    (locum.home / "hq.secret").mkdir()
    _is_refused(locum, "hq.secret")


def test_a_secret_file_that_others_may_read(locum: Locum) -> None:
    """The mode is named with what to do."""
    (locum.home / "hq.secret").chmod(0o644)
    _is_refused(locum, "hq.secret", "chmod")


def test_an_empty_secret(locum: Locum) -> None:
    """An empty secret is none."""
    (locum.home / "hq.secret").write_bytes(b"\n")
    _is_refused(locum, "hq.secret", "empty")


def test_a_state_directory_that_others_may_read(locum: Locum) -> None:
    """The mode is named with what to do; the directory is left as it is."""
    locum.state_dir.chmod(0o755)
    _is_refused(locum, str(locum.state_dir), "chmod")
    assert list(locum.state_dir.iterdir()) == []


def test_a_port_in_use(locum: Locum) -> None:
    """The address and port are named."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((LOOPBACK[4], locum.acct_port))
        _is_refused(locum, str(locum.acct_port), "in use")


def test_a_ledger_that_is_newer_than_the_program(locum: Locum) -> None:
    """Refused, and not a byte of it changed."""
    locum.start()
    locum.stop()
    ledger = locum.state_dir / "ledger.db"
    with closing(sqlite3.connect(ledger)) as book:
        book.execute("PRAGMA user_version = 9999")
        book.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = ledger.read_bytes()
    _is_refused(locum, "ledger.db", "newer")
    assert ledger.read_bytes() == before


def test_a_file_that_is_no_ledger(locum: Locum) -> None:
    """Another program's database is not taken over."""
    ledger = locum.state_dir / "ledger.db"
    with closing(sqlite3.connect(ledger)) as book:
        book.execute("CREATE TABLE bread (rye)")
        book.commit()
    before = ledger.read_bytes()
    _is_refused(locum, "ledger.db")
    assert ledger.read_bytes() == before


def test_a_second_locum_on_the_same_state_directory(locum: Locum) -> None:
    """Exit 2, and the first goes on."""
    locum.start()
    try:
        second = locum.config_text().replace(f"auth_port = {locum.auth_port}", f"auth_port = {free_ports(1)[0]}", 1)
        second = second.replace(f"accounting_port = {locum.acct_port}", f"accounting_port = {free_ports(1)[0]}", 1)
        locum.write_config(second)
        _is_refused(locum, str(locum.state_dir))
        assert locum.status()["name"] == "test"
    finally:
        locum.stop()


def test_a_bad_config_at_reload_leaves_the_old_in_force(make_line: Callable[..., Line]) -> None:
    """SIGHUP with a mistake: said in the log, nothing changes. With a good one: taken."""
    line = make_line()
    line.locum.write_config(line.locum.config_text().replace("[offline]", "[ofline]"))
    line.locum.reload()
    eventually(lambda: "ofline" in line.locum.log_text(), 5, "the log names the mistake")
    assert line.copier.swipe("0A1B2C3D") is not None
    line.shift.job("s1")
    line.locum.offline["delay"] = "0s"
    line.locum.write_config()
    line.locum.reload()

    def taken() -> bool:
        notes = line.locum.query("SELECT note FROM notes WHERE note = 'config'")
        return bool(notes)

    eventually(taken, 5, "the new config is noted in the ledger")
    line.go_offline()


def test_a_new_delay_applies_to_the_running_clock(make_line: Callable[..., Line]) -> None:
    """Table of events, "reload"."""
    line = make_line(offline={"delay": "600s"})
    line.server.kill()
    line.locum.wait_for_state("grace")
    line.locum.offline["delay"] = "1s"
    line.locum.write_config()
    line.locum.reload()
    line.locum.wait_for_state("offline")


def test_sigterm_ends_it_orderly(make_line: Callable[..., Line]) -> None:
    """Exit 0, a stop in the ledger, the control socket gone."""
    line = make_line()
    line.locum.stop()
    assert line.locum.query("SELECT note FROM notes WHERE note = 'stop'")
    assert not (line.locum.state_dir / "control.sock").exists()


def test_sigint_ends_it_too(make_line: Callable[..., Line]) -> None:
    """Control-C at a terminal."""
    line = make_line()
    process = line.locum.process
    assert process is not None
    process.send_signal(signal.SIGINT)
    assert process.wait(10) in (0, 130, -signal.SIGINT)


def test_the_status_command_prints_the_keys_that_scripts_rest_on(make_line: Callable[..., Line]) -> None:
    """`locum status --json`, as in `interfaces.md`."""
    line = make_line()
    line.shift.job("s1")
    done = line.locum.run_to_its_end("status", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {"name", "version", "upstreams", "devices", "outbox", "last_outage", "ledger"} <= told.keys()
    (upstream,) = told["upstreams"]
    assert {"name", "dialect", "state", "proven", "since", "cause", "outage_started", "outbox"} <= upstream.keys()
    assert {"waiting", "sent", "in_doubt", "rejected", "oldest"} <= told["outbox"].keys()
    assert {"entries", "jobs", "head", "bytes"} <= told["ledger"].keys()
    assert told["ledger"]["head"].startswith("sha256:")
    assert told["ledger"]["jobs"] == 1


def test_commands_without_a_running_locum_say_so(locum: Locum) -> None:
    """Exit 1 and one line."""
    for command in (["status"], ["devices"]):
        done: subprocess.CompletedProcess[str] = locum.run_to_its_end(*command)
        assert done.returncode == 1, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
