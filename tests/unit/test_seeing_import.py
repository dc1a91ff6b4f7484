"""`locum decode --import`: the records of a capture come into the ledger once, marked as recovered, and proven."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import main
from appliance.ledger_access import change
from appliance.state_dir import LEDGER_NAME
from protocols.radius.accounting import repeat_digests
from protocols.radius.packet import parse
from protocols.terminal.messages import raw_contents
from storage.ledger import Ledger
from storage.records import Counts, Mode, Personal, Record
from tests.peers import terminal as line
from tests.peers.captures import BEGAN, COPIER, SERVER, Tape
from tests.unit.configs import write
from tests.unit.seeing_tape import CARD, SECRET, account, login, record, terminal, written

CONFIG = f"""\
[appliance]
state_dir = "state"

[[upstream]]
name = "hq"
dialect = "radius"
address = "{SERVER}"
secret = "between us and hq"

[[upstream]]
name = "lab"
dialect = "terminal"
address = "{SERVER}"

[[listen]]
dialect = "radius"
bind = "127.0.0.1"
upstream = "hq"
clients = [{{ network = "10.7.0.0/24", secret = "{SECRET.decode()}" }}]

[[listen]]
dialect = "terminal"
bind = "127.0.0.1"
upstream = "lab"
"""
CAPTURED = int(BEGAN * 1000)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    Ledger.open(state / LEDGER_NAME, CAPTURED).close()
    return write(tmp_path, CONFIG, 0o600)


@pytest.fixture
def ledger(config: Path) -> Path:
    return config.parent / "state" / LEDGER_NAME


def taken(capsys: pytest.CaptureFixture[str], config: Path, tape: Tape, *more: str) -> list[str]:
    """What the import says."""
    assert main(["decode", "--import", *more, "-c", str(config), str(written(tape, config.parent))]) == 0
    return capsys.readouterr().out.splitlines()


def rows(ledger: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as book:
        return book.execute(query).fetchall()


JOBS = "SELECT device, client, dialect, upstream, mode, session, pages, job_number FROM jobs ORDER BY seq"


def test_records_of_both_dialects_come_in_marked_as_recovered(
    config: Path, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = Tape()
    login(tape)
    account(tape, record())
    terminal(tape, acknowledged=False)
    assert taken(capsys, config, tape) == [
        f"2 records of devices in {len(tape.packets)} frames: 1 acknowledged by the server, 1 not.",
        "2 records added to the ledger as recovered; it had 0 already.",
    ]
    assert rows(ledger, JOBS) == [
        ("KM-A4F-000123", COPIER, "radius", "hq", "recovered", "5A01", 3, "J7"),
        ("T-1", "10.7.0.32", "terminal", "lab", "recovered", f"{99:016x}", 5, "1"),
    ]
    assert rows(ledger, "SELECT card, user, document FROM personal WHERE raw <> '' ORDER BY seq") == [
        (CARD, "", ""),
        (CARD, "ada", "letter"),
    ]
    assert rows(ledger, "SELECT count(*) FROM outbox") == [(0,)]
    note = rows(ledger, "SELECT note, json_extract(data, '$.records'), json_extract(data, '$.files'), who FROM notes")[
        -1
    ]
    assert note[:3] == ("recovered", 2, "office.pcapng")
    assert note[3]


def test_a_damaged_capture_is_taken_in_as_far_as_it_goes_and_nothing_of_it_is_forwarded(
    config: Path, ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server's acknowledgement may be in what is missing."""
    tape = Tape()
    account(tape, record())
    terminal(tape)
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(written(tape, tmp_path, "office.pcap").read_bytes()[:-5])
    assert main(["decode", "--import", "--forward", "-c", str(config), str(cut)]) == 1
    assert "nothing is forwarded" in capsys.readouterr().err
    assert rows(ledger, "SELECT count(*) FROM jobs") == [(0,)]
    assert main(["decode", "--import", "-c", str(config), str(cut)]) == 1
    said = capsys.readouterr()
    assert "records added to the ledger as recovered" in said.out
    assert "is cut off or damaged after frame" in said.err
    assert rows(ledger, "SELECT count(*) > 0 FROM jobs") == [(1,)]
    assert rows(ledger, "SELECT count(*) FROM outbox") == [(0,)]


def test_a_second_import_adds_nothing(config: Path, ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = Tape()
    account(tape, record())
    terminal(tape)
    taken(capsys, config, tape)
    before = rows(ledger, "SELECT count(*) FROM entries WHERE kind <> 'note'")
    notes = rows(ledger, "SELECT count(*) FROM notes WHERE note = 'recovered'")
    assert taken(capsys, config, tape)[1] == "0 records added to the ledger as recovered; it had 2 already."
    assert rows(ledger, "SELECT count(*) FROM entries WHERE kind <> 'note'") == before
    assert rows(ledger, "SELECT count(*) FROM notes WHERE note = 'recovered'") == notes


def test_a_record_that_a_device_repeats_is_one(config: Path, ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also across captures: the delay grows, the time of the event stays, or both move (RFC 2866 section 5.2)."""
    tape = Tape()
    account(tape, record(), answered=False)
    account(tape, record(number=3, delay=5), answered=False)
    account(tape, record(number=4, delay=9))
    assert taken(capsys, config, tape)[0].endswith("1 acknowledged by the server, 0 not.")
    later = Tape(began=BEGAN + 3_600)
    account(later, record(number=5, delay=60))
    assert taken(capsys, config, later)[1] == "0 records added to the ledger as recovered; it had 1 already."
    assert len(rows(ledger, JOBS)) == 1


def _live(raw: bytes, at: int) -> Record:
    """The record as the appliance itself takes it."""
    digests = repeat_digests(parse(raw))
    counts = Counts("copy", 3)
    return Record(
        at, "radius", "hq", "KM-A4F-000123", COPIER, "stop", "5A01", Mode.ONLINE, "k", Personal(CARD, raw=raw), "J7",
        counts, ended_at=1_794_999_000_000, repeat_scope=COPIER, repeat_keys=digests, outbox=None,
    )  # fmt: skip


@pytest.mark.parametrize("erased", [False, True])
def test_what_the_appliance_took_itself_is_not_taken_again(
    config: Path, ledger: Path, capsys: pytest.CaptureFixture[str], erased: bool
) -> None:
    """Though the device's own marks are long forgotten, and though the bytes are erased."""
    book = Ledger.open(ledger, CAPTURED)
    book.commit([_live(record(), CAPTURED + 3_000)])
    book.close()
    if erased:
        change(ledger.parent, "ledger-erase", card=CARD, reason="asked for")
        assert rows(ledger, "SELECT count(*) FROM personal WHERE raw <> ''") == [(0,)]
    tape = Tape()
    account(tape, record(number=8))
    assert taken(capsys, config, tape)[1] == "0 records added to the ledger as recovered; it had 1 already."


def test_a_job_that_the_appliance_took_itself_is_known_by_its_number(
    config: Path, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = line.job(99, 1, pages=5, document="letter")
    content = raw_contents(payload)
    mine = Record(
        CAPTURED - 10**10, "terminal", "lab", "T-1", "10.7.0.32", "job", "x", Mode.ONLINE, "k", Personal(CARD), "1",
        Counts("copy", 5), repeat_scope="T-1", repeat_keys=(content[:8], content), for_ever=True, outbox=None,
    )  # fmt: skip
    book = Ledger.open(ledger, CAPTURED)
    book.commit([mine])
    book.close()
    tape = Tape()
    terminal(tape, jobs=(1, 2))
    assert taken(capsys, config, tape)[1] == "1 record added to the ledger as recovered; it had 1 already."


def test_only_what_is_proven_and_a_devices_own_is_taken(
    config: Path, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = Tape()
    account(tape, record(record_id="0190-forwarded"))
    tampered = bytearray(record(number=3))
    tampered[-1] ^= 1
    account(tape, bytes(tampered))
    tape.udp(("192.0.2.1", 5), ("192.0.2.9", 1999), record(number=4))
    terminal(tape, hello=False)
    said = taken(capsys, config, tape)
    assert said[1].startswith("0 records added")
    assert said[2] == "Left out: forwarded-by-locum 1, no-hello 1, wrong-secret 2."
    assert rows(ledger, JOBS) == []


def test_a_server_that_nobody_configured_is_left_out(
    config: Path, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = Tape()
    tape.udp((COPIER, 5), ("192.0.2.9", 1999), record(number=4))
    assert taken(capsys, config, tape)[2] == "Left out: unknown-server 1."


def test_an_answer_with_a_wrong_secret_acknowledges_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = Tape()
    account(tape, record(), secret=b"a forger's")
    assert taken(capsys, config, tape)[0].endswith("0 acknowledged by the server, 1 not.")


def test_forward_puts_only_what_was_not_acknowledged_into_the_outbox(
    config: Path, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = Tape()
    account(tape, record())
    account(tape, record("5A02", number=3), answered=False)
    assert taken(capsys, config, tape, "--forward")[2] == "1 record of them to be forwarded (locum outbox list)."
    waiting = "SELECT j.session, o.state, o.order_key FROM outbox o JOIN jobs j ON j.seq = o.seq"
    assert rows(ledger, waiting) == [("5A02", "waiting", "KM-A4F-000123|5A02")]


def test_where_the_device_told_no_time_the_captures_counts(
    config: Path, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = Tape()
    account(tape, record(stamp=None, delay=60))
    taken(capsys, config, tape)
    assert rows(ledger, "SELECT ended_at FROM jobs") == [("2026-11-18T11:05:40.000Z",)]


def test_an_accounting_on_of_the_past_begins_no_new_life(
    config: Path, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the device sent since, and sends again, is still known."""
    book = Ledger.open(ledger, CAPTURED)
    raw = record("5A09", number=9)
    book.commit([_live(raw, CAPTURED)])
    book.close()
    tape = Tape()
    on = parse(record("boot")).attributes
    from protocols.radius.secrets import sign_accounting_request

    boot = tuple((number, (7).to_bytes(4, "big") if number == 40 else value) for number, value in on[:4])
    account(tape, sign_accounting_request(5, boot, SECRET))
    assert taken(capsys, config, tape)[1].startswith("1 record added")
    assert rows(ledger, "SELECT event FROM accounting") == [("on",)]
    book = Ledger.open(ledger, CAPTURED + 1_000)
    outcome = book.commit([_live(raw, CAPTURED + 2_000)])[0]
    book.close()
    assert type(outcome).__name__ == "Repeat"


def test_a_ledger_with_recovered_records_verifies(
    config: Path, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tape = Tape()
    account(tape, record())
    taken(capsys, config, tape)
    assert main(["ledger", "verify", str(ledger)]) == 0


def test_forward_alone_is_wrong_usage(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "--forward", "-c", str(config), "x"]) == 2
    assert "--forward belongs to --import" in capsys.readouterr().err


def test_without_a_ledger_nothing_is_made(config: Path, ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in ledger.parent.iterdir():
        file.unlink()
    tape = Tape()
    account(tape, record())
    assert main(["decode", "--import", "-c", str(config), str(written(tape, config.parent))]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(ledger.parent.iterdir()) == []
