"""`locum ledger erase-card` on the ledger of a stopped appliance: what it asks, what it says, what it refuses."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import ledger_erase, main
from appliance.state_dir import LEDGER_NAME
from storage import database
from storage.ledger import Ledger
from storage.records import AppLogLine, Keepable, Note, Personal
from tests.unit.storage_samples import NOW, job, login

CARD = "04A2B3C4D5"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o750)
    return folder


def fill(state: Path, *items: Keepable) -> None:
    ledger = Ledger.open(state / LEDGER_NAME, NOW)
    ledger.commit(items)
    ledger.close()


def locum(state: Path, *words: str) -> int:
    return main(["ledger", "erase-card", *words, "--state-dir", str(state)])


def ask(state: Path, query: str) -> list[tuple[Any, ...]]:
    with database.reading(state / LEDGER_NAME) as reader:
        return reader.execute(query).fetchall()


def two_of_a_card(state: Path, *more: Keepable) -> None:
    line = AppLogLine(NOW, "warning", "unknown card", personal=Personal(card=CARD))
    fill(state, login(CARD), line, login("0555555555"), *more)


def test_it_erases_and_says_what_and_where_else_it_may_be(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_of_a_card(
        state,
        Note(NOW, "backup", {"to": "/backup/old.db", "backup": "00", "through": 0}),
        Note(NOW, "backup", {"to": "/backup/new.db", "backup": "01", "through": 3}),
        Note(NOW, "export", {"to": "/tmp/for-the-auditor.db", "through": 3, "pseudonymised": 1}),
        Note(NOW, "archive", {"to": "/archive/2025.db", "through": 3}),
    )
    (state / "ledger.db.schema-2-20261101T000000Z").touch()
    assert locum(state, CARD.lower(), "--yes", "--reason", "by letter") == 0
    out = capsys.readouterr().out
    assert "personal data of 2 entries" in out
    sure, _, perhaps = out.partition("Older data")
    assert "/backup/new.db" in sure
    assert "/backup/old.db" in perhaps
    assert "/archive/2025.db" in perhaps
    assert "auditor" not in out
    assert f"{state}/ledger.db.schema-2-20261101T000000Z" in out
    assert CARD not in out.upper()
    assert ask(state, "SELECT card FROM personal") == [("0555555555",)]
    ((who, data),) = ask(state, "SELECT who, data FROM notes WHERE note = 'erased'")
    assert "uid" in who
    assert json.loads(data) == {"what": "card", "entries": 2, "reason": "by letter"}
    assert not any(CARD.encode() in each.read_bytes() for each in state.glob("*"))


def test_it_asks_before_and_a_no_leaves_all_as_it_was(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    two_of_a_card(state)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert locum(state, CARD) == 1
    told = capsys.readouterr().err
    assert "1 line of App.Log, 1 login and the card memory" in told
    assert ask(state, "SELECT count(*) FROM personal") == [(3,)]
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert locum(state, CARD) == 0
    assert ask(state, "SELECT count(*) FROM personal") == [(1,)]


def test_the_number_may_come_from_standard_input(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    two_of_a_card(state)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{CARD}\n"))
    assert locum(state, "-") == 2
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{CARD}\n"))
    assert locum(state, "-", "--yes", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "entries": 2,
        "seq": told["seq"],
        "kinds": {"app-log": 1, "login": 1},
        "files": [],
        "copies": [],
        "remnants": {"unused": 0, "wal": 0},
    }


def test_a_card_that_the_ledger_does_not_know_is_no_failure(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_of_a_card(state)
    assert locum(state, "0777777777") == 0
    assert "Nothing in the ledger leads to this card" in capsys.readouterr().out
    assert ask(state, "SELECT count(*) FROM notes WHERE note = 'erased'") == [(0,)]


def test_it_is_refused_while_records_wait(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(state, login(CARD), job(1, personal=Personal(card=CARD)))
    assert locum(state, CARD, "--yes") == 1
    assert "1 record of this card is in the outbox" in capsys.readouterr().err
    assert ask(state, "SELECT count(*) FROM personal") == [(2,)]


@pytest.mark.parametrize("words", [("",), (" ",), ("a\nb",), (CARD, "--reason", f"card {CARD.lower()}"), ()])
def test_wrong_usage_is_one_line_and_changes_nothing(
    state: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    two_of_a_card(state)
    assert locum(state, *words, "--yes") == 2
    assert ask(state, "SELECT count(*) FROM personal") == [(3,)]
    assert "Traceback" not in capsys.readouterr().err


def test_without_a_ledger_it_says_so(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert locum(state, CARD, "--yes") == 2
    assert "there is no ledger" in capsys.readouterr().err
    assert list(state.iterdir()) == []


def test_another_program_that_reads_for_long_is_named(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    two_of_a_card(state)
    monkeypatch.setattr(ledger_erase, "PATIENCE", 0.0)
    with database.reading(state / LEDGER_NAME) as reader:
        fill(state, login(CARD))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM personal").fetchall()
        assert locum(state, CARD, "--yes") == 1
    assert "ledger.db-wal" in capsys.readouterr().err
    assert locum(state, CARD, "--yes") == 0
    assert not any(CARD.encode() in each.read_bytes() for each in state.glob("*"))
