"""`locum ledger verify`: what it says to a person and to a script, and with which exit status."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.cli import main
from storage.signing import Signer, public_pem
from tests.peers.skips import ROOT
from tests.unit.tampering import copied, make, newest_line, tamper

SIGNER = Signer.new()
OTHER = Signer.new()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sample") / "ledger.db", SIGNER)


@pytest.fixture
def ledger(sample: Path, tmp_path: Path) -> Path:
    return copied(sample, tmp_path)


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["ledger", "verify", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_person_is_told_what_was_checked_by_which_key_and_what_it_does_not_prove(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = said(capsys, ledger)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == f"{ledger}: nothing is wrong"
    assert "23 entries (schema 4)" in out
    key = base64.b64encode(SIGNER.public_key).decode()
    signed = "Signed through entry 22, 2026-11-22T10:16:23.120Z: 3 checkpoints"
    assert f"{signed}, key {key}, installation {SIGNER.installation}." in out
    assert "Not signed yet: 1 entry after that." in out
    assert "The key is the file's own: compare it with the one written down" in out
    assert "only a witness shows (--witness)" in out


def test_with_a_key_and_a_witness_nothing_is_left_to_say(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, ledger, "--public-key", SIGNER.public_key.hex(), "--witness", newest_line(ledger))
    assert status == 0
    assert "1 mark of witnesses agrees." in out
    assert "--public-key" not in out
    assert "--witness" not in out


def test_what_is_wrong_is_said_first_and_the_status_is_1(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tamper(ledger, "UPDATE jobs SET pages = 11 WHERE seq = 4")
    status, out, err = said(capsys, ledger)
    assert (status, err) == (1, "")
    assert out.splitlines()[:3] == [
        f"{ledger}: WRONG",
        "  row 4 of jobs: pages is 11, entry 4 says 12",
        "  Sound before that: 3 entries.",
    ]


def test_a_script_gets_all_of_it(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, ledger, "--json")
    answer = json.loads(out)
    assert (status, answer["ok"], answer["wrong"], answer["entries"], answer["unsigned"]) == (0, True, None, 23, 1)
    assert (answer["key"], answer["key_source"]) == (SIGNER.public_key.hex(), "file")
    tamper(ledger, "DELETE FROM jobs WHERE seq = 4")
    status, out, _ = said(capsys, ledger, "--json")
    wrong = {"where": "entry 4", "what": "its row in jobs is missing"}
    assert (status, json.loads(out)["ok"], json.loads(out)["wrong"]) == (1, False, wrong)


@pytest.mark.parametrize("form", ["base64", "hex", "pem", "line", "pem with words around it"])
def test_a_key_is_read_in_every_form_it_is_given_out(
    form: str, ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "locum.pub"
    pem = public_pem(SIGNER.public_key)
    line = newest_line(ledger)
    written = {"pem": pem, "line": line, "pem with words around it": f"the key of library:\n{pem}\nbye\n"}
    if form in written:
        file.write_text(written[form])
        key = str(file)
    else:
        key = SIGNER.public_key.hex() if form == "hex" else line.partition("key=")[2].split(" ")[0]
    assert said(capsys, ledger, "--public-key", key)[0] == 0
    tampered = make(tmp_path / "other.db", OTHER)
    status, out, _ = said(capsys, tampered, "--public-key", key)
    assert status == 1
    assert f"Nothing is signed by the given key; what is signed is by {OTHER.installation}." in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["/nowhere/ledger.db"],
        ["/"],
        ["/dev/null"],
        [__file__],
        [],
        ["LEDGER", "--public-key", "abc"],
        ["LEDGER", "--public-key", __file__],
        ["LEDGER", "--witness", "/nowhere/checkpoints.log"],
        ["LEDGER", "--witness", __file__],
        ["LEDGER", "LEDGER"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_verified_is_one_line_and_status_2(
    arguments: list[str], ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = said(capsys, *(str(ledger) if each == "LEDGER" else each for each in arguments))
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_damaged_file_is_wrong(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = ledger.read_bytes()
    ledger.write_bytes(content[: len(content) // 2])
    status, out, _ = said(capsys, ledger)
    assert status == 1
    assert "the file: it was copied only in part" in out


def test_nothing_in_the_file_steers_the_terminal(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tamper(ledger, "UPDATE jobs SET paper = char(27) || '[31m' || char(10) WHERE seq = 4")
    status, out, _ = said(capsys, ledger)
    assert status == 1
    assert "\x1b" not in out
    assert out.splitlines()[1].startswith("  row 4 of jobs: paper is")


def test_a_bar_is_shown_on_a_terminal_only(ledger: Path) -> None:
    command = [sys.executable, "-m", "appliance", "ledger", "verify", str(ledger)]
    far, near = pty.openpty()
    shown = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=near, check=True, timeout=60)
    os.close(near)
    try:
        drawn = os.read(far, 65_536)
    except OSError:
        drawn = b""
    os.close(far)
    assert b"verifying" in drawn
    assert b"verifying" not in shown.stdout
    plain = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert (plain.stderr, plain.stdout) == (b"", shown.stdout)
