"""A pseudonymised export leads to nobody, and still shows who is the same person."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.export.filters import Filters
from storage.export.making import FORMATS
from storage.export.pseudonyms import FIELDS, LENGTH, Pseudonyms
from storage.ledger import Ledger
from storage.records import Delivery, Personal
from storage.verify import verify
from tests.unit.storage_exports import OTHER_CARD, SECRETS, exported, ledger
from tests.unit.storage_samples import NOW, job, login


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file under a folder, and what is packed in it."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes()
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as packed:
                    for name in packed.namelist():
                        yield f"{path.name}:{name}", packed.read(name)


def read(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize("filters", [Filters(), Filters(cards=(SECRETS[0],))], ids=["whole", "of-the-card"])
@pytest.mark.parametrize("format", FORMATS)
def test_nothing_of_a_person_is_anywhere_in_a_pseudonymised_export(
    tmp_path: Path, format: str, filters: Filters
) -> None:
    (tmp_path / "out").mkdir()
    made = exported(ledger(tmp_path / "ledger.db"), tmp_path / "out" / "x", format, filters, pseudonymise=True)
    assert made.about.pseudonymised
    assert made.in_words == 0
    sought = [each.encode(coding) for each in (*SECRETS, OTHER_CARD) for coding in ("utf-8", "utf-16-le")]
    sought += [b"HYPERLINK", SECRETS[0].encode().hex().encode()]
    found = [(name, each) for name, content in contents(tmp_path / "out") for each in sought if each in content]
    assert found == []


def test_the_table_of_pseudonyms_takes_the_place_of_personal_in_every_view(tmp_path: Path) -> None:
    source = ledger(tmp_path / "ledger.db")
    exported(source, tmp_path / "out.db", "sqlite", pseudonymise=True)
    assert read(tmp_path / "out.db", "SELECT count(*) FROM personal") == [(0,)]
    assert "cards" not in {name for (name,) in read(tmp_path / "out.db", "SELECT name FROM sqlite_schema")}
    known = read(source, "SELECT seq, card FROM jobs_full")
    hidden = read(tmp_path / "out.db", "SELECT seq, card FROM jobs_full")
    assert [seq for seq, _ in known] == [seq for seq, _ in hidden]
    assert (
        len({card for _, card in hidden})
        == len({card for _, card in known})
        == len({*zip(known, hidden, strict=True)}) - 1
    )
    assert {len(card) for _, card in hidden} == {LENGTH}
    assert [jobs for _, jobs, *_ in read(tmp_path / "out.db", "SELECT * FROM jobs_by_card")] == [
        jobs for _, jobs, *_ in read(source, "SELECT * FROM jobs_by_card")
    ]
    assert read(tmp_path / "out.db", "SELECT DISTINCT order_key, evidence, corrections FROM outbox") == [("", "", "")]


def test_a_pseudonymised_export_is_verified_and_says_what_it_is(tmp_path: Path) -> None:
    exported(ledger(tmp_path / "ledger.db"), tmp_path / "out.db", "sqlite", pseudonymise=True)
    report = verify(tmp_path / "out.db")
    assert (report.wrong, report.personal) == (None, 0)
    assert any("pseudonym" in remark for remark in report.remarks)


def test_pseudonyms_of_two_exports_have_nothing_in_common(tmp_path: Path) -> None:
    source = ledger(tmp_path / "ledger.db")
    for name in ("one.db", "two.db"):
        exported(source, tmp_path / name, "sqlite", pseudonymise=True)
    one, two = (
        {card for (card,) in read(tmp_path / name, "SELECT card FROM pseudonyms")} for name in ("one.db", "two.db")
    )
    assert one & two == {""}


def test_the_same_person_is_the_same_in_every_subject(tmp_path: Path) -> None:
    exported(ledger(tmp_path / "ledger.db"), tmp_path / "out.jsonl", "jsonl", pseudonymise=True)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert all("personal" not in line for line in lines)
    cards = [line["pseudonyms"]["card"] for line in lines if line["pseudonyms"]]
    kinds = {line["body"]["kind"] for line in lines if line["pseudonyms"] and line["pseudonyms"]["card"] == cards[0]}
    assert {"login", "job", "app-log"} <= kinds


def test_a_name_in_the_words_of_the_server_is_replaced_in_tables_and_counted_where_it_is_signed(tmp_path: Path) -> None:
    book = Ledger.open(tmp_path / "ledger.db", NOW)
    book.commit([login("04A2", reason="welcome, ada", personal=Personal("04A2", "ada"))])
    (kept,) = book.commit([job(1, personal=Personal("04A2"))])
    book.commit([Delivery(NOW + 1, kept.seq, "hq", "refused", None, 1, answer="no ada here", user="ada")])  # type: ignore[union-attr]
    book.close()
    made = exported(tmp_path / "ledger.db", tmp_path / "out", "csv", pseudonymise=True)
    assert made.in_words == 2
    for path in (tmp_path / "out").glob("*.csv"):
        assert b"ada" not in path.read_bytes(), path.name
    made = exported(tmp_path / "ledger.db", tmp_path / "out.jsonl", "jsonl", pseudonymise=True)
    assert json.loads(made.manifest.read_bytes())["entries_with_names_in_words"] == 2


def test_a_pseudonymised_export_stays_so_when_it_is_exported_again(tmp_path: Path) -> None:
    exported(ledger(tmp_path / "ledger.db"), tmp_path / "once.db", "sqlite", pseudonymise=True)
    card = read(tmp_path / "once.db", "SELECT card FROM pseudonyms WHERE card <> ''")[0][0]
    made = exported(tmp_path / "once.db", tmp_path / "twice.db", "sqlite", Filters(cards=(card,)))
    assert made.about.pseudonymised
    assert {each for (each,) in read(tmp_path / "twice.db", "SELECT card FROM jobs_full")} == {card}
    exported(tmp_path / "once.db", tmp_path / "out", "csv")
    assert card.encode() in (tmp_path / "out" / "jobs.csv").read_bytes()


@given(st.sampled_from(FIELDS), st.text(), st.text())
def test_equal_values_have_equal_pseudonyms_and_others_others(field: str, one: str, other: str) -> None:
    names = Pseudonyms()
    same = one == other or (field == "card" and one.upper() == other.upper())
    assert (names.of(field, one) == names.of(field, other)) is same
    assert (names.of(field, one) == "") is (one == "")
