"""A running Locum signs its ledger, and what it signs leaves the box: to syslog and into `checkpoints.log`."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage.checkpoints import Checkpoint, lines_in
from tests.peers.appliance import table
from tests.peers.locum import Locum
from tests.peers.ports import free_ports
from tests.peers.syslog import SyslogServer
from tests.peers.waiting import eventually

AFTER_COMMIT = "2"
"""The step of proxy/net/crashpoints.py."""


@pytest.fixture
def syslog() -> Iterator[SyslogServer]:
    with ExitStack() as endings:
        server = SyslogServer()
        endings.callback(server.close)
        yield server


@pytest.fixture
def locum(tmp_path: Path, syslog: SyslogServer) -> Iterator[Locum]:
    """One whose server is not there: nothing but the signing is of interest."""
    auth, accounting = free_ports(2)
    made = Locum(tmp_path, auth, accounting, b"between us", more=table("[alerts]", {"syslog": syslog.targets}))
    yield made
    made.kill()


def in_table(locum: Locum) -> list[Checkpoint]:
    rows = locum.query("SELECT number, seq, body, signature, public_key FROM checkpoints ORDER BY number")
    return [Checkpoint(*row) for row in rows]


def in_log(locum: Locum) -> list[str]:
    file = locum.state_dir / "checkpoints.log"
    return file.read_text().splitlines() if file.exists() else []


def lines(messages: list[str]) -> list[str]:
    return [each.line for each in lines_in("\n".join(messages))]


def test_a_stop_signs_the_whole_ledger_and_syslog_and_log_have_the_line(locum: Locum, syslog: SyslogServer) -> None:
    locum.start()
    public = locum.run_to_its_end("ledger", "key", "--json")
    locum.stop()
    (only,) = in_table(locum)
    (entries,) = locum.query("SELECT count(*), max(seq) FROM entries")
    assert tuple(entries) == (only.seq, only.seq), "what is said at the stop is signed too"
    assert only.signed()
    assert base64.b64encode(only.public_key).decode() in public.stdout
    assert in_log(locum) == [only.line]
    for messages in (syslog.udp, syslog.tcp):
        eventually(partial(lines, messages), 5, "the checkpoint has come")
        assert lines(messages) == [only.line]
        (message,) = [each for each in messages if " checkpoint [" in each]
        assert message.startswith(f"<{16 * 8 + 6}>1 "), "local0, info"
    assert not [row for row in locum.query("SELECT text FROM app_log") if "locum-checkpoint" in row[0]]


def test_signing_by_hand_is_the_same_with_the_appliance_and_without(locum: Locum, syslog: SyslogServer) -> None:
    locum.start()
    first = locum.run_to_its_end("ledger", "sign")
    assert first.returncode == 0
    eventually(lambda: lines(syslog.udp), 5, "the checkpoint has come")
    assert [first.stdout.strip()] == lines(syslog.udp) == in_log(locum)
    said: dict[str, Any] = locum.status()["ledger"]["signed"]
    newest = in_table(locum)[-1]
    told = newest.said()
    assert told is not None
    assert said == {"seq": newest.seq, "time": told.time, "number": newest.number}
    locum.stop()
    second = locum.run_to_its_end("ledger", "sign")
    assert second.returncode == 0
    assert second.stdout.strip() == in_table(locum)[-1].line != first.stdout.strip()
    (keys,) = locum.query("SELECT count(*) FROM notes WHERE note = 'key'")
    assert keys[0] == 1
    log = locum.log_text()
    assert log.count("locum-checkpoint-1") == 2, "each stands in the journal once"


def test_what_a_kill_kept_out_of_the_log_is_made_good_at_the_next_start(locum: Locum, syslog: SyslogServer) -> None:
    locum.start()
    kept = locum.ask("ledger-sign")
    assert kept is not None
    eventually(lambda: in_log(locum), 5, "it is in the log")
    locum.kill()
    log = locum.state_dir / "checkpoints.log"
    log.write_text(log.read_text()[:100])
    syslog.udp.clear()
    locum.start()
    eventually(lambda: lines(syslog.udp), 5, "the newest is told")
    assert lines(syslog.udp) == [kept["result"]["line"]]
    assert in_log(locum)[-1] == kept["result"]["line"]
    locum.stop()
    assert [each.line for each in lines_in(log.read_text())] == [each.line for each in in_table(locum)]


def test_a_checkpoint_that_was_committed_when_the_process_died_is_in_the_log_after_the_next_start(
    locum: Locum,
) -> None:
    """Killed between commit and everything else, wherever the batch with the signature in it happens to be."""
    for after in (1, 2, 3, 5):
        locum.launch(LOCUM_CRASH_AT=AFTER_COMMIT, LOCUM_CRASH_AFTER=str(after))
        eventually(lambda: locum.ask("ledger-sign") is None and _gone(locum), 20, "it was asked to sign until it died")
    locum.start().stop()
    signed = in_table(locum)
    assert signed
    assert in_log(locum) == [each.line for each in signed]


def test_each_checkpoint_names_the_one_before(locum: Locum) -> None:
    for _ in range(3):
        locum.start()
        locum.ask("ledger-sign")
        locum.stop()
    signed = in_table(locum)
    assert [each.number for each in signed] == list(range(1, 7))
    before = None
    for each in signed:
        said = each.said()
        assert said is not None
        assert said.previous == before
        before = each.digest


def test_openssl_verifies_a_line_with_the_key_that_the_command_prints(locum: Locum, tmp_path: Path) -> None:
    locum.start()
    (tmp_path / "key.pem").write_text(locum.run_to_its_end("ledger", "key", "--pem").stdout)
    (made,) = lines_in(locum.run_to_its_end("ledger", "sign").stdout)
    locum.stop()
    (tmp_path / "message").write_bytes(b"locum-checkpoint-1" + made.body.encode())
    (tmp_path / "signature").write_bytes(made.signature)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "message"]
    done = subprocess.run(
        [*command, "-sigfile", "signature"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_a_damaged_key_stops_the_start_with_one_line(locum: Locum) -> None:
    locum.start().stop()
    (locum.state_dir / "signing.key").write_text("nonsense")
    done = locum.run_to_its_end("run")
    assert done.returncode == 2
    assert "signing.key: is damaged" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert locum.run_to_its_end("ledger", "key").returncode == 0, "the public half still stands"


def _gone(locum: Locum) -> bool:
    return locum.process is not None and locum.process.poll() is not None
