"""The ledger's writer: what is kept, what comes back, and that one bad value costs itself only."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage import database, entries, proof
from storage.answers import Changed, Repeat, Stored, Taken
from storage.errors import CannotStore, NotStorable
from storage.ledger import Ledger
from storage.records import (
    AppLogLine,
    Delivery,
    DeviceSeen,
    DrillStep,
    Drop,
    Logout,
    MeterReading,
    Note,
    OutboxState,
    Personal,
    Quarantined,
    Remember,
    Retry,
    Take,
    Trap,
    TrapForwarded,
    UnlockStep,
)
from tests.unit.storage_samples import NOW, job, login, mark, offline_login, step


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(path, NOW)
    yield opened
    opened.close()


def ask(path: Path, query: str, *given: Any) -> list[tuple[Any, ...]]:
    with database.reading(path) as reader:
        return reader.execute(query, given).fetchall()


def stored(result: object) -> Stored:
    assert isinstance(result, Stored), result
    return result


def outbox_of(path: Path) -> list[tuple[Any, ...]]:
    return ask(path, "SELECT seq, state, tries FROM outbox ORDER BY seq")


ONE_OF_EACH = [
    job(1),
    mark("start", key="start"),
    login(),
    offline_login("ab" * 16),
    Logout(NOW, "KM-A4F-000123", "ab" * 16, "stop"),
    step("failed", "grace"),
    Delivery(NOW, 1, "hq", "delivered", None, 1, user="ada"),
    AppLogLine(NOW, "warning", "the server is away", {"upstream": "hq", "count": 3}),
    Quarantined(NOW, "radius", "KM-A4F-000123", "10.7.0.31", "an attribute overruns", b"\x00\xff"),
    Note(NOW, "start", {"version": "0.1"}),
    UnlockStep(NOW, "KM-A4F-000123", "hq", "unlocked", "once"),
    DrillStep(NOW, "*", "start", NOW + 1_800_000, "a test", "root"),
    MeterReading(NOW, "copier-1", "total", 1200, NOW - 60_000, who="root"),
    Trap(NOW, "copier-1", "10.7.0.31", "2c", "inform", b"0 octets"),
    TrapForwarded(NOW, 14, "acknowledged"),
    Remember("proven/hq", "yes"),
    DeviceSeen(NOW, "KM-A4F-000123", "10.7.0.31", "radius", "hq"),
]


def test_a_batch_is_answered_in_order_and_numbered_without_gaps(ledger: Ledger) -> None:
    outcomes = ledger.commit(ONE_OF_EACH)
    assert [stored(outcome).seq for outcome in outcomes] == [*range(1, 16), 0, 0]
    assert ledger.head[0] == 15


def test_every_entry_has_the_plain_row_of_its_kind(ledger: Ledger, path: Path) -> None:
    ledger.commit(ONE_OF_EACH)
    tables = [plain.table for plain in entries.PLAIN]
    rows = {table: ask(path, f"SELECT seq, id, at FROM {table}") for table in tables}
    assert {table: [row[0] for row in found] for table, found in rows.items()} == {
        "jobs": [1],
        "accounting": [2],
        "logins": [3, 4],
        "logouts": [5],
        "outage_events": [6],
        "deliveries": [7],
        "app_log": [8],
        "quarantine": [9],
        "notes": [10],
        "unlocks": [11],
        "drills": [12],
        "meters": [13],
        "traps": [14],
        "trap_forwards": [15],
    }
    known = {seq: (identifier, at) for seq, identifier, at in ask(path, "SELECT seq, id, recorded_at FROM entries")}
    assert all(known[seq] == (identifier, at) for found in rows.values() for seq, identifier, at in found)


def test_a_plain_row_says_what_its_entry_says(ledger: Ledger, path: Path) -> None:
    ledger.commit(ONE_OF_EACH)
    with database.reading(path) as reader:
        reader.row_factory = sqlite3.Row
        row = dict(reader.execute("SELECT * FROM jobs").fetchone())
        body = json.loads(reader.execute("SELECT body FROM entries WHERE seq = 1").fetchone()[0])
    for name in ("seq", "id"):
        assert row.pop(name) == body[name]
    assert row.pop("at") == body["recorded_at"] == "2026-11-22T10:15:03.120Z"
    commitment = body["data"].pop("personal")
    assert row == body["data"]
    assert len(commitment) == 64


def test_personal_data_stands_apart_and_the_body_commits_to_it(ledger: Ledger, path: Path) -> None:
    ledger.commit([job(1)])
    body = ask(path, "SELECT body FROM entries")[0][0]
    assert "04A2B3" not in body
    assert "Leaflet" not in body
    card, user, document, account, raw, salt = ask(
        path, "SELECT card, user, document, account, raw, salt FROM personal"
    )[0]
    assert json.loads(body)["data"]["personal"] == proof.commitment(salt, Personal(card, user, document, account, raw))


def test_the_chain_holds_when_personal_data_is_erased(ledger: Ledger, path: Path) -> None:
    ledger.commit([job(number) for number in range(5)])
    with sqlite3.connect(path) as other:
        other.execute("DELETE FROM personal")
    assert ask(path, "SELECT count(*) FROM personal") == [(0,)]
    with database.reading(path) as reader:
        assert proof.walk(reader) == proof.ChainReport(5, True, None)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE entries SET body = replace(body, '12', '13') WHERE seq = 3", "entry 3 was changed"),
        ("DELETE FROM entries WHERE seq = 2", "entry 2 is missing"),
        ("UPDATE entries SET prev_hash = zeroblob(32) WHERE seq = 4", "entry 4 does not link"),
        ("UPDATE entries SET seq = 9 - seq WHERE seq IN (5)", "entry 4 was changed"),
    ],
)
def test_the_walk_names_the_first_entry_that_was_tampered_with(
    ledger: Ledger, path: Path, statement: str, says: str
) -> None:
    ledger.commit([job(number) for number in range(5)])
    with sqlite3.connect(path) as other:
        for name in ("entries_no_update", "entries_no_delete"):
            other.execute(f"DROP TRIGGER {name}")
        if "9 - seq" in statement:
            other.execute("UPDATE entries SET body = replace(body, '12', '13') WHERE seq = 4")
        else:
            other.execute(statement)
    with database.reading(path) as reader:
        report = proof.walk(reader)
    assert not report.ok
    assert report.first_bad is not None
    assert says in report.first_bad


def test_evidence_cannot_be_changed_by_a_slip_of_the_hand(ledger: Ledger, path: Path) -> None:
    ledger.commit([job(1)])
    with sqlite3.connect(path) as other:
        for statement in ("UPDATE jobs SET pages = 1", "DELETE FROM jobs", "UPDATE personal SET card = ''"):
            with pytest.raises(sqlite3.IntegrityError, match="written once"):
                other.execute(statement)


def test_a_poisonous_value_costs_only_itself(ledger: Ledger, path: Path) -> None:
    bad_time = job(2, at=10**20)
    bad_type = job(3, counts="twelve")  # type: ignore[arg-type]
    only_sqlite_notices = DeviceSeen(NOW, {}, "10.7.0.31", "radius", "hq")  # type: ignore[arg-type]
    bad_scope = job(6, repeat_scope=7)
    outcomes = ledger.commit([job(1), bad_time, bad_type, only_sqlite_notices, bad_scope, job(4)])
    assert [type(outcome) for outcome in outcomes] == [
        Stored,
        NotStorable,
        NotStorable,
        NotStorable,
        NotStorable,
        Stored,
    ]
    assert [stored(outcomes[place]).seq for place in (0, 5)] == [1, 2]
    assert ask(path, "SELECT job_number FROM jobs ORDER BY seq") == [("1",), ("4",)]
    with database.reading(path) as reader:
        assert proof.walk(reader).ok
    assert stored(ledger.commit([job(5)])[0]).seq == 3


def test_what_only_sqlite_refuses_leaves_no_trace_of_itself(ledger: Ledger, path: Path) -> None:
    odd = job(2, device=7)
    outcomes = ledger.commit([job(1), odd, job(3)])
    assert [type(outcome) for outcome in outcomes] in ([Stored, NotStorable, Stored], [Stored, Stored, Stored])
    assert ask(path, "SELECT count(*) FROM entries")[0][0] == sum(isinstance(outcome, Stored) for outcome in outcomes)


def test_lone_surrogates_and_nuls_are_replaced_and_the_raw_bytes_keep_the_truth(ledger: Ledger, path: Path) -> None:
    odd = "a\ud800b\0c\U0001f600"
    personal = Personal(card=odd, document=odd, raw=b"a\x00b")
    item = job(1, device=odd, session=odd, order_key=odd, repeat_scope=odd, personal=personal)
    stored(ledger.commit([item])[0])
    told = login(odd, device=odd)
    line = AppLogLine(NOW, "info", odd, {"x": odd})
    ledger.commit([told, line, Quarantined(NOW, odd, odd, odd, odd, b""), Note(NOW, odd, {"x": odd}, odd)])
    ledger.commit(
        [
            Remember(odd, odd),
            DeviceSeen(NOW, odd, odd, odd, odd),
            Delivery(NOW, 1, odd, "refused", OutboxState.REJECTED, 1, odd),
        ]
    )
    cleaned = "a\ufffdb\ufffdc\U0001f600"
    assert ask(path, "SELECT device, session FROM jobs") == [(cleaned, cleaned)]
    assert ask(path, "SELECT card, document, raw FROM personal WHERE seq = 1") == [(cleaned, cleaned, b"a\x00b")]
    assert ask(path, "SELECT order_key, reason FROM outbox") == [(cleaned, cleaned)]
    assert ask(path, "SELECT card FROM cards") == [(cleaned.upper(),)]
    with database.reading(path) as reader:
        assert proof.walk(reader).ok


def test_a_record_enters_the_outbox_waiting_sent_or_not_at_all(ledger: Ledger, path: Path) -> None:
    ledger.commit([job(1), job(2, outbox=OutboxState.SENT), job(3, outbox=None)])
    assert ask(path, "SELECT seq, state, first_try FROM outbox ORDER BY seq") == [
        (1, "waiting", None),
        (2, "sent", "2026-11-22T10:15:03.120Z"),
    ]


def test_take_hands_out_what_still_waits_in_order_with_its_bytes(ledger: Ledger, path: Path) -> None:
    ids = [stored(outcome).id for outcome in ledger.commit([job(1), job(2), job(3, upstream="other")])]
    taken = ledger.commit([Take(NOW + 5, "hq", (3, 2, 1, 99))])[0]
    assert isinstance(taken, Taken)
    assert [(item.seq, item.id, item.first_try, item.tries) for item in taken.items] == [
        (1, ids[0], 0, 0),
        (2, ids[1], 0, 0),
    ]
    assert taken.items[1].raw == job(2).personal.raw
    assert (taken.items[1].at, taken.items[1].order_key) == (NOW, "KM-A4F-000123/s2")
    assert outbox_of(path) == [(1, "sent", 0), (2, "sent", 0), (3, "waiting", 0)]
    ledger.commit([Delivery(NOW, 1, "hq", "delivered", None, 1)])
    again = ledger.commit([Take(NOW + 6, "hq", (1, 2))])[0]
    assert isinstance(again, Taken)
    assert [item.seq for item in again.items] == [2]


def test_the_first_try_stays_the_first(ledger: Ledger) -> None:
    ledger.commit([job(1)])
    ledger.commit([Take(NOW + 5, "hq", (1,)), Delivery(NOW + 6, 1, "hq", "unanswered", OutboxState.WAITING, 1)])
    taken = ledger.commit([Take(NOW + 9, "hq", (1,))])[0]
    assert isinstance(taken, Taken)
    assert (taken.items[0].first_try, taken.items[0].tries) == (NOW + 5, 1)


def test_a_delivery_ends_or_moves_the_record_and_says_which_record_it_was(ledger: Ledger, path: Path) -> None:
    ids = [stored(outcome).id for outcome in ledger.commit([job(1), job(2)])]
    ledger.commit(
        [
            Delivery(NOW + 1, 1, "hq", "delivered", None, 1),
            Delivery(NOW + 2, 2, "hq", "refused", OutboxState.REJECTED, 3, "no such user", next_try=NOW + 9),
        ]
    )
    assert outbox_of(path) == [(2, "rejected", 3)]
    assert ask(path, "SELECT record, record_id, outcome, state, tries, maybe_twice FROM deliveries") == [
        (1, ids[0], "delivered", None, 1, 0),
        (2, ids[1], "refused", "rejected", 3, 0),
    ]


def test_deliveries_of_one_batch_count_in_their_order(ledger: Ledger, path: Path) -> None:
    ledger.commit([job(1)])
    ledger.commit(
        [
            Delivery(NOW, 1, "hq", "unanswered", OutboxState.WAITING, 1),
            Delivery(NOW, 1, "hq", "delivered", None, 1),
            Delivery(NOW, 1, "hq", "unanswered", OutboxState.WAITING, 2),
        ]
    )
    assert outbox_of(path) == []


def test_a_late_answer_is_written_when_the_record_has_left_already(ledger: Ledger, path: Path) -> None:
    ledger.commit([job(1)])
    ledger.commit([Delivery(NOW, 1, "hq", "delivered", None, 1)])
    ledger.commit([Delivery(NOW + 1, 1, "hq", "delivered", None, 1, maybe_twice=True)])
    assert ask(path, "SELECT maybe_twice FROM deliveries ORDER BY seq") == [(0,), (1,)]
    assert ask(path, "SELECT seq, outcomes FROM maybe_forwarded_twice") == [(1, "delivered, delivered")]


def test_retry_lets_rejected_records_wait_anew_and_says_who_asked(ledger: Ledger, path: Path) -> None:
    ledger.commit([job(1), job(2), job(3)])
    ledger.commit([Delivery(NOW, seq, "hq", "refused", OutboxState.REJECTED, 8) for seq in (1, 2)])
    assert ledger.commit([Retry(NOW, (), "root")]) == [
        Changed(((1, "hq", "KM-A4F-000123/s1"), (2, "hq", "KM-A4F-000123/s2")))
    ]
    assert outbox_of(path) == [(1, "waiting", 0), (2, "waiting", 0), (3, "waiting", 0)]
    note, who, data = ask(path, "SELECT note, who, data FROM notes")[0]
    assert (note, who, json.loads(data)) == ("by-hand", "root", {"count": 2, "did": "outbox retry", "records": "1 2"})
    assert ledger.commit([Retry(NOW, (77,), "root")]) == [Changed(())]


def test_retry_leaves_what_is_in_flight_alone(ledger: Ledger, path: Path) -> None:
    ledger.commit([job(1, outbox=OutboxState.SENT)])
    assert ledger.commit([Retry(NOW, (1,), "root")]) == [Changed(())]
    assert outbox_of(path) == [(1, "sent", 0)]


def test_drop_needs_its_reason_and_name_in_the_ledger(ledger: Ledger, path: Path) -> None:
    ledger.commit([job(1)])
    assert ledger.commit([Drop(NOW, 1, "a test page", "root")]) == [Changed(((1, "hq", "KM-A4F-000123/s1"),))]
    assert outbox_of(path) == []
    assert ask(path, "SELECT record, upstream, outcome, answer, who FROM deliveries") == [
        (1, "hq", "dropped", "a test page", "root")
    ]
    assert ledger.commit([Drop(NOW, 1, "again", "root")]) == [Changed(())]


def test_what_was_in_flight_at_a_crash_waits_again_and_is_named(path: Path) -> None:
    ledger = Ledger.open(path, NOW)
    ledger.commit([job(1), job(2, outbox=OutboxState.SENT), job(3, outbox=OutboxState.SENT, upstream="other")])
    ledger.close()
    ledger = Ledger.open(path, NOW)
    assert outbox_of(path) == [(1, "waiting", 0), (2, "sent", 0), (3, "sent", 0)]
    assert ledger.settle_sent(NOW + 9) == [(2, "hq"), (3, "other")]
    assert ledger.settle_sent(NOW + 9) == []
    ledger.close()
    assert outbox_of(path) == [(1, "waiting", 0), (2, "waiting", 0), (3, "waiting", 0)]
    assert ask(path, "SELECT seq, outcomes FROM maybe_forwarded_twice") == [(2, "unknown"), (3, "unknown")]


def test_when_nothing_can_be_written_nothing_has_changed(ledger: Ledger, path: Path) -> None:
    ledger.commit([job(1)])
    before = ledger.head
    ledger._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(CannotStore, match=r"ledger\.db"):
        ledger.commit([job(2)])
    assert ledger.head == before
    ledger._connection.execute("PRAGMA query_only = 0")
    assert stored(ledger.commit([job(2)])[0]).seq == 2
    with database.reading(path) as reader:
        assert proof.walk(reader).ok


def test_a_full_database_refuses_and_goes_on_when_there_is_room_again(ledger: Ledger, path: Path) -> None:
    ledger.commit([job(1)])
    pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
    ledger._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(CannotStore, match="disk is full"):
        ledger.commit([job(number) for number in range(2, 200)])
    assert ask(path, "SELECT count(*) FROM entries") == [(1,)]
    ledger._connection.execute("PRAGMA max_page_count = 1000000")
    outcomes = ledger.commit([job(number) for number in range(2, 200)])
    assert [stored(outcome).seq for outcome in outcomes] == list(range(2, 200))
    with database.reading(path) as reader:
        assert proof.walk(reader).ok


def test_readers_never_hold_up_the_writer(ledger: Ledger, path: Path) -> None:
    ledger.commit([job(number) for number in range(50)])
    with database.reading(path) as reader:
        reader.execute("BEGIN")
        half = reader.execute("SELECT seq FROM entries")
        half.fetchone()
        assert stored(ledger.commit([job(99)])[0]).seq == 51
        assert reader.execute("SELECT count(*) FROM entries").fetchone() == (50,)


def test_a_reader_cannot_write(ledger: Ledger, path: Path) -> None:
    with database.reading(path) as reader, pytest.raises(sqlite3.OperationalError):
        reader.execute("INSERT INTO memory VALUES ('a', 'b')")


def test_the_wal_stays_bounded(ledger: Ledger, path: Path) -> None:
    wal = path.with_name("ledger.db-wal")
    for start in range(0, 8_000, 200):
        ledger.commit([job(number) for number in range(start, start + 200)])
    assert wal.stat().st_size <= 16 << 20
    ledger.checkpoint()
    assert wal.stat().st_size == 0


def test_an_ordinary_close_leaves_one_file(path: Path) -> None:
    ledger = Ledger.open(path, NOW)
    ledger.commit([job(1)])
    ledger.close()
    assert {each.name for each in path.parent.iterdir()} == {"ledger.db", "ledger.db.lock"}


def test_only_the_owner_may_read_it(ledger: Ledger, path: Path) -> None:
    ledger.commit([job(1)])
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_a_foreign_tool_reads_it_without_a_manual(ledger: Ledger, path: Path) -> None:
    ledger.commit(ONE_OF_EACH)

    def shell(query: str) -> str:
        asked = ["sqlite3", "-readonly", os.fspath(path), query]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    assert shell("SELECT at, kind, pages, color_pages, paper, card, outbox FROM jobs_full") == (
        "2026-11-22T10:15:03.120Z|copy|12|2|A4|04A2B3|"
    )
    assert shell("SELECT card, jobs, pages FROM jobs_by_card") == "04A2B3|1|12"
    assert shell("SELECT day, kind, pages FROM jobs_by_day") == "2026-11-22|copy|12"
    assert shell("SELECT device, pages FROM jobs_by_device") == "KM-A4F-000123|12"
    assert shell("SELECT seq, event, state FROM records_not_taken") == "2|start|waiting"
    assert shell("SELECT count(*), min(seq) FROM outage_contents") == "10|6"
    assert shell("PRAGMA integrity_check") == "ok"
    assert "-- impressions" in shell("SELECT sql FROM sqlite_schema WHERE name = 'jobs'")


def test_every_view_can_be_asked(ledger: Ledger, path: Path) -> None:
    ledger.commit(ONE_OF_EACH)
    for (name,) in ask(path, "SELECT name FROM sqlite_schema WHERE type = 'view'"):
        ask(path, f"SELECT * FROM {name}")


def test_an_error_is_one_line_that_says_where_and_what_to_do(ledger: Ledger, path: Path) -> None:
    ledger._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(CannotStore) as caught:
        ledger.commit([job(1)])
    assert str(caught.value).startswith(f"cannot store in the ledger {path}: it may not be written; look at its owner")
    assert "\n" not in str(caught.value)


def test_a_commit_that_succeeded_and_was_reported_as_failed_is_gone_on_from(ledger: Ledger, path: Path) -> None:
    class Lying:
        """The connection, but its first COMMIT reports an I/O error after it has been done."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self.connection, self.lied = connection, False

        def __getattr__(self, name: str) -> Any:
            return getattr(self.connection, name)

        def execute(self, statement: str, *given: Any) -> sqlite3.Cursor:
            done = self.connection.execute(statement, *given)
            if statement == "COMMIT" and not self.lied:
                self.lied = True
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR
                raise error
            return done

    honest = ledger._connection
    ledger._connection = Lying(honest)  # type: ignore[assignment]
    with pytest.raises(CannotStore):
        ledger.commit([job(1)])
    outcomes = ledger.commit([job(1), job(2)])
    ledger._connection = honest
    assert [(type(outcome), outcome.seq) for outcome in outcomes if isinstance(outcome, Stored | Repeat)] == [
        (Repeat, 1),
        (Stored, 2),
    ]
    with database.reading(path) as reader:
        assert proof.walk(reader).ok
