"""What is in an export of each format, and that it says what the ledger says. `ledger.md`, Export."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import sqlite3
import tempfile
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import checkpoints, proof, schema, signing
from storage.export import sheets
from storage.export.comma import FORMULA
from storage.export.copy import ANEW, WORKED_OUT
from storage.export.making import FORMATS
from storage.export.subjects import SUBJECTS
from storage.ledger import Ledger
from storage.records import Counts, Personal
from storage.signing import Signer
from storage.verify import verify
from storage.views import VIEWS
from tests.unit.storage_exports import AWKWARD, CARD, DOCUMENT, USER, exported, ledger
from tests.unit.storage_samples import NOW, job


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return ledger(tmp_path / "ledger.db")


def read(path: Path, query: str, *given: Any) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query, given).fetchall()


def rows_of(folder: Path, subject: str) -> list[dict[str, str]]:
    with (folder / f"{subject}.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


# --- sqlite -------------------------------------------------------------------------------------------------------


def test_a_whole_sqlite_export_is_verified_as_the_ledger_is(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out.db", "sqlite")
    before, after = verify(source), verify(tmp_path / "out.db")
    assert after.wrong is None
    assert after.kind == "export"
    assert (after.head, after.entries, after.checkpoints, after.signed_through, after.personal) == (
        before.head, before.entries, before.checkpoints, before.signed_through, before.personal
    )  # fmt: skip
    assert after.unsigned == 0


def test_every_evidence_table_is_there_row_for_row(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out.db", "sqlite")
    for table in schema.EVIDENCE:
        assert read(tmp_path / "out.db", f"SELECT * FROM {table}") == read(source, f"SELECT * FROM {table}"), table


def test_only_what_an_auditor_asks_for_is_left_of_the_working_tables(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out.db", "sqlite")
    names = {name for (name,) in read(tmp_path / "out.db", "SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert names & set(schema.WORKING) == {"outbox", "outbox_counts", "totals", "devices", "cards"}
    assert read(tmp_path / "out.db", "SELECT * FROM outbox_counts") == [("hq", "waiting", 3)]
    assert read(tmp_path / "out.db", "SELECT * FROM totals") == [("jobs", 3)]


def test_every_view_answers_as_in_the_ledger(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out.db", "sqlite")
    for view in VIEWS:
        there, here = (read(path, f"SELECT * FROM {view}") for path in (tmp_path / "out.db", source))
        assert sorted(there, key=repr) == sorted(here, key=repr), view


def test_what_was_worked_out_can_be_compared_with_its_query(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out.db", "sqlite")
    for told in {*WORKED_OUT} & {*VIEWS}:
        name = told + ANEW
        assert read(tmp_path / "out.db", f"SELECT * FROM {told} EXCEPT SELECT * FROM {name}") == []
        assert read(tmp_path / "out.db", f"SELECT * FROM {name} EXCEPT SELECT * FROM {told}") == []


def test_the_file_is_one_that_needs_no_other_and_refuses_changes(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out.db", "sqlite")
    with closing(sqlite3.connect(tmp_path / "out.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with pytest.raises(sqlite3.IntegrityError, match="written once"):
            connection.execute("UPDATE jobs SET pages = 0")


def test_export_info_says_what_the_file_is(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out.db", "sqlite")
    info = dict(read(tmp_path / "out.db", "SELECT * FROM export_info"))
    assert {name: info[name] for name in ("kind", "filters", "pseudonymised", "plain", "personal", "version")} == {
        "kind": "export", "filters": "{}", "pseudonymised": "0", "plain": "whole", "personal": "whole",
        "version": "0.0.0",
    }  # fmt: skip
    assert info["made_at"] == "2026-11-29T10:15:03.120Z"


def test_metadata_for_datasette_describes_every_table_and_nearly_every_column(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out.db", "sqlite")
    told = json.loads((tmp_path / "out.db.datasette.json").read_text())["databases"]["out"]["tables"]
    there = read(tmp_path / "out.db", "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")
    names = {name for (name,) in there if not name.startswith("sqlite_")}
    assert set(told) == names
    assert [name for name in schema.EVIDENCE if "description" not in told[name]] == []
    assert told["jobs"]["columns"]["pages"] == "impressions"
    assert told["deliveries"]["columns"]["unknown_card"].startswith("1: nobody has the record's card")
    assert "Worked out" in told["jobs_by_card"]["description"]


# --- csv ----------------------------------------------------------------------------------------------------------


def test_csv_has_a_file_for_each_subject_that_says_what_the_ledger_says(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out", "csv")
    names = {path.stem for path in (tmp_path / "out").glob("*.csv")}
    assert names == {subject.name for subject in SUBJECTS}
    jobs = rows_of(tmp_path / "out", "jobs")
    assert [(row["seq"], row["pages"], row["card"]) for row in jobs] == [
        (str(seq), str(pages), card)
        for seq, pages, card in read(source, "SELECT seq, pages, card FROM jobs_full ORDER BY seq")
    ]
    assert jobs[1]["document"] == AWKWARD
    assert [row["outbox"] for row in jobs] == ["waiting", "", "waiting"]
    assert [row["started"] for row in rows_of(tmp_path / "out", "outages")] == ["2026-11-23T10:15:03.120Z"]
    assert [row["seq"] for row in rows_of(tmp_path / "out", "records_not_taken")] == [
        str(seq) for (seq,) in read(source, "SELECT seq FROM records_not_taken")
    ]


def test_csv_is_rfc_4180_with_a_mark_for_excel(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out", "csv")
    content = (tmp_path / "out" / "jobs.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbfseq,id,at,at_local,")
    assert content.endswith(b"\r\n")
    assert content.count(b"\xef\xbb\xbf") == 1


def test_each_time_stands_in_utc_and_local_with_its_offset(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out", "csv")
    (first, *_) = rows_of(tmp_path / "out", "logins")
    assert (first["at"], first["at_local"]) == ("2026-11-22T10:15:03.120Z", "2026-11-22T11:15:03.120+01:00")
    assert (first["expires_at"], first["expires_at_local"]) == ("", "")


@pytest.mark.parametrize("begin", list("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"))
def test_a_cell_that_a_spreadsheet_takes_for_a_formula_is_altered_and_that_is_said(tmp_path: Path, begin: str) -> None:
    book = Ledger.open(tmp_path / "ledger.db", NOW)
    book.commit([job(1, personal=Personal("04A2", document=f"{begin}1+1"), session=f"{begin}s")])
    book.close()
    made = exported(tmp_path / "ledger.db", tmp_path / "out", "csv")
    (row,) = rows_of(tmp_path / "out", "jobs")
    assert (row["document"], row["session"], row["altered"]) == (f"'{begin}1+1", f"'{begin}s", "session document")
    assert made.written.altered == 2
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["altered_cells"] == 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=8))
def test_any_text_comes_back_from_csv_and_from_a_page(documents: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        book = Ledger.open(folder / "ledger.db", NOW)
        book.commit([job(number, personal=Personal("04A2", document=text)) for number, text in enumerate(documents)])
        book.close()
        exported(folder / "ledger.db", folder / "out", "csv")
        exported(folder / "ledger.db", folder / "out.html", "html")
        kept = [document for (document,) in read(folder / "ledger.db", "SELECT document FROM jobs_full ORDER BY seq")]
        altered = [(row["document"], row["altered"]) for row in rows_of(folder / "out", "jobs")]
        page = Page((folder / "out.html").read_bytes().decode())
    assert [text.removeprefix("'") if names else text for text, names in altered] == kept
    assert not any(text.startswith(FORMULA) for text, _ in altered)
    assert {text for text in kept if text == text.strip() and "\r" not in text} <= set(page.cells)


def test_numbers_are_not_altered(tmp_path: Path) -> None:
    book = Ledger.open(tmp_path / "ledger.db", NOW)
    book.commit([job(1, counts=Counts("copy", -3))])
    book.close()
    exported(tmp_path / "ledger.db", tmp_path / "out", "csv")
    (row,) = rows_of(tmp_path / "out", "jobs")
    assert (row["pages"], row["altered"]) == ("-3", "")


# --- jsonl --------------------------------------------------------------------------------------------------------


def test_the_chain_can_be_checked_from_json_lines_alone(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out.jsonl", "jsonl")
    head = bytes(32)
    for number, line in enumerate((tmp_path / "out.jsonl").read_text("utf-8").splitlines(), 1):
        told = json.loads(line)
        body = json.dumps(told["body"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert told["body"]["seq"] == number
        assert bytes.fromhex(told["prev_hash"]) == head
        head = hashlib.sha256(b"locum-entry-1" + head + body).digest()
        assert told["hash"] == head.hex()
        if told["personal"] is not None:
            person = told["personal"]
            raw, salt = base64.b64decode(person["raw"]), base64.b64decode(person["salt"])
            named = Personal(person["card"], person["user"], person["document"], person["account"], raw)
            assert proof.commitment(salt, named) == told["body"]["data"]["personal"]
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert manifest["entries"]["head"] == head.hex()
    assert json.loads(manifest["checkpoint"]["body"])["hash"] == head.hex()


# --- xlsx ---------------------------------------------------------------------------------------------------------


def sheet(path: Path, name: str) -> list[dict[str, Any]]:
    book = openpyxl.load_workbook(path, read_only=True)
    try:
        heads, *rows = book[name].iter_rows(values_only=True)
        return [dict(zip(heads, row, strict=True)) for row in rows]
    finally:
        book.close()


def test_a_spreadsheet_has_a_sheet_for_each_subject_and_says_what_it_is(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out.xlsx", "xlsx")
    book = openpyxl.load_workbook(tmp_path / "out.xlsx")
    assert book.sheetnames == ["About", *(subject.name for subject in SUBJECTS)]
    about = {row[0]: row[1] for row in book["About"].iter_rows(values_only=True)}
    assert about["rows: jobs"] == "3"
    assert about["checkpoint"].startswith("locum-checkpoint-1 ")
    assert book["jobs"].freeze_panes == "A2"
    assert book["jobs"].auto_filter.ref.startswith("A1:")


def test_texts_are_texts_numbers_numbers_and_times_dates(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out.xlsx", "xlsx")
    first, second, _ = sheet(tmp_path / "out.xlsx", "jobs")
    assert (first["pages"], first["document"], first["card"]) == (12, DOCUMENT, CARD)
    assert first["at"] == "2026-11-22T10:15:03.121Z"
    assert first["at_local"].isoformat(timespec="milliseconds") == "2026-11-22T11:15:03.121"
    assert second["document"].replace("_x0001_", "\x01") == AWKWARD
    book = openpyxl.load_workbook(tmp_path / "out.xlsx")
    cells = [cell for row in book["jobs"].iter_rows() for cell in row]
    assert {cell.data_type for cell in cells} <= {"s", "n", "d", "inlineStr"}
    assert not any(cell.hyperlink for cell in cells)


def test_rows_beyond_a_sheet_go_on_in_the_next(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MOST_ROWS", 2)
    exported(source, tmp_path / "out.xlsx", "xlsx")
    found = [row["seq"] for name in ("jobs", "jobs (2)") for row in sheet(tmp_path / "out.xlsx", name)]
    assert found == [seq for (seq,) in read(source, "SELECT seq FROM jobs")]


def test_a_text_that_no_cell_can_hold_is_cut_and_that_is_said(tmp_path: Path) -> None:
    book = Ledger.open(tmp_path / "ledger.db", NOW)
    book.commit([job(1, personal=Personal("04A2", document="x" * 40_000))])
    book.close()
    made = exported(tmp_path / "ledger.db", tmp_path / "out.xlsx", "xlsx")
    (row,) = sheet(tmp_path / "out.xlsx", "jobs")
    assert (len(row["document"]), row["altered"], made.written.altered) == (sheets.LONGEST_TEXT, "document", 1)


# --- html ---------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The tags of a page and the texts of its cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.cells: list[str] = []
        self.addresses: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action")]
        self._inside = tag == "td"
        if self._inside:
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.cells[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "td"


def test_a_page_escapes_everything_and_leads_nowhere(source: Path, tmp_path: Path) -> None:
    exported(source, tmp_path / "out.html", "html")
    page = Page((tmp_path / "out.html").read_text("utf-8"))
    assert "script" not in page.tags
    assert AWKWARD in page.cells
    assert {USER, CARD, DOCUMENT, "2026-11-22T11:15:03.121+01:00"} <= set(page.cells)
    assert all(address.startswith("#") for address in page.addresses)


# --- every format -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_the_manifest_has_the_files_by_their_hashes_and_a_signature_that_holds(
    source: Path, tmp_path: Path, format: str
) -> None:
    made = exported(source, tmp_path / "out", format)
    told = json.loads(made.manifest.read_bytes())
    assert hashlib.sha256(made.manifest.read_bytes()).hexdigest() == made.sha256
    folder = tmp_path / "out" if format == "csv" else tmp_path
    there = {path.name for path in folder.iterdir()} - {made.manifest.name, "ledger.db", "ledger.db.lock"}
    assert {each["name"] for each in told["files"]} == there
    for each in told["files"]:
        content = (folder / each["name"]).read_bytes()
        assert (each["bytes"], each["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    checkpoint = told["checkpoint"]
    key = signing.public_key_from(told["public_key_pem"])
    assert base64.b64encode(key).decode() == checkpoint["public_key"]
    message = checkpoints.DOMAIN + checkpoint["body"].encode()
    assert signing.holds(key, base64.b64decode(checkpoint["signature"]), message)
    (line,) = checkpoints.lines_in(made.manifest.read_text("utf-8").replace('\\"', '"'))
    assert line.signed()
    assert checkpoint["seq"] == told["entries"]["through"] == verify(source).last


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_ledger_gives_a_valid_export(tmp_path: Path, format: str) -> None:
    Ledger.open(tmp_path / "ledger.db", NOW, Signer.new()).close()
    made = exported(tmp_path / "ledger.db", tmp_path / "out", format)
    assert made.about.chosen.entries == 0
    told = json.loads(made.manifest.read_bytes())
    assert (told["checkpoint"], told["entries"]["head"]) == (None, None)


@pytest.mark.parametrize("format", FORMATS)
def test_files_are_for_their_owner_alone(source: Path, tmp_path: Path, format: str) -> None:
    exported(source, tmp_path / "out", format)
    made = [path for path in tmp_path.rglob("*") if not path.name.startswith("ledger.db")]
    assert {path.stat().st_mode & 0o777 for path in made if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in made if path.is_dir()} <= {0o700}
