"""Exports opened with the tools that auditors have: the sqlite3 shell, sqlite-utils, Datasette, a spreadsheet library.

`ledger.md`, Export; what a machine lacks is skipped with its reason.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from storage.signing import Signer
from tests.benchmarks.history import make
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.skips import need_program, skip
from tests.peers.waiting import eventually
from tests.unit.storage_exports import exported

ENTRIES = 3_000
QUESTIONS = (
    "SELECT day, kind, jobs, pages FROM jobs_by_day",
    "SELECT card, jobs, pages FROM jobs_by_card ORDER BY pages DESC, card",
    "SELECT upstream, started, recovered, cause FROM outages",
    "SELECT seq, state, upstream, device, pages, card, reason FROM records_not_taken",
    "SELECT card, device, jobs FROM unknown_cards ORDER BY card, device",
    "SELECT count(*) AS rows FROM jobs_full WHERE mode = 'offline'",
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    make(path, ENTRIES, Signer.new())
    return path


@pytest.fixture(scope="module")
def copy(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "november.db"
    exported(source, path, "sqlite")
    return path


def asked(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shell(path: Path, question: str) -> list[Any]:
    told = asked(need_program("sqlite3", "sqlite3"), "-readonly", "-json", str(path), question)
    return json.loads(told) if told else []


def need_module(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        skip(f"{name} is not installed (pip install {name})")


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_sqlite3_shell_answers_as_the_ledger_does(source: Path, copy: Path, question: str) -> None:
    assert shell(copy, question) == shell(source, question)
    assert not list(copy.parent.glob("november.db-*"))


def test_the_shell_shows_what_columns_mean(copy: Path) -> None:
    told = asked(need_program("sqlite3", "sqlite3"), "-readonly", str(copy), ".schema jobs")
    assert "pages INTEGER NOT NULL, -- impressions" in told


@pytest.mark.parametrize("question", QUESTIONS)
def test_sqlite_utils_answers_as_the_shell_does(copy: Path, question: str) -> None:
    need_module("sqlite_utils")
    told = asked(sys.executable, "-m", "sqlite_utils", "query", str(copy), question)
    assert json.loads(told) == shell(copy, question)


def test_sqlite_utils_lists_rows_of_a_view(copy: Path) -> None:
    need_module("sqlite_utils")
    told = asked(sys.executable, "-m", "sqlite_utils", "rows", str(copy), "jobs_full", "--limit", "3", "--csv")
    assert len(list(csv.DictReader(io.StringIO(told)))) == 3


@pytest.fixture
def datasette(copy: Path, endings: ExitStack) -> Callable[[str], Any]:
    """Datasette on the export with its metadata; asks it for a path."""
    need_module("datasette")
    port = free_port()
    metadata = copy.with_name("november.db.datasette.json")
    command = ("datasette", "serve", str(copy), "-m", str(metadata), "-h", LOOPBACK[4], "-p", str(port))
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=copy.parent
    )
    endings.callback(process.wait, 10)
    endings.callback(process.terminate)

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"http://{LOOPBACK[4]}:{port}{path}", timeout=10) as answer:
            text = answer.read().decode()
        return json.loads(text) if ".json" in path else text

    def is_up() -> bool:
        try:
            return bool(ask("/-/versions.json"))
        except (urllib.error.URLError, OSError):
            return False

    eventually(is_up, 30, "Datasette answers")
    return ask


def test_datasette_shows_the_views_and_what_columns_mean(datasette: Callable[[str], Any], copy: Path) -> None:
    page = datasette("/november/jobs")
    assert "impressions" in page
    assert "Accounted jobs." in page
    assert "Ledger of Locum" in datasette("/")
    told = datasette("/november/jobs_by_card.json?_shape=array&_size=max&_sort=card")
    assert [row["card"] for row in told] == [
        row["card"] for row in shell(copy, "SELECT card FROM jobs_by_card ORDER BY card LIMIT 1000")
    ]
    assert datasette("/november/jobs.json?_shape=objects&_size=1")["filtered_table_rows_count"] == len(
        shell(copy, "SELECT seq FROM jobs")
    )


def test_openpyxl_reads_every_row_of_the_spreadsheet(source: Path, copy: Path, tmp_path: Path) -> None:
    need_module("openpyxl")
    import openpyxl

    made = exported(source, tmp_path / "out.xlsx", "xlsx")
    book = openpyxl.load_workbook(tmp_path / "out.xlsx", read_only=True)
    counts = {name: sum(1 for _ in book[name].iter_rows(min_row=2, max_col=1)) for name in book.sheetnames[1:]}
    book.close()
    assert counts == made.written.counts
    assert counts["jobs"] == shell(copy, "SELECT count(*) AS n FROM jobs")[0]["n"]


def test_the_csv_module_and_the_shell_read_the_same_jobs(source: Path, copy: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out", "csv")
    file = tmp_path / "out" / "jobs.csv"
    with file.open(encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened, strict=True))
    taken = asked(
        need_program("sqlite3", "sqlite3"), "-json", ":memory:", f".import --csv {file} jobs",
        "SELECT sum(pages) AS pages, count(*) AS jobs FROM jobs",
    )  # fmt: skip
    assert json.loads(taken) == shell(copy, "SELECT sum(pages) AS pages, count(*) AS jobs FROM jobs")
    assert len(rows) == json.loads(taken)[0]["jobs"]


def test_the_sums_of_the_manifest_are_those_of_sha256sum(copy: Path) -> None:
    program = need_program("sha256sum", "coreutils")
    for each in json.loads(copy.with_name("november.db.manifest.json").read_text())["files"]:
        assert asked(program, str(copy.with_name(each["name"]))).split()[0] == each["sha256"]


def test_openssl_checks_the_signature_of_the_manifest(copy: Path, tmp_path: Path) -> None:
    program = need_program("openssl", "openssl")
    told = json.loads(copy.with_name("november.db.manifest.json").read_text())
    import base64

    (tmp_path / "key.pem").write_text(told["public_key_pem"])
    (tmp_path / "message").write_bytes(b"locum-checkpoint-1" + told["checkpoint"]["body"].encode())
    (tmp_path / "signature").write_bytes(base64.b64decode(told["checkpoint"]["signature"]))
    said = asked(
        program, "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(tmp_path / "key.pem"),
        "-sigfile", str(tmp_path / "signature"), "-in", str(tmp_path / "message"),
    )  # fmt: skip
    assert "Verified Successfully" in said
