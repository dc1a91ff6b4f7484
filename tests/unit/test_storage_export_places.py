"""Where an export may be put, that it is there whole or not at all, and that the writer is left free meanwhile."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from storage.errors import LedgerBroken, LedgerMissing, LedgerTooNew, LedgerTooOld, StorageError
from storage.export import files
from storage.export.making import FORMATS, Exported, export
from storage.export.output import CannotExport, WrongPlace
from storage.ledger import Ledger
from storage.verify import verify
from tests.peers.disks import SmallDisk
from tests.unit.storage_exports import exported, ledger, wish
from tests.unit.storage_samples import NOW, job


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return ledger(tmp_path / "state" / "ledger.db")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with ExitStack() as endings:
        disk = SmallDisk(tmp_path / "disk", 16 << 20)
        endings.callback(disk.unmount)
        yield disk


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"state"}


class Stopped(Exception):
    """Somebody pressed ^C."""


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("when", ["copying the ledger", "writing", "putting it in place"])
def test_whatever_ends_an_export_nothing_is_left(source: Path, tmp_path: Path, format: str, when: str) -> None:
    def progress(what: str, done: int, of: int) -> None:
        if what == when:
            raise Stopped

    with pytest.raises(Stopped):
        export(wish(source, tmp_path / "out", format), progress)
    assert left(tmp_path) == set()


def test_an_export_that_cannot_be_noted_is_not_made(source: Path, tmp_path: Path) -> None:
    def refused(made: Exported) -> None:
        assert left(tmp_path) - {path.name for path in tmp_path.glob(".out.*")} == set()
        raise StorageError("no")

    with pytest.raises(StorageError):
        export(wish(source, tmp_path / "out", "csv"), lambda what, done, of: None, refused)
    assert left(tmp_path) == set()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("beyond_the_copy", [-(1 << 20), 1 << 18])
def test_on_a_full_disk_nothing_is_left_and_that_is_said(
    source: Path, small_disk: SmallDisk, format: str, beyond_the_copy: int
) -> None:
    """Whether the copy of the ledger does not fit, or what is written from it."""
    book = Ledger.open(source, NOW)
    book.commit([job(number, key=f"k{number}") for number in range(100, 3_100)])
    book.close()
    small_disk.fill(source.stat().st_size + beyond_the_copy)
    with pytest.raises(CannotExport, match="the disk is full; nothing is left"):
        exported(source, small_disk.at / "out", format)
    assert left(small_disk.at) == {"ballast"}


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_there_is_replaced_only_by_force(source: Path, tmp_path: Path, format: str) -> None:
    first = exported(source, tmp_path / "out", format)
    with pytest.raises(WrongPlace, match="is there already; name another place, or give --force"):
        exported(source, tmp_path / "out", format)
    second = exported(source, tmp_path / "out", format, force=True, now=NOW)
    assert first.manifest == second.manifest
    assert b'"made_at": "2026-11-22T10:15:03.120Z"' in second.manifest.read_bytes()
    assert not list(tmp_path.glob(".out*"))


def test_what_was_there_stays_if_the_new_one_cannot_be_put_in_place_whole(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out", "sqlite")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    made = {tmp_path / "new" / name: tmp_path / name for name in ("out", "out.manifest.json")}
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "out").write_text("new")
    with pytest.raises(FileNotFoundError):
        files.put(made, tmp_path / "new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("format", ["sqlite", "jsonl", "xlsx", "html"])
def test_force_replaces_no_file_that_is_no_export(source: Path, tmp_path: Path, format: str) -> None:
    (tmp_path / "thesis").write_text("years of work")
    with pytest.raises(WrongPlace, match="is no export"):
        exported(source, tmp_path / "thesis", format, force=True)
    assert (tmp_path / "thesis").read_text() == "years of work"


def test_force_replaces_no_directory_that_is_no_export_and_no_link(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    (tmp_path / "link").symlink_to(tmp_path / "mine" / "letter.txt")
    for place, format in (("mine", "csv"), ("mine", "sqlite"), ("link", "html")):
        with pytest.raises(WrongPlace):
            exported(source, tmp_path / place, format, force=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_nothing_is_put_in_the_state_directory_or_over_the_ledger(source: Path, tmp_path: Path) -> None:
    (tmp_path / "around").symlink_to(source.parent)
    for place in (source.parent / "out", tmp_path / "around" / "out"):
        with pytest.raises(WrongPlace, match="lies in the state directory"):
            exported(source, place, "sqlite", state_dir=source.parent)
    for place in (source, source.with_name("ledger.db.lock")):
        with pytest.raises(WrongPlace, match="is the ledger itself"):
            exported(source, place, "sqlite", force=True)
    with pytest.raises(WrongPlace, match="there is no such directory"):
        exported(source, tmp_path / "nowhere" / "out", "sqlite")


def test_made_by_root_for_somebody_it_belongs_to_them(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give files to somebody")
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "4321")
    exported(source, tmp_path / "out", "csv")
    made = [tmp_path / "out", *(tmp_path / "out").iterdir()]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(1234, 4321)}


# --- what it is made from -----------------------------------------------------------------------------------------


def test_the_appliance_writes_on_and_the_export_is_of_one_moment(source: Path, tmp_path: Path) -> None:
    """The last word about copying comes with the copy complete: what is kept then is not in it."""
    book = Ledger.open(source, NOW)
    before = book.head[0]
    steps = []

    def progress(what: str, done: int, of: int) -> None:
        steps.append(what)
        if what == "copying the ledger":
            book.commit([job(len(steps) + 100, key=f"k{len(steps)}")])

    export(wish(source, tmp_path / "out.db", "sqlite"), progress)
    assert book.head[0] > before
    book.close()
    report = verify(tmp_path / "out.db")
    assert (report.wrong, report.last) == (None, before)


def test_no_name_of_the_copy_is_left_while_the_export_is_written(source: Path, tmp_path: Path) -> None:
    seen: set[str] = set()

    def progress(what: str, done: int, of: int) -> None:
        if what == "writing":
            seen.update(path.name for folder in tmp_path.glob(".out.jsonl.*") for path in folder.iterdir())

    export(wish(source, tmp_path / "out.jsonl", "jsonl"), progress)
    assert "snapshot" not in seen


def test_what_is_no_ledger_of_this_version_is_named(source: Path, tmp_path: Path) -> None:
    def refused(path: Path, error: type[StorageError], words: str) -> None:
        with pytest.raises(error, match=words):
            exported(path, tmp_path / "out", "csv")
        assert left(tmp_path) <= {"other.db", "text"}

    refused(tmp_path / "none.db", LedgerMissing, "there is no file")
    (tmp_path / "text").write_text("dear auditor")
    refused(tmp_path / "text", LedgerBroken, "is no SQLite file")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE t (x)")
    refused(tmp_path / "other.db", LedgerBroken, "no ledger")
    for version, error in ((99, LedgerTooNew), (1, LedgerTooOld)):
        with sqlite3.connect(source) as changed:
            changed.execute(f"PRAGMA user_version = {version}")
        changed.close()
        refused(source, error, f"has schema {version}")
