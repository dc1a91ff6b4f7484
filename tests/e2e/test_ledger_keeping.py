"""`locum ledger check`, `repair`, `vacuum`, `archive`, `backup`, `adopt`: beside a running appliance and without."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from storage.ledger import Ledger
from storage.records import Sign
from storage.signing import Signer
from storage.verify import verify
from tests.peers.load import Load, records
from tests.peers.locum import Locum
from tests.peers.sink import Sink
from tests.unit.storage_samples import NOW, job

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def locum(make_sink: Callable[..., Sink], make_locum: Callable[..., Locum]) -> Locum:
    """A running appliance that has delivered 50 jobs."""
    made = make_locum(make_sink()).start()
    made.wait_until_proven()
    assert Load(records(50, made.secret), made.acct_port, made.secret).run().answered == 50
    made.wait_until_drained()
    return made


def said(done: Done, status: int = 0) -> str:
    """What a command printed; one line and nothing else if it failed."""
    assert done.returncode == status, done.stdout + done.stderr
    if status:
        assert done.stderr.count("\n") == 1, done.stderr
    else:
        assert done.stderr == ""
    return done.stderr if status else done.stdout


def test_check_and_backup_beside_a_running_appliance(locum: Locum, tmp_path: Path) -> None:
    lines = said(locum.run_to_its_end("ledger", "check")).splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    dest = tmp_path / "backup.db"
    told = said(locum.run_to_its_end("ledger", "backup", str(dest)))
    assert sha256(dest.read_bytes()).hexdigest() in told
    (row,) = locum.query("SELECT data, who FROM notes WHERE note = 'backup'")
    note = json.loads(row["data"])
    assert note["to"] == str(dest)
    with closing(sqlite3.connect(dest)) as book:
        kept = dict(book.execute("SELECT key, value FROM export_info").fetchall())
    assert kept["backup"] == note["backup"]
    report = verify(dest)
    assert (report.wrong, report.unsigned) == (None, 0)
    found = json.loads(said(locum.run_to_its_end("ledger", "check", "--json", str(dest))))
    assert not any(each["wrong"] for each in found)
    assert "is there already" in said(locum.run_to_its_end("ledger", "backup", str(dest)), 1)
    assert "there is no folder" in said(locum.run_to_its_end("ledger", "backup", str(tmp_path / "no" / "x")), 1)


def test_what_needs_the_ledger_alone_is_refused_while_the_appliance_runs(locum: Locum, tmp_path: Path) -> None:
    for command in (
        ("repair",),
        ("vacuum",),
        ("archive", "--until", "2020-01-01", str(tmp_path / "a.db")),
        ("adopt", str(tmp_path / "b.db")),
    ):
        line = said(locum.run_to_its_end("ledger", *command), 1)
        assert "stop it first" in line
        assert "the appliance runs" in line or command[0] not in ("repair", "vacuum")
    assert locum.status()["upstreams"][0]["state"] == "online"


def test_vacuum_repair_and_backup_of_a_stopped_appliance(locum: Locum, tmp_path: Path) -> None:
    locum.stop()
    assert "takes" in said(locum.run_to_its_end("ledger", "vacuum"))
    assert "Nothing is wrong" in said(locum.run_to_its_end("ledger", "repair"))
    said(locum.run_to_its_end("ledger", "backup", str(tmp_path / "backup.db")))
    with closing(sqlite3.connect(locum.state_dir / "ledger.db", isolation_level=None)) as book:
        book.execute("UPDATE totals SET value = 3")
        book.execute("DROP TRIGGER jobs_no_update")
    done = locum.run_to_its_end("ledger", "check")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert [line for line in done.stdout.splitlines() if line.startswith("wrong totals")]
    assert "put back: trigger jobs_no_update" in said(locum.run_to_its_end("ledger", "repair"))
    said(locum.run_to_its_end("ledger", "check"))
    assert verify(locum.state_dir / "ledger.db").wrong is None
    locum.start()


def test_what_waited_in_a_damaged_outbox_is_delivered_after_a_repair(
    make_sink: Callable[..., Sink], make_locum: Callable[..., Locum]
) -> None:
    """It may have been on its way, so it is named as maybe there twice."""
    sink = make_sink()
    locum = make_locum(sink, offline={"delay": "1s"}).start()
    locum.wait_until_proven()
    sink.stop()
    locum.wait_for_state("offline")
    assert Load(records(40, locum.secret), locum.acct_port, locum.secret).run().answered == 40
    locum.stop()
    ledger = locum.state_dir / "ledger.db"
    damage_table(ledger, "outbox")
    assert "locum ledger repair" in locum.run_to_its_end("ledger", "check").stdout
    assert "locum ledger repair" in said(locum.run_to_its_end("ledger", "vacuum"), 1)
    told = said(locum.run_to_its_end("ledger", "repair"))
    assert "40 records put back into the outbox" in told
    said(locum.run_to_its_end("ledger", "check"))
    again = make_sink(ports=(sink.auth_port, sink.acct_port))
    locum.start()
    locum.wait_until_drained(30)
    assert again.book()["distinct"] == 40
    assert len(locum.query("SELECT id FROM maybe_forwarded_twice")) == 40
    (line,) = locum.query("SELECT text FROM app_log WHERE text LIKE 'the ledger was damaged (%'")
    assert line["text"] in told
    locum.stop()
    assert verify(ledger).wrong is None


def test_a_repair_that_cannot_put_all_right_says_what_is_lost(locum: Locum) -> None:
    locum.stop()
    ledger = locum.state_dir / "ledger.db"
    with closing(sqlite3.connect(ledger, isolation_level=None)) as book:
        book.execute("INSERT INTO outbox (seq, upstream, state, dialect, device, order_key, at) VALUES "
                     "(9999, 'hq', 'waiting', 'radius', 'copier', '', '2026-11-22T10:15:03.120Z')")  # fmt: skip
    done = locum.run_to_its_end("ledger", "repair")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stdout.startswith("lost  1 record in the outbox of 'hq' (waiting) lost the entry")
    assert "App.Log" in done.stderr
    said(locum.run_to_its_end("ledger", "check"))
    ledger.write_bytes(bytes(4096) + ledger.read_bytes()[4096:])
    assert "put the newest backup in its place" in said(locum.run_to_its_end("ledger", "repair"), 1)


def damage_table(path: Path, table: str) -> None:
    """Overwrite the first page of a table."""
    with closing(sqlite3.connect(path)) as book:
        (page,) = book.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    with path.open("r+b") as stream:
        stream.seek((page - 1) * 4096)
        stream.write(b"\xaa" * 4096)


def test_a_year_is_archived_and_the_appliance_goes_on(make_sink: Callable[..., Sink], make_locum: Callable[..., Locum],
                                                       tmp_path: Path) -> None:  # fmt: skip
    locum = make_locum(make_sink())
    signer = Signer.new()
    (locum.state_dir / "signing.key").touch(mode=0o600)
    (locum.state_dir / "signing.key").write_bytes(signer.pem())
    ledger = Ledger.open(locum.state_dir / "ledger.db", NOW, signer)
    long_ago = NOW - 900 * 24 * 3_600_000
    ledger.commit([*(job(number, at=long_ago, outbox=None) for number in range(30)), Sign(long_ago)])
    ledger.close()
    dest = tmp_path / "archive.db"
    for until, words in (("2001-01-01", "no checkpoint from before"), ("2999-01-01", "the last 24 hours stay")):
        assert words in said(locum.run_to_its_end("ledger", "archive", "--until", until, str(dest)), 1)
    said(locum.run_to_its_end("ledger", "archive", "--until", "last year", str(dest)), 2)
    told = said(locum.run_to_its_end("ledger", "archive", "--until", "2025-01-01", str(dest)))
    assert "30 entries, 1 to 30" in told
    assert sha256(dest.read_bytes()).hexdigest() in told
    assert verify(dest).wrong is None
    locum.start()
    locum.wait_until_proven()
    assert Load(records(5, locum.secret), locum.acct_port, locum.secret).run().answered == 5
    locum.stop()
    report = verify(locum.state_dir / "ledger.db")
    assert (report.wrong, report.first) == (None, 31)
    said(locum.run_to_its_end("ledger", "check", str(dest)))
    assert "is an archive, not a whole ledger" in said(locum.run_to_its_end("ledger", "adopt", str(dest)), 2)


def test_what_cannot_be_checked_or_adopted_is_said_in_a_line(locum: Locum, tmp_path: Path) -> None:
    locum.stop()
    text, empty = tmp_path / "text", tmp_path / "empty"
    text.write_text("no ledger " * 1_000)
    empty.touch()
    for file in (text, empty, tmp_path, tmp_path / "nowhere"):
        said(locum.run_to_its_end("ledger", "check", str(file)), 2)
    for file in (text, empty, tmp_path / "nowhere"):
        said(locum.run_to_its_end("ledger", "adopt", str(file)), 2)
    half = tmp_path / "half.db"
    half.write_bytes((locum.state_dir / "ledger.db").read_bytes()[:40_960])
    done = locum.run_to_its_end("ledger", "check", str(half))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--anyway" in said(locum.run_to_its_end("ledger", "adopt", str(half)), 1)
    for command in (("check",), ("repair",), ("vacuum",), ("backup", str(tmp_path / "b.db"))):
        nowhere = subprocess.run(
            [*locum.command("ledger", *command)[:-2], "--state-dir", str(tmp_path / "nowhere")],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert nowhere.returncode in (1, 2)
        assert nowhere.stderr.count("\n") == 1
    assert not (tmp_path / "nowhere").exists()
