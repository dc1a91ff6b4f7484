"""Verify finds every kind of tampering that plain SQL can do, and names it: which entry or row, and what is wrong."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import rfc8785

from storage import copies, proof
from storage.ledger import Ledger
from storage.records import Keepable, Note, Sign
from storage.signing import Signer, installation_of
from storage.verify import verify
from tests.unit.storage_samples import NOW, job, login
from tests.unit.tampering import LAST, SIGNED, Change, copied, hash_anew, key_note, make, sign_anew, take_over, tamper

SIGNER = Signer.new()
THIEF = Signer.new()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sample") / "ledger.db", SIGNER)


@pytest.fixture
def ledger(sample: Path, tmp_path: Path) -> Path:
    return copied(sample, tmp_path)


def in_body(seq: int, old: str, new: str) -> Change:
    return ("UPDATE entries SET body = replace(body, ?, ?) WHERE seq = ?", (old, new, seq))


def test_what_was_written_verifies(ledger: Path) -> None:
    report = verify(ledger)
    assert report.wrong is None
    assert (report.entries, report.first, report.last, report.checkpoints) == (LAST, 1, LAST, 3)
    assert (report.signed_through, report.unsigned, report.erased, report.personal) == (22, 1, 0, 11)
    assert (report.key, report.key_source, report.installation) == (SIGNER.public_key, "file", SIGNER.installation)
    assert (report.kind, report.version, report.remarks) == ("ledger", 4, ())
    with closing(sqlite3.connect(ledger)) as book:
        assert bytes.fromhex(report.head) == book.execute("SELECT hash FROM entries WHERE seq = 23").fetchone()[0]


def test_the_given_key_verifies_what_it_signed(ledger: Path) -> None:
    report = verify(ledger, SIGNER.public_key)
    assert (report.wrong, report.key_source, report.signed_through) == (None, "given", 22)


def test_every_body_is_canonical_by_another_implementation(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as book:
        for (body,) in book.execute("SELECT body FROM entries UNION ALL SELECT body FROM checkpoints"):
            assert rfc8785.dumps(json.loads(body)).decode() == body


FOUND: dict[str, tuple[list[Change], str, str]] = {
    "a count in a plain row": (
        ["UPDATE jobs SET pages = 11 WHERE seq = 4"], "row 4 of jobs", "pages is 11, entry 4 says 12"
    ),
    "a text in a plain row": (
        ["UPDATE logins SET outcome = 'refused' WHERE seq = 3"],
        "row 3 of logins",
        'outcome is "refused", entry 3 says "granted"',
    ),
    "a time of a plain row": (["UPDATE jobs SET at = '2020' WHERE seq = 4"], "row 4 of jobs", "at is 2020"),
    "an id of a plain row": (["UPDATE jobs SET id = 'x' WHERE seq = 5"], "row 5 of jobs", "its id"),
    "a NULL in a plain row": (["UPDATE jobs SET sheets = NULL WHERE seq = 4"], "row 4 of jobs", "sheets is missing"),
    "a plain row of an accounting mark": (
        ["UPDATE accounting SET event = 'stop' WHERE seq = 7"], "row 7 of accounting", "event"
    ),
    "a meter reading": (["UPDATE meters SET value = 4712"], "row 16 of meters", "value is 4712, entry 16 says 4711"),
    "which record was delivered": (["UPDATE deliveries SET record = 5 WHERE seq = 19"], "row 19 of deliveries", "rec"),
    "the id of the delivered record": (
        ["UPDATE deliveries SET record_id = 'x' WHERE seq = 19"], "row 19 of deliveries", "record_id"
    ),
    "a count in a body": ([in_body(4, '"pages":12', '"pages":11')], "entry 4", "it was changed"),
    "a count in a body and in its row": (
        [in_body(4, '"pages":12', '"pages":11'), "UPDATE jobs SET pages = 11 WHERE seq = 4"],
        "entry 4",
        "it was changed",
    ),
    "a hash": (["UPDATE entries SET hash = zeroblob(32) WHERE seq = 5"], "entry 5", "its hash does not fit its body"),
    "a link": (["UPDATE entries SET prev_hash = zeroblob(32) WHERE seq = 5"], "entry 5", "does not link"),
    "an id of an entry": (["UPDATE entries SET id = 'x' WHERE seq = 8"], "row 8 of outage_events", "id"),
    "a kind of an entry": (["UPDATE entries SET kind = 'login' WHERE seq = 4"], "entry 4", "row in logins is missing"),
    "a kind that there is not": (["UPDATE entries SET kind = 'x' WHERE seq = 4"], "entry 4", "no kind"),
    "a time of an entry": (
        ["UPDATE entries SET recorded_at = '2020' WHERE seq = 4", "UPDATE jobs SET at = '2020' WHERE seq = 4"],
        "entry 4",
        'its column recorded_at is "2020"',
    ),
    "a dropped plain row": (["DELETE FROM jobs WHERE seq = 5"], "entry 5", "its row in jobs is missing"),
    "a dropped entry": (["DELETE FROM entries WHERE seq = 5"], "entry 5", "it is missing: entry 6 follows 4"),
    "a dropped entry with all that is its": (
        [f"DELETE FROM {table} WHERE seq = 5" for table in ("entries", "jobs", "personal", "outbox")],
        "entry 5",
        "it is missing",
    ),
    "the first entry": (["DELETE FROM entries WHERE seq = 1"], "entry 1", "it is missing: the first is 2"),
    "two swapped entries": (
        [
            "UPDATE entries SET seq = -4 WHERE seq = 4",
            "UPDATE entries SET seq = 4 WHERE seq = 5",
            "UPDATE entries SET seq = 5 WHERE seq = -4",
        ],
        "entry 4",
        "does not link",
    ),
    "two swapped bodies": (
        [
            "UPDATE entries SET body = (SELECT body FROM entries e WHERE e.seq = 9 - entries.seq) WHERE seq IN (4, 5)",
        ],
        "entry 4",
        "it was changed",
    ),
    "an inserted entry": (
        ["INSERT INTO entries SELECT 0, id, kind, recorded_at, body, prev_hash, hash FROM entries WHERE seq = 4"],
        "entry 0",
        "a number that Locum does not give",
    ),
    "an entry inserted at the end": (
        ["INSERT INTO entries SELECT 24, id, kind, recorded_at, body, hash, hash FROM entries WHERE seq = 23"],
        "entry 24",
        "it was changed",
    ),
    "an inserted plain row of another entry": (
        ["INSERT INTO logouts SELECT 4, id, at, device, session, cause FROM logouts WHERE seq = 11"],
        "row 4 of logouts",
        "it belongs to no entry of that kind",
    ),
    "an inserted plain row after the end": (
        ["INSERT INTO notes SELECT 99, id, at, note, who, data FROM notes WHERE seq = 1"], "row 99 of notes", "no"
    ),
    "a card": (["UPDATE personal SET card = '0000' WHERE seq = 4"], "row 4 of personal", "not what entry 4 is"),
    "bytes of the wire": (["UPDATE personal SET raw = x'00' WHERE seq = 5"], "row 5 of personal", "committed"),
    "a salt": (["UPDATE personal SET salt = zeroblob(32) WHERE seq = 5"], "row 5 of personal", "committed"),
    "personal rows swapped between entries": (
        [
            "UPDATE personal SET seq = -4 WHERE seq = 4",
            "UPDATE personal SET seq = 4 WHERE seq = 5",
            "UPDATE personal SET seq = 5 WHERE seq = -4",
        ],
        "row 4 of personal",
        "committed",
    ),
    "a personal row deleted without a note": (
        ["DELETE FROM personal WHERE seq = 4"], "personal", "the rows of 1 entries are missing, the notes speak of 0"
    ),
    "a personal row where nothing is committed": (
        ["INSERT INTO personal SELECT 8, card, user, document, account, raw, salt FROM personal WHERE seq = 4"],
        "row 8 of personal",
        "entry 8 has no commitment",
    ),
    "the end cut off": (
        [f"DELETE FROM {table} WHERE seq > 19" for table in ("entries", "deliveries", "notes", "logins", "personal")],
        "entry 20",
        "checkpoint 2 signs entry 20, but the entries end with 19: the end was cut off",
    ),
    "a dropped checkpoint": (["DELETE FROM checkpoints WHERE number = 2"], "checkpoint 3", "2 is missing or out"),
    "the first checkpoint": (["DELETE FROM checkpoints WHERE number = 1"], "checkpoint 1", "it is missing"),
    "a checkpoint's hash": (
        ["UPDATE checkpoints SET body = replace(body, '\"hash\":\"', '\"hash\":\"00') WHERE number = 2"],
        "checkpoint 2",
        "makes no sense",
    ),
    "a checkpoint's time": (
        ["UPDATE checkpoints SET body = replace(body, '10:16:13', '10:16:14') WHERE number = 2"],
        "checkpoint 2",
        "its signature does not hold",
    ),
    "a checkpoint's signature": (
        ["UPDATE checkpoints SET signature = zeroblob(64) WHERE number = 3"], "checkpoint 3", "signature does not hold"
    ),
    "a checkpoint's key": (
        [("UPDATE checkpoints SET public_key = ? WHERE number = 3", [THIEF.public_key])],
        "checkpoint 3",
        "signature does not hold",
    ),
    "checkpoints in another order": (
        [
            "UPDATE checkpoints SET number = -1 WHERE number = 1",
            "UPDATE checkpoints SET number = 1 WHERE number = 2",
            "UPDATE checkpoints SET number = 2 WHERE number = -1",
        ],
        "checkpoint 1",
        "it is missing: checkpoint 2 is the first",
    ),
    "a checkpoint twice": (
        ["INSERT INTO checkpoints SELECT 4, seq, body, signature, public_key FROM checkpoints WHERE number = 3"],
        "checkpoint 4",
        "it signs entry 22, which checkpoint 3 signs too",
    ),
    "hashed anew without the key": (
        [in_body(4, '"pages":12', '"pages":11'), "UPDATE jobs SET pages = 11 WHERE seq = 4", hash_anew],
        "entry 18",
        "checkpoint 1 signs another hash: something from entry 1 to 18 was changed and hashed anew",
    ),
    "hashed anew after the first checkpoint": (
        [in_body(19, '"tries":1', '"tries":2'), "UPDATE deliveries SET tries = 2 WHERE seq = 19", hash_anew],
        "entry 20",
        "checkpoint 2 signs another hash: something from entry 19 to 20",
    ),
    "a body that is no canonical JSON": (
        [("UPDATE entries SET body = replace(body, '\"pages\":12', '\"pages\": 12') WHERE seq = 4", ()), hash_anew],
        "entry 4",
        "not in canonical form",
    ),
    "a number written otherwise": ([in_body(4, '"pages":12', '"pages":12.0'), hash_anew], "entry 4", "canonical"),
    "a member twice": ([in_body(4, '"pages":12', '"pages":1,"pages":12'), hash_anew], "entry 4", "canonical"),
    "a body that is no JSON": ([in_body(4, '"pages":12', '"pages":'), hash_anew], "entry 4", "is no JSON"),
    "a body that is no entry's": (
        ["UPDATE entries SET body = '{\"seq\":4}' WHERE seq = 4", hash_anew], "entry 4", "not that of an entry"
    ),
    "a body with another number": ([in_body(4, '"seq":4', '"seq":5'), hash_anew], "entry 4", "its column seq is 4"),
    "an outbox row that is no record's": (["UPDATE outbox SET seq = 3 WHERE seq = 5"], "row 3 of outbox", "no entry"),
    "an outbox row of nothing": (["UPDATE outbox SET seq = 99 WHERE seq = 5"], "row 99 of outbox", "no entry"),
    "a text that is no UTF-8": (
        ["UPDATE jobs SET paper = CAST(x'ff' AS TEXT) WHERE seq = 5"], "the rows of jobs after 4", "a text is no UTF-8"
    ),
}  # fmt: skip


@pytest.mark.parametrize("changes", FOUND.values(), ids=FOUND)
def test_what_was_tampered_with_is_found_and_named(changes: tuple[list[Change], str, str], ledger: Path) -> None:
    made, where, what = changes
    report = verify(tamper(ledger, *made))
    assert report.wrong is not None
    assert report.wrong.where == where
    assert what in report.wrong.what
    assert "\n" not in str(report.wrong)


def test_the_first_of_two_wrong_things_is_named(ledger: Path) -> None:
    tamper(ledger, "UPDATE jobs SET pages = 1 WHERE seq = 5", "UPDATE logins SET reason = 'x' WHERE seq = 3")
    assert verify(ledger).wrong.where == "row 3 of logins"  # type: ignore[union-attr]


def test_a_row_too_many_comes_before_what_is_wrong_later(ledger: Path) -> None:
    tamper(
        ledger,
        "INSERT INTO drills SELECT 4, id, at, device, did, until, reason, who FROM drills WHERE seq = 15",
        "UPDATE entries SET hash = zeroblob(32) WHERE seq = 9",
    )
    assert verify(ledger).wrong.where == "row 4 of drills"  # type: ignore[union-attr]


def test_signed_anew_with_another_key_is_found_with_the_key_that_was_written_down(ledger: Path) -> None:
    tamper(
        ledger,
        in_body(4, '"pages":12', '"pages":11'),
        "UPDATE jobs SET pages = 11 WHERE seq = 4",
        take_over(SIGNER, THIEF),
    )
    alone = verify(ledger)
    assert alone.wrong is None
    assert alone.installation == THIEF.installation  # shown, so that a person can compare it
    wrong = verify(ledger, SIGNER.public_key).wrong
    assert wrong is not None
    assert installation_of(THIEF.public_key) in wrong.what
    assert "not the given one" in wrong.what


def test_signed_anew_with_a_key_that_the_chain_does_not_know_is_found_without_any_key(ledger: Path) -> None:
    tamper(ledger, in_body(21, "outbox retry", "outbox drop"), "DELETE FROM notes WHERE seq = 21", hash_anew)
    tamper(ledger, sign_anew(THIEF))
    assert str(verify(ledger).wrong).startswith("checkpoint 1: it is signed by another key")


def test_a_replaced_file_is_found_with_the_given_key(tmp_path: Path) -> None:
    other = make(tmp_path / "other.db", THIEF)
    assert verify(other).ok
    wrong = verify(other, SIGNER.public_key).wrong
    assert wrong is not None
    assert (wrong.where, THIEF.installation in wrong.what) == ("checkpoint 3", True)


def test_a_cut_end_without_its_checkpoints_is_seen_by_what_is_signed_only(ledger: Path) -> None:
    tables = ("checkpoints", "entries", "notes", "logins", "personal")
    tamper(ledger, *(f"DELETE FROM {table} WHERE seq > 20" for table in tables))
    report = verify(ledger)
    assert report.ok  # a witness is needed: test_storage_verify_witness.py
    assert (report.last, report.signed_through) == (20, 20)


@pytest.mark.parametrize(
    "guard", ["entries_no_update", "jobs_no_delete", "checkpoints_no_update", "personal_no_update"]
)
def test_a_guard_that_is_gone_is_wrong(guard: str, ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as book:
        book.execute(f"DROP TRIGGER {guard}")
    assert str(verify(ledger).wrong) == f"the file: the guard {guard}, which refuses changes, was removed"


def test_a_guard_that_guards_no_more_is_wrong(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as book:
        book.execute("DROP TRIGGER jobs_no_update")
        book.execute("CREATE TRIGGER jobs_no_update BEFORE UPDATE ON jobs WHEN 0 BEGIN SELECT 1; END")
    assert "jobs_no_update, which refuses changes, was altered" in str(verify(ledger).wrong)


@pytest.mark.parametrize("table", ["jobs", "personal", "outbox", "devices"])
def test_a_strange_trigger_is_wrong(table: str, ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as book:
        book.execute(f"CREATE TRIGGER mirror AFTER INSERT ON {table} BEGIN SELECT 1; END")
    said = "the file: the trigger mirror is not Locum's: it may change or hide what is written"
    assert str(verify(ledger).wrong) == said


def test_a_trigger_that_an_auditor_adds_to_an_export_is_only_told(ledger: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(ledger)) as book:
        copies.mark(book, {"kind": "export", "plain": "whole", "personal": "whole"})
        book.execute("CREATE TRIGGER mirror AFTER INSERT ON jobs BEGIN SELECT 1; END")
        book.commit()
    report = verify(ledger)
    assert report.wrong is None
    assert report.remarks[-1] == "the trigger mirror is not Locum's"


def test_a_trigger_that_counts_the_outbox_wrong_is_wrong(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as book:
        book.execute("DROP TRIGGER outbox_out")
    assert str(verify(ledger).wrong) == "the file: the trigger outbox_out, which counts the outbox, was removed"
    with closing(sqlite3.connect(ledger)) as book:
        book.execute("CREATE TRIGGER outbox_out AFTER DELETE ON outbox BEGIN SELECT 1; END")
    assert str(verify(ledger).wrong) == "the file: the trigger outbox_out, which counts the outbox, was altered"


def dropped(table: str) -> Callable[[sqlite3.Connection], None]:
    def change(book: sqlite3.Connection) -> None:
        book.execute(f"ALTER TABLE {table} RENAME TO away")

    return change


@pytest.mark.parametrize("table", ["entries", "jobs", "personal", "checkpoints"])
def test_a_table_of_evidence_that_is_gone_is_wrong(table: str, ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as book:
        book.execute("PRAGMA legacy_alter_table = 1")
        for (name,) in book.execute("SELECT name FROM sqlite_schema WHERE type IN ('view', 'trigger')").fetchall():
            kind = book.execute("SELECT type FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0]
            book.execute(f"DROP {kind} {name}")
        dropped(table)(book)
        book.commit()
    assert str(verify(ledger).wrong) == f"the file: the table {table} is missing"
    with closing(sqlite3.connect(ledger)) as book:
        book.execute(f"CREATE VIEW {table} AS SELECT * FROM away")
    assert str(verify(ledger).wrong) == f"the file: the table {table} is not as schema 4 makes it"


def written(path: Path, signer: Signer, *batches: list[Keepable]) -> Path:
    book = Ledger.open(path, NOW, signer)
    for batch in batches:
        book.commit(batch)
    book.close()
    return path


def test_personal_data_that_was_erased_and_noted_is_no_fault(tmp_path: Path) -> None:
    note = Note(NOW, "erased", {"what": "card", "entries": 2, "reason": "asked for"}, "root (0)")
    path = written(tmp_path / "ledger.db", SIGNER, [job(1), job(2), login()], [note])
    wrong = verify(path).wrong
    assert wrong is not None
    assert (
        "the rows of 0 entries are missing, the notes speak of 2: rows that had been erased were put back" in wrong.what
    )
    tamper(path, "DELETE FROM personal WHERE seq IN (1, 2)")
    report = verify(path)
    assert (report.wrong, report.erased, report.personal) == (None, 2, 1)
    tamper(path, "DELETE FROM personal WHERE seq = 3")
    assert "the rows of 3 entries are missing, the notes speak of 2" in str(verify(path).wrong)


def test_a_key_that_a_note_introduces_may_take_over_and_the_newest_must_be_the_given_one(tmp_path: Path) -> None:
    path = written(tmp_path / "ledger.db", SIGNER, [key_note(SIGNER), login(), Sign(NOW)])
    written(path, THIEF, [key_note(THIEF), job(1), Sign(NOW)])
    report = verify(path)
    assert (report.wrong, report.signed_through, report.installation) == (None, 4, THIEF.installation)
    assert f"introduces {THIEF.installation} by entry 3" in report.remarks[0]
    assert verify(path, THIEF.public_key).signed_through == 4
    assert verify(path, [SIGNER.public_key, THIEF.public_key]).ok
    old = verify(path, SIGNER.public_key)
    assert (str(old.wrong).partition(":")[0], old.signed_through) == ("checkpoint 2", 2)
    assert "entry 3 introduces that key: if the appliance was replaced, give it too" in str(old.wrong)


def test_a_key_that_nothing_introduces_is_wrong(tmp_path: Path) -> None:
    path = written(tmp_path / "ledger.db", SIGNER, [key_note(SIGNER), login(), Sign(NOW)])
    written(path, THIEF, [job(1), Sign(NOW)])
    wrong = verify(path).wrong
    assert str(wrong) == (f"checkpoint 2: it is signed by another key, {THIEF.installation}, which no entry introduces")


def test_a_thousand_entries_without_a_signature_are_wrong(tmp_path: Path) -> None:
    logins: list[Keepable] = [login() for _ in range(1_500)]
    path = written(tmp_path / "ledger.db", SIGNER, [key_note(SIGNER)], logins, logins)
    report = verify(path)
    assert (report.wrong, report.checkpoints, report.unsigned) == (None, 3, 1)
    tamper(path, "DELETE FROM checkpoints WHERE number > 1")
    assert verify(path).wrong.where == "checkpoint 2"  # type: ignore[union-attr]
    tamper(path, "DELETE FROM checkpoints")
    wrong = verify(path).wrong
    assert str(wrong).startswith("checkpoint 1: it is missing: the entries after 1 are not signed, though every 1,000")


def test_a_ledger_without_a_key_verifies_and_is_told_to_be_unsigned(tmp_path: Path) -> None:
    book = Ledger.open(tmp_path / "ledger.db", NOW)
    book.commit([login() for _ in range(1_000)])
    report = verify(tmp_path / "ledger.db")
    assert (report.wrong, report.key, report.unsigned, report.checkpoints) == (None, None, 1_000, 0)
    assert "nothing in it is signed" in str(verify(tmp_path / "ledger.db", SIGNER.public_key).wrong)
    book.commit([login()])
    book.close()
    assert "checkpoints were removed, or somebody wrote it without a key" in str(verify(tmp_path / "ledger.db").wrong)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"kind": "ledger", "plain": "filtered", "personal": "none"}, "something that Locum does not make"),
        ({"kind": "banana"}, "something that Locum does not make"),
        ({"kind": "backup", "plain": "filtered"}, "a backup with something left out"),
        ({"kind": "backup", "personal": "none"}, "a backup with something left out"),
        ({"kind": "archive", "pseudonymised": "1"}, "a archive with something left out"),
        ({"kind": "backup", "erased": "1"}, "what only an archive says"),
        ({"kind": "archive", "through": "99"}, "it says that it ends with entry 99"),
    ],
)
def test_a_file_cannot_switch_off_its_own_checks(tmp_path: Path, said: dict[str, str], words: str) -> None:
    path = tmp_path / "ledger.db"
    book = Ledger.open(path, NOW, SIGNER)
    book.commit([login(), job(1), Sign(NOW)])
    book.close()
    assert verify(path).ok
    with closing(sqlite3.connect(path)) as connection:
        copies.mark(connection, said)
        connection.commit()
    assert words in str(verify(path).wrong)


@pytest.mark.parametrize("change", ["CREATE VIEW outages AS SELECT * FROM outage_events WHERE 0", ""])
def test_a_view_that_no_longer_answers_what_it_says_is_found(tmp_path: Path, change: str) -> None:
    path = tmp_path / "ledger.db"
    book = Ledger.open(path, NOW, SIGNER)
    book.commit([login(), Sign(NOW)])
    book.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP VIEW outages")
        connection.execute(change or "SELECT 1")
    assert "the view outages was" in str(verify(path).wrong)


def test_an_unsigned_end_of_many_hours_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    book = Ledger.open(path, NOW, SIGNER)
    book.commit([login(), Sign(NOW), login(at=NOW + 1), login(at=NOW + 60_000)])
    assert verify(path).remarks == ()
    book.commit([login(at=NOW + 7 * 3_600_000)])
    book.close()
    report = verify(path)
    assert report.ok
    assert "the entries from 2 on are not signed, though they are of more than 15 minutes" in report.remarks[0]


def test_what_lies_before_a_stretch_that_was_hashed_anew_is_all_that_counts_as_sound(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    book = Ledger.open(path, NOW, SIGNER)
    book.commit([login(), login(), Sign(NOW), login(), login(), Sign(NOW)])
    book.close()
    in_both = [
        "UPDATE entries SET body = replace(body, 'granted', 'refused') WHERE seq = 3",
        "UPDATE logins SET outcome = 'refused' WHERE seq = 3",
    ]
    tamper(path, *in_both, hash_anew)
    report = verify(path)
    assert "something from entry 3 to 4 was changed" in str(report.wrong)
    assert report.entries == 2


def test_progress_is_told(tmp_path: Path) -> None:
    book = Ledger.open(tmp_path / "ledger.db", NOW)
    book.commit([login() for _ in range(4_100)])
    book.close()
    heard: list[tuple[int, int]] = []
    verify(tmp_path / "ledger.db", progress=lambda done, of: heard.append((done, of)))
    assert heard == [(2_000, 4_100), (4_000, 4_100)]


def test_the_checkpoints_of_the_sample_sign_what_is_said_here(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as book:
        assert tuple(seq for (seq,) in book.execute("SELECT seq FROM checkpoints ORDER BY number")) == SIGNED
        assert book.execute("SELECT prev_hash FROM entries WHERE seq = 1").fetchone()[0] == proof.GENESIS
