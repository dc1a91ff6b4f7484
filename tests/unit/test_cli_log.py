"""`locum log` reads App.Log from the ledger itself, with Locum up or down."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.cli import main
from storage.ledger import Ledger
from storage.records import AppLogLine, Personal
from tests.peers.signals import heeds_signals

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_795_342_503_120


def write_lines(ledger: Ledger, *texts: str) -> None:
    ledger.commit([AppLogLine(NOW, "warning", text, {"device": "KM-1"}) for text in texts])


def test_the_last_lines_are_printed_with_their_context(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db", NOW)
    write_lines(ledger, *(f"line {number}" for number in range(30)))
    ledger.close()
    assert main(["log", "--state-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20
    assert lines[-1] == '2026-11-22T10:15:03.120Z warning line 29 device="KM-1"'
    assert main(["log", "-n", "2", "--json", "--state-dir", str(tmp_path)]) == 0
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in objects] == ["line 28", "line 29"]
    assert objects[1]["at"] == "2026-11-22T10:15:03.120Z"
    assert objects[1]["context"] == {"device": "KM-1"}
    assert main(["log", "-n", "0", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""


def test_a_line_that_speaks_of_a_card_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db", NOW)
    ledger.commit([AppLogLine(NOW, "warning", "nobody has this card", {"jobs": 3}, Personal(card="946EBD28"))])
    ledger.close()
    assert main(["log", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == '2026-11-22T10:15:03.120Z warning nobody has this card jobs=3 card="946EBD28"\n'
    assert main(["log", "--json", "--state-dir", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["card"] == "946EBD28"


def test_a_line_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db", NOW)
    write_lines(ledger, "device \x1b[2J\nheard")
    ledger.close()
    main(["log", "--state-dir", str(tmp_path)])
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "\x1b" not in said


def test_following_goes_on_with_new_lines_beside_the_writer_and_ends_quietly(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db", NOW)
    write_lines(ledger, "before")
    arguments = [sys.executable, "-u", "-m", "appliance", "log", "-f", "--state-dir", str(tmp_path)]
    with subprocess.Popen(
        arguments,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeds_signals,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "before" in process.stdout.readline()
        write_lines(ledger, "after")
        assert "after" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(10) == 0
        finally:
            process.kill()
        assert process.stderr.read() == ""
    ledger.close()


def test_without_a_ledger_one_line_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "--state-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "there is no ledger" in said
    assert "locum run" in said


def test_a_file_that_is_no_ledger_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no ledger at all" * 100)
    assert main(["log", "--state-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
