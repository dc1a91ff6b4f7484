"""A damaged ledger loses no waiting record: the outbox is built anew from the records and their deliveries."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storage import keeping, rebuilding
from storage.ledger import Ledger
from storage.records import (
    Counts,
    Delivery,
    Drop,
    Mode,
    OutboxState,
    Personal,
    Remember,
    Resolve,
    Retry,
    Sign,
    Take,
)
from storage.signing import Signer
from storage.verify import verify
from tests.unit.storage_samples import NOW, job, mark

SIGNER = Signer.new()
WAITING, REJECTED, IN_DOUBT = OutboxState.WAITING, OutboxState.REJECTED, OutboxState.IN_DOUBT
COLUMNS = "seq, upstream, state, dialect, device, mode, at, tries, reason, corrections"


def tried(seq: int, outcome: str, state: OutboxState | None, upstream: str = "hq", tries: int = 1) -> Delivery:
    return Delivery(NOW + seq, seq, upstream, outcome, state, tries, f"words of {seq}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Records in every state for a RADIUS server `hq` and a PaperCut server `pc`; see `STATES`."""
    made = tmp_path / "ledger.db"
    ledger = Ledger.open(made, NOW, SIGNER)
    paper = Personal(card="04a2b3", user="Ada", raw=b"\x04")
    ledger.commit(
        [
            *(job(number, order_key=f"KM-A4F-000123|s{number}") for number in range(1, 9)),
            job(9, upstream="pc", order_key="user|ada", personal=paper),
            job(10, upstream="pc", order_key="user|ada", personal=paper),
            mark("start", key="11", upstream="pc", outbox=None),
            mark("start", key="12", upstream="pc", outbox=None),
            job(13, upstream="pc", order_key="card|04A2B3"),
        ]
    )
    ledger.commit(
        [
            tried(1, "delivered", None),
            tried(2, "unanswered", WAITING, tries=3),
            tried(3, "refused", REJECTED, tries=2),
            tried(4, "refused", REJECTED, tries=2),
            tried(9, "unknown", IN_DOUBT, "pc"),
            tried(10, "unknown", IN_DOUBT, "pc"),
            tried(11, "not-forwardable", None, "pc", 0),
            Remember("claim:pc", "[]"),
        ]
    )
    ledger.commit([Retry(NOW, (4,), "ada", (("user", "grace"), ("printer", "p1")))])
    ledger.commit([Take(NOW, "hq", (4, 5), mark=True), Drop(NOW, 6, "test", "ada")])
    ledger.commit([Resolve(NOW, 10, "resend", "ada")])
    ledger.commit([Sign(NOW)])
    ledger.close()
    return made


STATES = {
    2: "waiting",
    3: "rejected",
    4: "sent",
    5: "sent",
    7: "waiting",
    8: "waiting",
    9: "in_doubt",
    10: "waiting",
    13: "waiting",
}
AFTERWARDS = {seq: "sent" if state == "waiting" else state for seq, state in STATES.items()}
"""Nobody knows whether what waited was on its way. Entry 12 never was, and is of a sort that PaperCut does not take."""


def rows(path: Path, columns: str = COLUMNS) -> dict[int, tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as other:
        return {row[0]: row[1:] for row in other.execute(f"SELECT {columns} FROM outbox ORDER BY seq")}


def root_of(path: Path, table: str) -> int:
    """The first page of a table, counted from 0."""
    with closing(sqlite3.connect(path)) as other:
        return int(other.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]) - 1


def damage(path: Path, *tables: str) -> None:
    pages = [root_of(path, table) for table in tables]
    content = bytearray(path.read_bytes())
    for page in pages:
        content[page * 4096 : (page + 1) * 4096] = random.Random(page).randbytes(4096)
    path.write_bytes(content)


def states(path: Path) -> dict[int, str]:
    return {seq: str(state) for seq, (state,) in rows(path, "seq, state").items()}


def wrong(path: Path) -> dict[str, str]:
    return {each.what: each.words for each in keeping.check(path) if each.wrong}


def test_every_outstanding_record_is_in_the_outbox_again(path: Path) -> None:
    before = rows(path)
    assert states(path) == STATES
    damage(path, "outbox")
    (done,) = keeping.repair(path, NOW)
    assert not done.lost
    assert "; 9 records put back into the outbox, and counted as sent until the next start, " in done.words
    assert states(path) == AFTERWARDS
    after = rows(path)
    for seq, (upstream, _, dialect, device, mode, at, tries, reason, corrections) in before.items():
        assert after[seq][0] == upstream
        assert after[seq][2:6] == (dialect, device, mode, at)
        assert (seq, after[seq][6], after[seq][8]) == (seq, tries, corrections)
        assert seq in (4, 10) or reason == after[seq][7]  # of the last try, before somebody let them go again
    assert wrong(path) == {}
    assert verify(path).wrong is None


def test_the_next_start_settles_them_as_what_a_power_cut_finds_on_its_way(path: Path) -> None:
    damage(path, "outbox")
    ledger = Ledger.open(path, NOW, SIGNER)
    assert [text.partition("(")[0] for text in ledger.words] == ["the ledger was damaged "]
    ledger.settle_sent(NOW, ["pc"])
    ledger.close(NOW)
    settled = {2: "waiting", 4: "waiting", 5: "waiting", 7: "waiting", 8: "waiting", 10: "in_doubt", 13: "in_doubt"}
    assert states(path) == {**STATES, **settled}
    with closing(sqlite3.connect(path)) as other:
        named = [seq for (seq,) in other.execute("SELECT seq FROM maybe_forwarded_twice ORDER BY seq")]
    assert set(settled) <= set(named)
    assert 3 not in named
    assert verify(path).wrong is None


def test_records_stay_in_order_as_their_server_wants_it(path: Path) -> None:
    damage(path, "outbox")
    keeping.repair(path, NOW)
    keys = {seq: key for seq, (key,) in rows(path, "seq, order_key").items()}
    assert keys[7] == "KM-A4F-000123|s7"
    assert (keys[9], keys[10], keys[13]) == ("user|ada", "user|ada", "card|04A2B3")


def test_a_delivery_whose_plain_row_is_lost_too_is_read_from_its_entry(path: Path) -> None:
    damage(path, "outbox", "deliveries", "jobs", "notes")
    (done,) = keeping.repair(path, NOW)
    assert "written anew from the entries: 11 rows of jobs, 9 rows of deliveries, 1 rows of notes" in done.words
    assert states(path) == AFTERWARDS
    assert wrong(path) == {}
    assert verify(path).wrong is None


def test_lost_deliveries_bring_nothing_back_where_the_outbox_is_whole(path: Path) -> None:
    damage(path, "deliveries")
    keeping.repair(path, NOW)
    assert states(path) == STATES


def test_rows_to_which_damage_gave_another_number_are_put_right(path: Path) -> None:
    """As pages tell it that SQLite still reads: one row stands for a delivered record, another for no record."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE outbox SET seq = 1 WHERE seq = 7")
        other.execute("UPDATE outbox SET seq = 900 WHERE seq = 8")
    damage(path, "quarantine")
    _, lost = keeping.repair(path, NOW)
    assert lost.words.endswith(": 900")
    assert states(path) == {**STATES, 7: "sent", 8: "sent"}
    assert verify(path).wrong is None


def test_a_row_that_damage_hides_is_missed_by_the_counts(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DROP TRIGGER outbox_out")
        other.execute("DELETE FROM outbox WHERE seq = 8")
    damage(path, "quarantine")
    (done,) = keeping.repair(path, NOW)
    assert "; 1 record put back" in done.words
    assert states(path) == {**STATES, 8: "sent"}


def test_an_entry_that_is_no_text_any_more_stops_neither_check_nor_start(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DROP TRIGGER entries_no_update")
        other.execute("UPDATE entries SET body = CAST(x'7bff7d' AS TEXT) WHERE seq = 20")
    assert wrong(path)["chain"] == "entry 20 was changed, or what follows it"
    ledger = Ledger.open(path, NOW, SIGNER)
    assert "entry 20 does not fit its hash" in ledger.words[0]
    ledger.close(NOW)


def test_a_record_of_a_capture_is_named_and_left_to_a_person(path: Path) -> None:
    ledger = Ledger.open(path, NOW, SIGNER)
    ledger.commit([job(50, mode=Mode.RECOVERED)])
    seq = ledger.head[0]
    ledger.close(NOW)
    damage(path, "outbox")
    _, lost = keeping.repair(path, NOW)
    assert lost.lost
    assert lost.words.startswith("1 record from a capture may have waited")
    assert lost.words.endswith(f": {seq}")
    assert seq not in states(path)


def test_corrections_that_are_gone_are_named(path: Path) -> None:
    damage(path, "outbox", "personal")
    done = keeping.repair(path, NOW)
    lost = [each.words for each in done if each.lost]
    assert any(words.startswith("1 record in the outbox had corrections that cannot be read") for words in lost)
    assert any("9 records in the outbox lost card, user, document and the device's own" in words for words in lost)
    assert rows(path, "seq, corrections")[4] == ('{"printer":"p1"}',)


def test_after_many_were_let_go_at_once_a_refused_one_counts_as_sent(path: Path, tmp_path: Path) -> None:
    """The note names a thousand of them."""
    many = tmp_path / "many.db"
    ledger = Ledger.open(many, NOW)
    ledger.commit([job(number) for number in range(1, 1_102)])
    ledger.commit([tried(seq, "refused", REJECTED) for seq in range(1, 1_102)])
    ledger.commit([Retry(NOW, (), "ada")])
    ledger.commit([tried(1_101, "refused", REJECTED)])
    ledger.close()
    damage(many, "outbox")
    keeping.repair(many, NOW)
    found = states(many)
    assert len(found) == 1_101
    assert found.pop(1_101) == "rejected"
    assert set(found.values()) == {"sent"}


def test_a_note_that_damage_has_altered_stops_no_recovery(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DROP TRIGGER notes_no_update")
        other.execute("UPDATE notes SET data = 'no JSON'")
    damage(path, "outbox")
    keeping.repair(path, NOW)
    assert states(path) == {**AFTERWARDS, 4: "rejected"}


@pytest.mark.parametrize("part", [0.35, 0.5, 0.8])
def test_after_a_file_was_cut_short_each_record_waits_or_is_named(tmp_path: Path, part: float) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(path, NOW, SIGNER)
    for start in range(0, 400, 20):
        ledger.commit([job(number) for number in range(start, start + 20)])
    ledger.commit([tried(seq, "delivered", None) for seq in range(1, 101)])
    ledger.close(NOW)
    os.truncate(path, int(path.stat().st_size * part) // 4096 * 4096)
    done = keeping.repair(path, NOW)
    assert done[0].words.startswith("the ledger was damaged (")
    named = named_in(each.words for each in done if each.lost)
    with closing(sqlite3.connect(path)) as other:
        delivered = {seq for (seq,) in other.execute("SELECT record FROM deliveries WHERE state IS NULL")}
        entries = {seq for (seq,) in other.execute("SELECT seq FROM entries")}
    found = states(path)
    assert set(found) <= entries
    assert set(range(1, 401)) - delivered - named <= set(found)
    assert "outbox" not in wrong(path)
    assert keeping.repair(path, NOW) == []


def named_in(lines: Iterable[str]) -> set[int]:
    """The numbers that lines end with."""
    found: set[int] = set()
    for line in lines:
        for stretch in line.rpartition(": ")[2].split(", "):
            low, _, high = stretch.partition(" to ")
            found.update(range(int(low), int(high or low) + 1))
    return found


def test_many_numbers_are_named_as_stretches() -> None:
    assert rebuilding.stretches([3, 4, 5, 9, 11, 12]) == "3 to 5, 9, 11 to 12"
    assert rebuilding.stretches(range(0, 200, 2)).endswith("76, 78 and 60 more")
    assert rebuilding.stretches([]) == ""


def test_what_a_server_does_not_take_does_not_come_back(path: Path) -> None:
    """A scan is no job for PaperCut; that this one was never noted as such is a power cut's doing."""
    ledger = Ledger.open(path, NOW, SIGNER)
    nothing = Counts("scan", 0)
    ledger.commit([replace(job(60 + n, upstream="pc"), counts=nothing, outbox=None) for n in range(2)])
    head = ledger.head[0]
    ledger.commit([tried(head - 1, "not-forwardable", None, "pc", 0)])
    ledger.close(NOW)
    damage(path, "outbox")
    keeping.repair(path, NOW)
    assert states(path) == AFTERWARDS
