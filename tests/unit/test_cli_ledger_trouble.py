"""The commands on a ledger that is damaged, older than is known, or may not be read, and on places that will not do."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from appliance import witness
from appliance.cli import main
from appliance.state_dir import LEDGER_NAME, signing_key
from storage import adopting
from storage.inheriting import settle_origin
from storage.ledger import Ledger
from storage.records import OutboxState, Personal, Sign, Take
from storage.signing import Signer
from storage.verify import verify
from tests.peers.disks import SmallDisk
from tests.unit.storage_samples import NOW, job, login

CARD = "04A2B3C4D5"
NOBODY = 65_534


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a ledger of 200 jobs, signed by its key."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o750)
    made = Ledger.open(folder / LEDGER_NAME, NOW, signing_key(folder))
    made.commit([login(CARD), *(job(number) for number in range(200)), Sign(NOW)])
    made.close()
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with ExitStack() as endings:
        disk = SmallDisk(tmp_path / "disk", 16 << 20)
        endings.callback(disk.unmount)
        yield disk


def damage(state: Path) -> bytes:
    """Zeros over the middle page of the entries; the bytes of the file afterwards."""
    file = state / LEDGER_NAME
    with closing(sqlite3.connect(file)) as book:
        root = book.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'entries'").fetchone()[0]
    with file.open("r+b") as stream:
        stream.seek((root - 1) * 4096)
        stream.write(bytes(4096))
    return file.read_bytes()


def notes(state: Path, note: str) -> list[str]:
    with closing(sqlite3.connect(state / LEDGER_NAME)) as book:
        return [data for (data,) in book.execute("SELECT data FROM notes WHERE note = ?", (note,))]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """Nobody may look into a folder: for root, by being nobody."""
    if os.geteuid() != 0:
        folder.chmod(0)
        try:
            yield
        finally:
            folder.chmod(0o750)
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


DEEDS = (
    ["ledger", "sign"],
    ["ledger", "backup", "DEST"],
    ["ledger", "export", "--format", "jsonl", "DEST"],
    ["ledger", "erase-card", CARD, "--yes"],
    ["ledger", "archive", "--until", "2026-11-23", "DEST"],
    ["meters", "add", "KM-1", "total=12", "--new"],
)


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed[1])
def test_no_deed_by_hand_recovers_a_damaged_ledger(
    state: Path, deed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = damage(state)
    dest = state.parent / "dest"
    words = [str(dest) if word == "DEST" else word for word in deed]
    assert main([*words, "--state-dir", str(state)]) == 1
    line = said(capsys)
    assert "damaged" in line
    assert "locum ledger repair" in line or deed[1] == "archive", line
    assert (state / LEDGER_NAME).read_bytes() == before
    assert not list(state.glob("*.damaged*"))
    assert not dest.exists()
    assert [each.name for each in state.parent.iterdir()] == ["state"]


@pytest.mark.parametrize("deed", DEEDS[:4], ids=lambda deed: deed[1])
def test_no_deed_by_hand_goes_into_an_older_copy_before_a_start_has_seen_it(
    state: Path, deed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is known of the newer one is beside it; a signature of now would stand among those that are known."""
    older = state.parent / "older.db"
    shutil.copy(state / LEDGER_NAME, older)
    ledger = Ledger.open(state / LEDGER_NAME, NOW, signing_key(state))
    ledger.commit([job(1_000), Sign(NOW)])
    (state / witness.HEAD_NAME).write_text(f"{ledger.head[0]}:{ledger.head[1].hex()}\n")
    ledger.close()
    shutil.copy(older, state / LEDGER_NAME)
    words = [str(state.parent / "dest") if word == "DEST" else word for word in deed]
    assert main([*words, "--state-dir", str(state)]) == 1
    assert "older copy" in said(capsys)
    with closing(sqlite3.connect(state / LEDGER_NAME)) as book:
        assert book.execute("SELECT max(seq) FROM entries").fetchone() == (201,)


@pytest.mark.parametrize("remembers", [True, False])
def test_a_deed_by_hand_leaves_a_start_what_it_needs_to_notice_another_boxs_ledger(
    state: Path, remembers: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """This box knows 201 entries of its own ledger; the other box's is shorter, and is not an older copy of it."""
    theirs, signer = state.parent / "theirs.db", Signer.new()
    ledger = Ledger.open(theirs, NOW, signer)
    ledger.commit([job(number, key=f"t{number}") for number in range(5)])
    if remembers:
        settle_origin(ledger, signer, None, (), NOW)
    ledger.commit([Sign(NOW)])
    ledger.close()
    own = Ledger.open(state / LEDGER_NAME, NOW)
    (state / witness.HEAD_NAME).write_text(f"{own.head[0]}:{own.head[1].hex()}\n")
    own.close()
    with closing(sqlite3.connect(state / LEDGER_NAME, isolation_level=None)) as book:
        book.execute("DELETE FROM outbox")
    adopting.adopt(state / LEDGER_NAME, theirs, NOW, lambda path: "")
    assert main(["meters", "add", "KM-1", "total=12", "--new", "--state-dir", str(state)]) == 0
    here = signing_key(state)
    ledger = Ledger.open(state / LEDGER_NAME, NOW, here)
    words = settle_origin(ledger, here, witness.newest(state), ("hq",), NOW, witness.heard_of(state))
    ledger.close()
    assert [line for line in words if "older" in line] == []
    assert signer.installation in notes(state, "adopted")[0]
    assert notes(state, "restored") == []
    assert verify(state / LEDGER_NAME).wrong is None


def test_without_rights_on_the_state_directory_one_line_says_so(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = (["log"], ["ledger", "erase-card", CARD, "--yes"], ["ledger", "sign"])
    for command in commands:  # what a command loads, it loads now
        main([*command, "--state-dir", str(state / "nowhere")])
    capsys.readouterr()
    for command in commands:
        with without_rights(state):
            status = main([*command, "--state-dir", str(state)])
        assert status == 1
        line = said(capsys)
        assert "Permission denied" in line or "may not" in line
        assert "should not happen" not in line


def test_a_backup_to_a_folder_that_cannot_be_written_says_which_and_notes_none(
    state: Path, small_disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    small_disk.read_only()
    assert main(["ledger", "backup", "--state-dir", str(state), str(small_disk.at / "b.db")]) == 1
    line = said(capsys)
    assert f"{small_disk.at} cannot be written to (Read-only file system)" in line
    assert "cannot store in the ledger" not in line
    assert notes(state, "backup") == []


def test_a_backup_that_runs_out_of_room_leaves_nothing_and_is_not_noted(
    state: Path, small_disk: SmallDisk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_disk.fill(100_000)
    # Others fill the disk between the look and the writing.
    monkeypatch.setattr("storage.replacing.demand_room", lambda folder, octets: None)
    assert main(["ledger", "backup", "--state-dir", str(state), str(small_disk.at / "b.db")]) == 1
    assert "the disk is full" in said(capsys)
    assert [each.name for each in small_disk.at.iterdir()] == ["ballast"]
    assert notes(state, "backup") == []


def test_a_backup_is_noted_when_it_is_whole(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dest = state.parent / "b.db"
    assert main(["ledger", "backup", "--state-dir", str(state), str(dest)]) == 0
    (note,) = notes(state, "backup")
    assert str(dest) in note
    assert capsys.readouterr().out.split("SHA-256 ")[1].split()[0] in note


@pytest.mark.parametrize("command", ["backup", "adopt", "export", "archive", "report"])
def test_an_empty_name_is_no_place(state: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"export": ["--format", "csv"], "archive": ["--until", "2026-01-01"], "report": ["-o"]}.get(command, [])
    assert main(["ledger", command, "--state-dir", str(state), *options, ""]) == 2
    assert "the name is empty" in said(capsys)


def test_a_card_with_records_in_doubt_is_told_how_to_decide_them(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.open(state / LEDGER_NAME, NOW, signing_key(state))
    ledger.commit([job(5_000, personal=Personal(card=CARD))])
    ledger.commit([Take(NOW, "hq", (ledger.head[0],))])
    ledger.settle_sent(NOW, ("hq",))
    ledger.close()
    with closing(sqlite3.connect(state / LEDGER_NAME)) as book:
        assert book.execute("SELECT count(*) FROM outbox WHERE state = ?", (OutboxState.IN_DOUBT,)).fetchone() == (1,)
    assert main(["ledger", "erase-card", CARD, "--yes", "--state-dir", str(state)]) == 1
    assert "1 of them in doubt: decide with locum outbox resolve" in said(capsys)


@pytest.mark.parametrize("stdin", [io.StringIO(""), None], ids=["empty", "closed"])
def test_where_nobody_can_be_asked_nothing_is_erased_and_that_is_said(
    state: Path, stdin: io.StringIO | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["ledger", "erase-card", CARD, "--state-dir", str(state)]) == 1
    assert "nothing was erased" in capsys.readouterr().err.splitlines()[-1]
    assert main(["ledger", "erase-card", "-", "--state-dir", str(state)]) == 2
    assert notes(state, "erased") == []
