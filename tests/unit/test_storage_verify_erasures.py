"""Verify tells what was erased, and noted, from what was lost or deleted in silence, and where, as far as that goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.cli import main
from storage import database
from storage.ledger import Ledger
from storage.records import AppLogLine, EraseCard, Keepable, Note, Sign
from storage.signing import Signer
from storage.verify import verify
from storage.verifying.notes import Erased, Notes
from tests.unit.storage_samples import NOW, login
from tests.unit.tampering import key_note, tamper

SIGNER = Signer.new()


def written(path: Path, *batches: list[Keepable]) -> Path:
    book = Ledger.open(path, NOW, SIGNER)
    for batch in batches:
        book.commit(batch)
    book.close()
    return path


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Entries 2 to 5 of cards A, B, A, B; 6 notes that A's two were erased; 7 to 9 of card C."""
    cards: list[Keepable] = [login(card) for card in ("AAAA", "BBBB", "AAAA", "BBBB")]
    return written(
        tmp_path / "ledger.db",
        [key_note(SIGNER), *cards],
        [EraseCard(NOW, "AAAA", "ada", "asked for")],
        [login("CCCC"), login("CCCC"), login("CCCC"), Sign(NOW)],
    )


def missing(*seqs: int) -> list[str]:
    return [f"DELETE FROM personal WHERE seq = {seq}" for seq in seqs]


def test_what_was_erased_is_called_erased(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = verify(ledger)
    assert (report.wrong, report.erased, report.lost) == (None, 2, 0)
    assert main(["ledger", "verify", str(ledger)]) == 0
    assert "  2 entries without personal data, which was erased: notes say so." in capsys.readouterr().out


def test_a_row_deleted_after_the_last_erasure_is_named(ledger: Path) -> None:
    report = verify(tamper(ledger, *missing(8)))
    assert str(report.wrong) == (
        "personal: the rows of 3 entries are missing, the notes speak of 2: rows were deleted that nobody noted; "
        "that of entry 8 is one"
    )
    assert (report.erased, report.lost) == (2, 1)


def test_of_rows_deleted_in_silence_the_stretch_is_named_as_far_as_it_can_be_told(ledger: Path) -> None:
    assert str(verify(tamper(ledger, *missing(3))).wrong).endswith(
        "rows were deleted that nobody noted; at least one of them between entry 2 and entry 4"
    )
    assert str(verify(tamper(ledger, *missing(8))).wrong).endswith("noted; that of entry 8 is one")
    assert str(verify(tamper(ledger, *missing(9))).wrong).endswith("at least one of them between entry 8 and entry 9")


def test_what_a_damaged_file_has_lost_is_called_lost_and_not_erased(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `storage.salvage` leaves it: rows are gone, and App.Log says why."""
    tamper(ledger, *missing(3, 5))
    with database.reading(ledger):
        pass
    words = database.recover(ledger, NOW, "a bad page").words
    written(ledger, [AppLogLine(NOW, "warning", words, {}), Sign(NOW)])
    report = verify(ledger)
    assert str(report.wrong).startswith(
        "personal: the rows of 4 entries are missing, the notes speak of 2: rows were lost when the ledger was "
        "damaged, as entry 10 (App.Log) says that it was, or deleted"
    )
    assert (report.erased, report.lost) == (2, 2)
    assert main(["ledger", "verify", str(ledger)]) == 1
    said = capsys.readouterr().out
    assert "2 entries without personal data, which was erased" in said
    assert "2 entries without personal data, and no note up to entry 10 says that it was erased." in said


def test_before_a_gap_nothing_is_called_erased_that_no_note_speaks_of(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was erased by a note that lies behind the gap cannot be told from what was lost."""
    tables = ("entries", "logins", "personal")
    report = verify(tamper(ledger, *(f"DELETE FROM {table} WHERE seq = 5" for table in tables)))
    assert (str(report.wrong).partition(":")[0], report.erased, report.lost) == ("entry 5", 0, 2)
    assert main(["ledger", "verify", str(ledger)]) == 1
    assert "2 entries without personal data, and no note up to entry 4 says" in capsys.readouterr().out


def test_an_older_erasure_explains_nothing_that_was_kept_after_it(tmp_path: Path) -> None:
    """Notes that speak of as many as are missing may still not speak of these: then some were put back as well."""
    path = written(
        tmp_path / "ledger.db",
        [
            key_note(SIGNER),
            login("AAAA"),
            Note(NOW, "erased", {"what": "card", "entries": 1}),
            login("BBBB"),
            Sign(NOW),
        ],
    )
    report = verify(tamper(path, *missing(4)))
    assert str(report.wrong) == (
        "personal: the rows of 1 entries are missing, the notes speak of 1, but not of these: rows were deleted that "
        "nobody noted; that of entry 4 is one"
    )


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_at_least_one_of_those_named_was_not_erased(data: st.DataObject) -> None:
    """Whatever is erased and deleted: among those that are named is one that was deleted, and nothing is named where
    nothing was.
    """
    length = data.draw(st.integers(1, 30))
    notes = sorted(data.draw(st.sets(st.integers(1, length))))
    there = set(range(1, length + 1)) - set(notes)
    erased: set[int] = set()
    told = Notes()
    for note in notes:
        before = sorted(seq for seq in there - erased if seq < note)
        gone = set(data.draw(st.lists(st.sampled_from(before), unique=True))) if before else set()
        erased |= gone
        told.erasures.append(Erased(note, len(gone)))
    rest = sorted(there - erased)
    silent = set(data.draw(st.lists(st.sampled_from(rest), unique=True))) if rest else set()
    named = set(told.unexplained(sorted(erased | silent), 0))
    assert bool(named) == bool(silent)
    assert not named or named & silent
