"""`docs/exports.md` says what exports are: its program runs, and every key, member and subject is on the page."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from storage.export.copy import WORKED_OUT
from storage.export.filters import Filters
from storage.export.subjects import SUBJECTS
from tests.docs_pages import blocks, code, rows, sections
from tests.unit.storage_exports import exported, ledger

PAGE = "docs/exports.md"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return ledger(tmp_path / "ledger.db")


def first_column(title: str, head: str) -> set[str]:
    """What stands in the first column of the table that begins with `head`."""
    found: set[str] = set()
    inside = False
    for row in rows(sections(PAGE)[title]):
        if row[0] in ("what", "key", "member", "column"):
            inside = row[0] == head
        elif inside:
            found |= code(row[0])
    return found


def checked(file: Path) -> subprocess.CompletedProcess[str]:
    (program,) = (block.text for block in blocks("python") if block.page == PAGE)
    return subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=False)


def test_the_program_checks_json_lines_and_finds_what_was_changed(source: Path, tmp_path: Path) -> None:
    made = exported(source, tmp_path / "out.jsonl", "jsonl")
    head = json.loads(made.manifest.read_bytes())["entries"]["head"]
    assert checked(tmp_path / "out.jsonl").stdout == f"{head}\n"
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    for wrong in ([*lines[:3], *lines[4:]], [*lines[:2], lines[2].replace('"pages":12', '"pages":1'), *lines[3:]]):
        (tmp_path / "wrong.jsonl").write_text("\n".join(wrong), "utf-8")
        assert "NOT SOUND" in checked(tmp_path / "wrong.jsonl").stderr


def test_every_key_of_export_info_is_on_the_page(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "once.db", "sqlite")
    exported(tmp_path / "once.db", tmp_path / "twice.db", "sqlite")
    with closing(sqlite3.connect(tmp_path / "twice.db")) as connection:
        there = {key for (key,) in connection.execute("SELECT key FROM export_info")}
    assert first_column("SQLite", "key") == there | {"erased", "entries_with_names_in_words"}


def test_every_member_of_the_manifest_is_on_the_page(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "once.db", "sqlite")
    made = exported(tmp_path / "once.db", tmp_path / "out.html", "html", pseudonymise=True)
    told = set(json.loads(made.manifest.read_bytes()))
    assert first_column("The manifest, and how to check it", "member") == told


def test_every_member_of_a_line_is_on_the_page(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out", "jsonl", Filters(outage="last"))
    told = set(json.loads((tmp_path / "out").read_text("utf-8").splitlines()[0]))
    assert first_column("JSON lines", "member") == told | {"pseudonyms"}


def test_every_subject_and_every_view_that_is_a_table_is_on_the_page() -> None:
    assert {subject.name for subject in SUBJECTS} <= code(sections(PAGE)["CSV"])
    assert {*WORKED_OUT} <= code(sections(PAGE)["SQLite"])
