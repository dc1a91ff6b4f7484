"""Of a file that somebody altered an export takes the rows, runs nothing that is defined in it, says what it sees."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from appliance.cli import main
from appliance.cli.progress import interruptible
from storage.export.making import FORMATS
from storage.export.output import CannotExport
from storage.export.snapshot import snapshot
from storage.ledger import Ledger
from storage.records import Personal
from storage.verify import verify
from storage.views import VIEWS
from tests.unit.storage_exports import OTHER_DEVICE, exported, ledger
from tests.unit.storage_samples import NOW, login

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return ledger(tmp_path / "ledger.db")


def alter(path: Path, statements: Sequence[str]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as book:
        for statement in statements:
            book.execute(statement)


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = [each for each in folder.rglob("*") if each.is_file()]
    return {str(each.relative_to(folder)): each.read_bytes() for each in files}


@pytest.mark.parametrize("format", ["csv", "html", "jsonl"])
def test_views_that_lie_or_never_end_are_not_run(source: Path, tmp_path: Path, format: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    exported(source, tmp_path / "one" / "out", format)
    changes = [f"DROP VIEW {name}" for name in VIEWS]
    changes += [f"CREATE VIEW {name} AS {ENDLESS}" for name in VIEWS]
    changes += ["CREATE VIEW chosen AS SELECT 1 AS seq", "CREATE VIEW pseudonyms AS SELECT 1"]
    alter(source, changes)
    exported(source, tmp_path / "two" / "out", format)
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")


def test_an_sqlite_export_has_the_definitions_of_locum_and_none_of_the_files(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "one.db", "sqlite")
    alter(
        source,
        [
            "DROP VIEW jobs_by_card",
            f"CREATE VIEW jobs_by_card AS {ENDLESS}",
            "DROP TRIGGER jobs_no_update",
            "CREATE TRIGGER theirs AFTER INSERT ON jobs BEGIN DELETE FROM jobs; END",
            "CREATE INDEX theirs_too ON jobs(pages)",
        ],
    )
    exported(source, tmp_path / "two.db", "sqlite")
    schemas = []
    for name in ("one.db", "two.db"):
        with closing(sqlite3.connect(tmp_path / name)) as book:
            schemas.append(book.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2").fetchall())
            assert book.execute("SELECT count(*) FROM jobs").fetchone() == (3,)
    assert schemas[0] == schemas[1]
    assert verify(tmp_path / "two.db").wrong is None


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("table", ["jobs", "entries", "outbox", "cards"])
def test_what_only_looks_like_a_table_is_refused(source: Path, tmp_path: Path, table: str, format: str) -> None:
    alter(source, ["PRAGMA legacy_alter_table = 1", f"ALTER TABLE {table} RENAME TO was_{table}"])
    alter(source, [f"CREATE VIEW {table} AS {ENDLESS}"])
    with pytest.raises(CannotExport, match=f"is no ledger of ours.*{table}.*locum ledger verify"):
        exported(source, tmp_path / "out", format)
    assert [each.name for each in tmp_path.iterdir() if "out" in each.name] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["UPDATE entries SET body = replace(body, '4711', '4712')"], "was changed: its hash does not fit its body"),
        (["UPDATE entries SET hash = zeroblob(32) WHERE seq = 5"], "entry 5"),
        (["DELETE FROM entries WHERE seq = 9"], "entry 9 is missing"),
        (["UPDATE checkpoints SET signature = zeroblob(64)"], "signature of the checkpoint"),
    ],
)
def test_a_chain_that_does_not_hold_is_said_by_the_command_and_the_manifest(
    source: Path, tmp_path: Path, changes: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(source)) as book:
        guards = book.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    alter(source, [*(f"DROP TRIGGER {name}" for (name,) in guards), *changes])
    out = tmp_path / "out.html"
    assert main(["ledger", "export", "--format", "html", "--ledger", str(source), str(out)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert "see: locum ledger verify" in line
    assert words in json.loads(out.with_name("out.html.manifest.json").read_bytes())["found_wrong"]
    assert "found wrong" in out.read_text("utf-8")


def test_of_a_sound_chain_nothing_is_said_filtered_or_exported_again_too(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (given, options) in enumerate(
        [
            (source, []),
            (source, ["--device", OTHER_DEVICE]),
            (tmp_path / "1.db", []),
            (tmp_path / "0.db", ["--outage", "last"]),
        ]
    ):
        out = tmp_path / f"{number}.db"
        assert main(["ledger", "export", "--format", "sqlite", "--ledger", str(given), *options, str(out)]) == 0
        assert capsys.readouterr().err == ""
        assert json.loads(out.with_name(f"{number}.db.manifest.json").read_bytes())["found_wrong"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_statement_that_would_go_on(source: Path, tmp_path: Path, number: signal.Signals) -> None:
    timer = threading.Timer(0.3, os.kill, (os.getpid(), number))

    def go_on() -> None:
        with interruptible(), snapshot(source, tmp_path, lambda done, of: None) as copy:
            timer.start()
            copy.execute(ENDLESS).fetchall()

    with pytest.raises(KeyboardInterrupt):
        go_on()
    timer.join()
    assert {each.name for each in tmp_path.iterdir()} == {"ledger.db", "ledger.db.lock"}


def test_entries_that_name_somebody_are_counted_by_an_export_of_an_export_too(source: Path, tmp_path: Path) -> None:
    book = Ledger.open(source, NOW)
    book.commit([login("04A2", reason="welcome, ada", personal=Personal("04A2", "ada"))])
    book.close()
    once = exported(source, tmp_path / "once.db", "sqlite", pseudonymise=True)
    assert once.in_words == 1
    for name, given in (("twice.db", "once.db"), ("thrice.db", "twice.db")):
        made = exported(tmp_path / given, tmp_path / name, "sqlite")
        assert made.in_words == once.in_words
        manifest = json.loads(made.manifest.read_bytes())
        assert manifest["entries_with_names_in_words"] == once.in_words
    with closing(sqlite3.connect(tmp_path / "once.db", isolation_level=None)) as older:
        older.execute("DELETE FROM export_info WHERE key = 'entries_with_names_in_words'")
    made = exported(tmp_path / "once.db", tmp_path / "out.jsonl", "jsonl")
    assert json.loads(made.manifest.read_bytes())["entries_with_names_in_words"] is None, "not known, which is not 0"
