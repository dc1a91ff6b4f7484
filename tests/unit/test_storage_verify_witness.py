"""A witness, whatever form it is kept in, shows a cut, a replaced and a newly signed ledger."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from storage import witness
from storage.ledger import Ledger
from storage.records import Keepable, Note, Sign
from storage.signing import Signer
from storage.verify import Report, verify
from storage.witness import NoWitness
from tests.unit.storage_samples import NOW, job, login
from tests.unit.tampering import copied, hash_anew, key_note, make, newest_line, sign_anew, take_over, tamper

SIGNER = Signer.new()
OTHER = Signer.new()
CUT = [f"DELETE FROM {table} WHERE seq > 20" for table in ("checkpoints", "entries", "notes", "logins", "personal")]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sample") / "ledger.db", SIGNER)


@pytest.fixture
def ledger(sample: Path, tmp_path: Path) -> Path:
    return copied(sample, tmp_path)


def hash_of(ledger: Path, seq: int) -> str:
    with closing(sqlite3.connect(ledger)) as book:
        return str(book.execute("SELECT hex(hash) FROM entries WHERE seq = ?", (seq,)).fetchone()[0])


def wrong(report: Report) -> str:
    assert report.wrong is not None
    return str(report.wrong)


def mark(ledger: Path, seq: int, head: str | None = None) -> str:
    """What stands at a PaperCut server."""
    head = hash_of(ledger, seq).lower() if head is None else head
    return json.dumps({"claim": "c", "lowest": 4, "highest": seq, "head": head}, separators=(",", ":"))


def test_witnesses_of_every_form_agree_with_an_unaltered_ledger(ledger: Path, tmp_path: Path) -> None:
    log = tmp_path / "syslog"
    line = newest_line(ledger)
    log.write_text(
        f"<134>1 2026-11-22T10:16:23Z library locum 7 - - {line}\n"
        "<134>1 2026-11-22T10:16:24Z library sshd something else\n" + json.dumps({"MESSAGE": line}) + "\n"
    )
    report = verify(ledger, witnesses=[str(log), line, mark(ledger, 20), f"23:{hash_of(ledger, 23)}"])
    assert (report.wrong, report.witnesses, report.remarks) == (None, 4, ())


def test_a_cut_end_is_found(ledger: Path) -> None:
    witnesses = [newest_line(ledger), mark(ledger, 22), f"23:{hash_of(ledger, 23)}"]
    tamper(ledger, *CUT)
    assert verify(ledger).ok
    for each, seq in zip(witnesses, (22, 22, 23), strict=True):
        said = wrong(verify(ledger, witnesses=[each]))
        assert said.startswith("entry 21: it is missing: the given line knows entry")
        assert f"knows entry {seq}" in said
        assert "the entries end with 20: the end was cut off" in said


def test_a_cut_end_is_found_by_the_lines_in_a_file(ledger: Path, tmp_path: Path) -> None:
    log = tmp_path / "checkpoints.log"
    log.write_text(newest_line(ledger) + "\n")
    tamper(ledger, *CUT)
    assert f"{log} knows entry 22 (signed 2026-11-22T10:16:23.120Z)" in wrong(verify(ledger, witnesses=[str(log)]))


def test_a_ledger_hashed_and_signed_anew_is_found(ledger: Path) -> None:
    witnesses = [newest_line(ledger), mark(ledger, 20), f"19:{hash_of(ledger, 19)}"]
    changed = "UPDATE entries SET body = replace(body, '\"tries\":1', '\"tries\":2') WHERE seq = 19"
    plain = "UPDATE deliveries SET tries = 2 WHERE seq = 19"
    tamper(ledger, changed, plain, take_over(SIGNER, OTHER))
    assert verify(ledger).ok
    by_line = wrong(verify(ledger, witnesses=witnesses[:1]))
    assert f"the given line is signed by the key {SIGNER.installation}" in by_line
    for each, seq in zip(witnesses[1:], (20, 19), strict=True):
        said = wrong(verify(ledger, witnesses=[each]))
        assert said.startswith(
            f"entry {seq}: it is not the one that the given line knows: something from entry 1 to {seq}"
        )


def test_a_witness_that_agrees_says_up_to_where_all_is_as_it_was(ledger: Path) -> None:
    witnesses = [f"{seq}:{hash_of(ledger, seq)}" for seq in (18, 20)]
    changed = "UPDATE entries SET body = replace(body, '\"tries\":1', '\"tries\":2') WHERE seq = 19"
    tamper(ledger, changed, "UPDATE deliveries SET tries = 2 WHERE seq = 19", hash_anew, sign_anew(SIGNER))
    assert "something from entry 19 to 20 was changed" in wrong(verify(ledger, witnesses=witnesses))


def test_what_a_witness_knows_comes_before_what_is_wrong_later(ledger: Path) -> None:
    tamper(ledger, "UPDATE jobs SET pages = 11 WHERE seq = 5")
    assert verify(ledger, witnesses=[f"4:{'00' * 32}"]).wrong.where == "entry 4"  # type: ignore[union-attr]
    assert verify(ledger, witnesses=[f"5:{'00' * 32}"]).wrong.where == "row 5 of jobs"  # type: ignore[union-attr]


def test_a_replaced_file_is_found(ledger: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other.db", OTHER)
    said = wrong(verify(other, witnesses=[newest_line(ledger)]))
    assert f"this ledger by {OTHER.installation}: it was replaced, or the witness is another appliance's" in said


def test_lines_of_other_appliances_at_the_same_syslog_server_are_not_ours(ledger: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other.db", OTHER)
    log = tmp_path / "syslog"
    log.write_text(newest_line(other) + "\n" + newest_line(ledger) + "\n")
    report = verify(ledger, witnesses=[str(log)])
    assert (report.wrong, report.witnesses) == (None, 1)
    assert report.remarks == (
        f"1 lines of witnesses are signed by other keys ({OTHER.installation}) and are not of this ledger",
    )


def test_a_forged_line_says_nothing(ledger: Path, tmp_path: Path) -> None:
    line = newest_line(ledger)
    forged = line.replace('"seq":22', '"seq":99')
    log = tmp_path / "syslog"
    log.write_text(f"{forged}\n{line}\n")
    report = verify(ledger, witnesses=[str(log)])
    assert (report.wrong, report.witnesses) == (None, 1)
    assert "1 lines of witnesses have signatures that do not hold" in report.remarks[0]
    with pytest.raises(NoWitness, match="no signature in it holds"):
        verify(ledger, witnesses=[forged])


@pytest.mark.parametrize("given", ["nowhere.log", "22", "22:abcd", "{}", '{"highest":1}', "0" * 64, ""])
def test_what_is_no_witness_is_refused_in_one_line(given: str, ledger: Path) -> None:
    with pytest.raises(NoWitness) as refused:
        verify(ledger, witnesses=[given])
    assert "\n" not in str(refused.value)


def test_a_file_without_a_witness_is_refused(ledger: Path, tmp_path: Path) -> None:
    log = tmp_path / "binary"
    log.write_bytes(bytes(range(256)) * 10)
    with pytest.raises(NoWitness, match="nothing in it is one"):
        witness.read(str(log))
    with pytest.raises(NoWitness, match="Is a directory"):
        witness.read(str(tmp_path))


def test_a_mark_without_a_head_says_nothing() -> None:
    with pytest.raises(NoWitness):
        witness.read('{"claim":"c","lowest":1,"highest":0,"head":""}')


def written(path: Path, *batches: list[Keepable]) -> Path:
    book = Ledger.open(path, NOW, SIGNER)
    for batch in batches:
        book.commit(batch)
    book.close()
    return path


def test_a_restored_backup_is_explained(tmp_path: Path) -> None:
    path = written(tmp_path / "ledger.db", [key_note(SIGNER), login(), Sign(NOW)])
    backup = copied(path, tmp_path, "backup.db")
    lost = newest_line(written(path, [job(number, at=NOW + 1_000) for number in range(5)], [Sign(NOW + 1_000)]))
    restored = Note(NOW + 5_000, "restored", {"backup": "", "through": 2})
    later = [job(number, at=NOW + 6_000) for number in range(10, 20)]
    written(backup, [restored], [*later, Sign(NOW + 6_000)])
    assert verify(backup).ok
    said = wrong(verify(backup, witnesses=[lost]))
    assert said == (
        "entry 7: it is not the one that the given line knows (signed 2026-11-22T10:15:04.120Z): entry 3 says that an "
        "older copy, through entry 2, was put back; what had been written after that is not in this file"
    )
    assert verify(backup, witnesses=[newest_line(backup)]).ok
    # what is wrong otherwise comes first
    tamper(backup, "UPDATE jobs SET pages = 1 WHERE seq = 9")
    assert verify(backup, witnesses=[lost]).wrong.where == "row 9 of jobs"  # type: ignore[union-attr]


def test_a_line_from_after_the_restoring_is_not_explained_by_it(tmp_path: Path) -> None:
    path = written(tmp_path / "ledger.db", [key_note(SIGNER), login(), Sign(NOW)])
    written(path, [Note(NOW + 5_000, "restored", {"backup": "", "through": 2})])
    written(path, [job(number, at=NOW + 6_000) for number in range(3)], [Sign(NOW + 6_000)])
    line = newest_line(path)
    tamper(path, *(f"DELETE FROM {table} WHERE seq > 4" for table in ("checkpoints", "entries", "jobs", "personal")))
    with closing(sqlite3.connect(path)) as book:
        book.execute("DELETE FROM outbox WHERE seq > 4")
        book.commit()
    assert "the end was cut off" in wrong(verify(path, witnesses=[line]))


@pytest.mark.parametrize("given", ["23:abcdef", "locum-checkpoint {}", "", "x" * 5_000, "ledger.db/7", "a\0b"])
def test_what_is_no_line_and_no_file_is_called_neither(given: str) -> None:
    with pytest.raises(NoWitness, match="is neither a file nor a checkpoint's line") as raised:
        witness.read(given)
    assert "No such file" not in str(raised.value)
    assert len(str(raised.value)) < 250
