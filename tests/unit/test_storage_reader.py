"""What is read back: the outbox, card memory, and what a start rebuilds and status shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from storage import database
from storage.answers import CardFacts, OpenSession, Overrun, Stored, WaitingRef
from storage.cards import CardMemory
from storage.errors import StorageError
from storage.ledger import Ledger
from storage.outbox import Outbox, OutboxCounts
from storage.reader import Reader
from storage.records import (
    AppLogLine,
    Delivery,
    DeviceSeen,
    DrillStep,
    Logout,
    Mode,
    OutboxState,
    Personal,
    Remember,
    Take,
    UnlockStep,
)
from tests.unit.storage_samples import NOW, job, login, mark, offline_login, step


class Shelf:
    def __init__(self, path: Path) -> None:
        self.ledger = Ledger.open(path, NOW)
        self.connection = database.open_reader(path)
        self.outbox = Outbox(self.connection)
        self.cards = CardMemory(self.connection)
        self.reader = Reader(path, self.connection)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path / "ledger.db")
    with closing(made.ledger), closing(made.connection):
        yield made


def test_what_waits_comes_in_order_for_its_upstream_only(shelf: Shelf) -> None:
    shelf.ledger.commit([job(number, upstream="hq" if number % 3 else "other") for number in range(1, 2_501)])
    shelf.ledger.commit(
        [
            Take(NOW, "hq", (1,)),
            Delivery(NOW, 2, "hq", "unanswered", OutboxState.WAITING, 1, next_try=NOW + 500),
            Delivery(NOW, 4, "hq", "refused", OutboxState.REJECTED, 1),
        ]
    )
    waiting = list(shelf.outbox.waiting("hq"))
    assert waiting[0] == WaitingRef(2, "KM-A4F-000123/s2", NOW + 500)
    assert [ref.seq for ref in waiting] == [seq for seq in range(1, 2_501) if seq % 3 and seq not in (1, 4)]


def test_counts_follow_every_change(shelf: Shelf) -> None:
    assert shelf.outbox.counts() == OutboxCounts()
    shelf.ledger.commit([job(1), job(2, at=NOW + 5), job(3, upstream="other", outbox=OutboxState.SENT)])
    assert shelf.outbox.counts() == OutboxCounts(waiting=2, sent=1, oldest=NOW)
    assert shelf.outbox.counts("other") == OutboxCounts(sent=1, oldest=NOW)
    shelf.ledger.commit([Delivery(NOW, 1, "hq", "refused", OutboxState.REJECTED, 1), Take(NOW, "hq", (2,))])
    assert shelf.outbox.counts("hq") == OutboxCounts(sent=1, rejected=1, oldest=NOW + 5)
    shelf.ledger.commit([Delivery(NOW, 2, "hq", "unknown", OutboxState.IN_DOUBT, 1)])
    shelf.ledger.commit([Delivery(NOW, 3, "other", "delivered", None, 1)])
    assert shelf.outbox.counts() == OutboxCounts(in_doubt=1, rejected=1)


def test_the_oldest_is_of_those_that_wait_or_are_being_sent(shelf: Shelf) -> None:
    shelf.ledger.commit([job(1), job(2, at=NOW + 5, outbox=OutboxState.SENT), job(3, at=NOW + 7)])
    shelf.ledger.commit([Take(NOW, "hq", (1,)), Delivery(NOW, 1, "hq", "unknown", OutboxState.IN_DOUBT, 1)])
    assert shelf.outbox.counts() == OutboxCounts(waiting=1, sent=1, in_doubt=1, oldest=NOW + 5)


def test_counts_are_cheap_with_a_hundred_thousand_waiting(shelf: Shelf) -> None:
    shelf.ledger._connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
        "INSERT INTO outbox (seq, upstream, state, dialect, device, order_key, at) "
        "SELECT i, 'hq', 'waiting', 'radius', 'd', 'k' || i, '2026-11-22T10:15:03.120Z' FROM n"
    )
    began = time.thread_time()
    assert shelf.outbox.counts("hq") == OutboxCounts(waiting=100_000, oldest=NOW)
    assert time.thread_time() - began < 0.005
    assert sum(1 for _ in shelf.outbox.waiting("hq")) == 100_000


def test_a_slow_reader_of_the_outbox_keeps_no_transaction_open(shelf: Shelf) -> None:
    shelf.ledger.commit([job(number) for number in range(1, 2_001)])
    waiting = shelf.outbox.waiting("hq")
    next(waiting)
    assert not shelf.connection.in_transaction
    shelf.ledger.checkpoint()
    assert shelf.reader.figures().bytes < 4 << 20


def test_the_list_for_an_admin_says_what_each_record_is(shelf: Shelf) -> None:
    outcomes = shelf.ledger.commit([job(1), mark("start", key="s"), job(3, upstream="other")])
    shelf.ledger.commit([Delivery(NOW, 1, "hq", "refused", OutboxState.REJECTED, 2, "no such user")])
    rows = list(shelf.outbox.list())
    assert [(row.seq, row.state, row.event, row.kind, row.pages, row.tries, row.reason) for row in rows] == [
        (1, OutboxState.REJECTED, "stop", "copy", 12, 2, "no such user"),
        (2, OutboxState.WAITING, "start", "", None, 0, ""),
        (3, OutboxState.WAITING, "stop", "copy", 12, 0, ""),
    ]
    assert isinstance(outcomes[0], Stored)
    assert rows[0].id == outcomes[0].id
    assert [row.seq for row in shelf.outbox.list("hq", [OutboxState.WAITING])] == [2]
    assert [row.seq for row in shelf.outbox.list(limit=2)] == [1, 2]
    assert shelf.outbox.find(outcomes[0].id) == (1,)
    assert shelf.outbox.find("nothing") == ()


def test_card_memory_holds_the_servers_last_word(shelf: Shelf) -> None:
    shelf.ledger.commit([login("04a2b3")])
    assert shelf.cards.facts("04A2B3") == CardFacts(NOW, True, "ada")
    assert shelf.cards.facts("04a2b3") == CardFacts(NOW, True, "ada")
    shelf.ledger.commit([login("04A2B3", at=NOW + 9, outcome="refused", personal=Personal(card="04A2B3"))])
    assert shelf.cards.facts("04A2B3") == CardFacts(NOW, False, "ada")
    shelf.ledger.commit([login("04A2B3", at=NOW + 20)])
    assert shelf.cards.facts("04A2B3") == CardFacts(NOW + 20, True, "ada")


def test_leading_zeros_make_another_card(shelf: Shelf) -> None:
    shelf.ledger.commit([login("0042")])
    assert shelf.cards.facts("42") is None
    assert shelf.cards.facts("0042") is not None


@pytest.mark.parametrize("changes", [{"teaches": False}, {"outcome": "challenged"}, {"outcome": "unanswered"}])
def test_only_the_servers_word_teaches(shelf: Shelf, changes: dict[str, object]) -> None:
    shelf.ledger.commit([login("0042", **changes)])
    assert shelf.cards.facts("0042") is None


def test_a_card_that_was_only_ever_refused_is_known_as_bad(shelf: Shelf) -> None:
    shelf.ledger.commit([login("0042", outcome="refused")])
    assert shelf.cards.facts("0042") == CardFacts(None, False, "")


def test_sessions_are_told_with_whether_they_have_ended_while_they_are_remembered(shelf: Shelf) -> None:
    shelf.ledger.commit([offline_login("aa"), offline_login("bb"), offline_login("cc", expires_at=NOW + 10), login()])
    shelf.ledger.commit([Logout(NOW + 1, "KM-A4F-000123", "bb", "stop")])
    first = OpenSession("aa", "KM-A4F-000123", "hq", "04A2B3", NOW, NOW + 3_600_000, Mode.OFFLINE)
    assert shelf.reader.sessions(NOW + 10) == [(first, False), (replace(first, session="bb"), True)]


def test_sessions_of_the_server_whose_mark_is_known_are_told_with_their_user(shelf: Shelf) -> None:
    known = login(session="77", expires_at=NOW + 500)
    shelf.ledger.commit([known, offline_login("aa", personal=Personal(card="04A2B3", user="as the card says"))])
    (online, _), (offline, _) = shelf.reader.sessions(NOW)
    assert online == OpenSession("77", "KM-A4F-000123", "hq", "04A2B3", NOW, NOW + 500, Mode.ONLINE, "ada")
    assert (offline.mode, offline.user) == (Mode.OFFLINE, "")


def test_unlocks_and_drills_are_told_in_order_from_a_time_on(shelf: Shelf) -> None:
    unlocks = [
        UnlockStep(NOW - 1, "d", "hq", "wrong-code"),
        UnlockStep(NOW, "d", "hq", "unlocked", "once"),
        UnlockStep(NOW + 9, "d", "hq", "by-hand-locked", "", "enough", "root"),
    ]
    drills = [
        DrillStep(NOW - 1, "*", "start", NOW + 1_800_000, "a test", "root"),
        DrillStep(NOW + 4, "*", "stop", NOW + 4, "its time is over", ""),
    ]
    shelf.ledger.commit([*drills, *unlocks])
    assert shelf.reader.unlock_history(0) == unlocks
    assert shelf.reader.unlock_history(NOW) == unlocks[1:]
    assert shelf.reader.drill_history(0) == drills
    assert shelf.reader.drill_history(NOW) == drills[1:]


def test_what_cards_have_used_in_the_outage_that_runs(shelf: Shelf) -> None:
    shelf.ledger.commit([step("failed", "grace", outage=NOW - 1), job(1), offline_login("before")])
    shelf.ledger.commit([step("failed", "grace"), step("offline", "offline")])
    lower = Personal(card="04a2b3")
    shelf.ledger.commit(
        [
            offline_login("aa"),
            offline_login("bb", personal=lower),
            offline_login("cc", upstream="other", device="KM-B"),
            offline_login("dd", mode=Mode.DRILL),
            login(),
            job(2),
            job(3, personal=lower),
            job(4, personal=Personal(card="0042")),
            job(5, mode=Mode.ONLINE),
            job(6, mode=Mode.DRILL),
            job(7, upstream="other", device="KM-B"),
            mark("start", key="start"),
        ]
    )
    assert shelf.reader.overruns("hq", NOW) == [Overrun("0042", 12, 0), Overrun("04A2B3", 24, 2)]
    assert shelf.reader.overruns("hq", NOW + 1) == []
    assert shelf.reader.overruns("other", NOW) == []


def test_jobs_count_where_their_sessions_were_let_in_though_they_are_forwarded_elsewhere(shelf: Shelf) -> None:
    shelf.ledger.commit([step("failed", "grace"), offline_login("aa"), job(1, upstream="records")])
    assert shelf.reader.overruns("hq", NOW) == [Overrun("04A2B3", 12, 1)]


def test_overruns_are_found_fast_among_a_hundred_thousand_jobs(shelf: Shelf) -> None:
    shelf.ledger.commit([step("failed", "grace"), offline_login("aa")])
    numbers = "WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < 100002) "
    write = shelf.ledger._connection.execute
    write("BEGIN")
    write(
        numbers + "INSERT INTO jobs SELECT i, 'id', 'at', 'd' || (i % 200), 'c', 'radius', 'hq', 's', 'offline', '', "
        "'stop', 'copy', 2, NULL, NULL, NULL, NULL, 'A4', NULL, NULL FROM n"
    )
    write(
        numbers + "INSERT INTO personal SELECT i, printf('%08X', i % 500), '', 'Leaflet', '', randomblob(300), "
        "randomblob(32) FROM n"
    )
    write("COMMIT")
    taken = []
    for _ in range(3):
        began = time.thread_time()
        found = shelf.reader.overruns("hq", NOW)
        taken.append(time.thread_time() - began)
    assert len(found) == 501
    assert sum(each.pages for each in found) == 200_000
    assert min(taken) < 0.15


def test_the_last_step_of_each_upstream_is_what_a_start_goes_on_from(shelf: Shelf) -> None:
    assert shelf.reader.open_outages() == {}
    last = step("offline", "offline", at=NOW + 60_000)
    other = step("drained", "online", upstream="other")
    shelf.ledger.commit([step("failed", "grace"), other, last])
    assert shelf.reader.open_outages() == {"hq": last, "other": other}


def test_an_outage_and_what_happened_in_it(shelf: Shelf) -> None:
    assert shelf.reader.last_outage() is None
    shelf.ledger.commit([job(1), offline_login("before")])
    shelf.ledger.commit([step("failed", "grace"), job(2)])
    shelf.ledger.commit(
        [step("offline", "offline", at=NOW + 60_000), offline_login("aa"), job(3), job(4, upstream="other")]
    )
    open_still = shelf.reader.last_outage("hq")
    assert open_still is not None
    assert (open_still["offline"], open_still["recovered"]) == ("2026-11-22T10:16:03.120Z", None)
    shelf.ledger.commit([step("recovered", "recovering", at=NOW + 90_000), job(5)])
    shelf.ledger.commit([step("drained", "online", at=NOW + 95_000)])
    assert shelf.reader.last_outage() == {
        "started": "2026-11-22T10:15:03.120Z",
        "offline": "2026-11-22T10:16:03.120Z",
        "recovered": "2026-11-22T10:16:33.120Z",
        "drained": None,
        "logins": 1,
        "jobs": 2,
        "pages": 24,
        "unknown_cards": 0,
        "waiting": 2,
        "sent": 0,
        "in_doubt": 0,
        "rejected": 0,
        "dropped": 0,
    }
    assert shelf.reader.last_outage("other") is None


def test_an_outage_whose_server_came_and_went_is_one_row_and_not_over_while_it_is_gone_again(shelf: Shelf) -> None:
    def row() -> tuple[str | None, ...]:
        columns = "offline, recovered, drained, first_seq, recovered_seq"
        (found,) = shelf.connection.execute(f"SELECT {columns} FROM outages WHERE upstream = 'hq'").fetchall()
        return tuple(found)

    shelf.ledger.commit([step("failed", "grace"), step("offline", "offline", at=NOW + 1_000), job(1)])
    shelf.ledger.commit([step("recovered", "recovering", at=NOW + 2_000)])
    assert row() == ("2026-11-22T10:15:04.120Z", "2026-11-22T10:15:05.120Z", None, 1, 4)
    again = replace(step("failed", "grace", at=NOW + 3_000), cause="another cause")
    shelf.ledger.commit([job(2), again, step("offline", "offline", at=NOW + 4_000), job(3)])
    assert row() == ("2026-11-22T10:15:04.120Z", None, None, 1, None)
    assert shelf.connection.execute("SELECT cause FROM outages").fetchall() == [("no answer in 3 s",)]
    told = shelf.reader.last_outage()
    assert told is not None
    assert (told["started"], told["recovered"], told["jobs"]) == ("2026-11-22T10:15:03.120Z", None, 3)
    shelf.ledger.commit([step("recovered", "recovering", at=NOW + 5_000), job(4)])
    shelf.ledger.commit([step("drained", "online", at=NOW + 6_000), job(5)])
    assert row() == ("2026-11-22T10:15:04.120Z", "2026-11-22T10:15:08.120Z", "2026-11-22T10:15:09.120Z", 1, 9)
    told = shelf.reader.last_outage()
    assert told is not None
    assert (told["jobs"], told["pages"]) == (3, 36)
    contents = shelf.connection.execute("SELECT count(*), min(seq), max(seq) FROM outage_contents")
    assert contents.fetchone() == (9, 1, 9)


def test_the_last_outage_is_found_fast_among_ten_thousand(shelf: Shelf) -> None:
    write = shelf.ledger._connection.execute
    write(
        "WITH RECURSIVE n(i) AS (SELECT 4 UNION ALL SELECT i + 1 FROM n WHERE i < 40003) INSERT INTO outage_events "
        "SELECT i, 'id', 'at', 'hq', printf('2026-11-22T%06dZ', i / 4), "
        "CASE i % 4 WHEN 0 THEN 'failed' WHEN 1 THEN 'offline' WHEN 2 THEN 'recovered' ELSE 'drained' END, "
        "'state', 'no answer', 'boot-1', i FROM n"
    )
    taken = []
    for _ in range(3):
        began = time.thread_time()
        told = shelf.reader.last_outage()
        taken.append(time.thread_time() - began)
    assert told is not None
    assert told["started"] == "2026-11-22T010000Z"
    assert min(taken) < 0.3


def test_a_start_is_told_by_which_step_the_outage_left_offline(shelf: Shelf) -> None:
    assert shelf.reader.left_offline("hq", NOW) is None
    shelf.ledger.commit([step("failed", "grace", outage=NOW - 9), step("offline", "offline", outage=NOW - 9)])
    shelf.ledger.commit([step("recovered", "recovering", outage=NOW - 9), step("drained", "online", outage=NOW - 9)])
    shelf.ledger.commit([step("failed", "grace"), step("recovered", "recovering")])
    assert shelf.reader.left_offline("hq", NOW) is None
    shelf.ledger.commit([step("failed", "grace"), step("offline", "offline", at=NOW + 60_000)])
    assert shelf.reader.left_offline("hq", NOW) is None
    left = step("recovered", "recovering", at=NOW + 70_000)
    shelf.ledger.commit([left, step("failed", "grace", at=NOW + 200_000)])
    shelf.ledger.commit([step("recovered", "recovering", at=NOW + 210_000), step("failed", "grace", upstream="other")])
    assert shelf.reader.left_offline("hq", NOW) == left
    assert shelf.reader.left_offline("other", NOW) is None


def test_cards_that_nobody_has_are_counted_once_each_among_the_records_of_the_outage(shelf: Shelf) -> None:
    shelf.ledger.commit([job(1, personal=Personal(card="before"))])
    shelf.ledger.commit([step("failed", "grace"), step("offline", "offline")])
    cards = ("0a", "0A", "0b", "", "0c")
    shelf.ledger.commit([job(number, personal=Personal(card=card)) for number, card in enumerate(cards, 2)])
    shelf.ledger.commit([step("recovered", "recovering")])
    shelf.ledger.commit([job(9, personal=Personal(card="after"))])
    seqs = [seq for (seq,) in shelf.connection.execute("SELECT seq FROM jobs").fetchall()]
    known = seqs[-2]
    shelf.ledger.commit([Delivery(NOW, seq, "hq", "delivered", None, 1, unknown_card=seq != known) for seq in seqs])
    outage = shelf.reader.last_outage("hq")
    assert outage is not None
    assert (outage["jobs"], outage["unknown_cards"]) == (5, 2)


def test_unknown_cards_are_looked_up_by_an_index_and_not_counted_through(shelf: Shelf) -> None:
    query = "SELECT 1 FROM deliveries d WHERE d.unknown_card = 1 AND d.upstream = 'hq' AND d.record BETWEEN 1 AND 9"
    plan = [row[3] for row in shelf.connection.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert plan == ["SEARCH d USING INDEX deliveries_unknown (record>? AND record<?)"]


def test_a_server_reboot_within_the_delay_is_no_outage(shelf: Shelf) -> None:
    shelf.ledger.commit([step("failed", "grace"), step("recovered", "online", at=NOW + 5)])
    assert shelf.reader.last_outage() is None


def test_app_log_is_read_on_from_where_one_was(shelf: Shelf) -> None:
    shelf.ledger.commit([AppLogLine(NOW + n, "info", f"line {n}", {"n": n}) for n in range(5)])
    assert [row.text for row in shelf.reader.app_log(limit=2)] == ["line 3", "line 4"]
    rows = shelf.reader.app_log(3, 10)
    assert [(row.seq, row.at, row.level, row.context) for row in rows] == [
        (4, NOW + 3, "info", {"n": 3}),
        (5, NOW + 4, "info", {"n": 4}),
    ]


def test_a_line_of_app_log_gives_the_card_it_speaks_of(shelf: Shelf) -> None:
    shelf.ledger.commit([AppLogLine(NOW, "warning", "nobody has this card", personal=Personal(card="0042"))])
    shelf.ledger.commit([AppLogLine(NOW, "info", "all is well")])
    assert [row.card for row in shelf.reader.app_log()] == ["0042", ""]
    assert [row.card for row in shelf.reader.app_log(0)] == ["0042", ""]


def test_the_hash_of_an_entry_can_be_asked(shelf: Shelf) -> None:
    shelf.ledger.commit([job(1), job(2)])
    assert shelf.reader.hash_of(2) == shelf.ledger.head[1]
    assert shelf.reader.hash_of(3) is None


def test_figures_and_facts_for_status(shelf: Shelf) -> None:
    assert shelf.reader.figures().head == ""
    assert shelf.reader.last_entry_at() is None
    assert shelf.reader.memory("a") is None
    shelf.ledger.commit([job(1), mark("start", key="s"), job(2, at=NOW + 7), Remember("a", "b")])
    shelf.ledger.commit(
        [DeviceSeen(NOW, "d", "10.7.0.31", "radius", "hq"), DeviceSeen(NOW + 9, "d", "::1", "radius", "hq")]
    )
    figures = shelf.reader.figures()
    assert (figures.entries, figures.jobs) == (3, 2)
    assert figures.head == "sha256:" + shelf.ledger.head[1].hex()
    assert figures.bytes > 0
    assert shelf.reader.last_entry_at() == NOW + 7
    assert shelf.reader.memory("a") == "b"
    (device,) = shelf.reader.devices()
    assert (device.client, device.first_seen, device.last_seen) == ("::1", NOW, NOW + 9)


def test_figures_do_not_count_rows(shelf: Shelf) -> None:
    plans = []
    for query in (
        "SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1",
        "SELECT value FROM totals WHERE name = 'jobs'",
    ):
        plans += [row[3] for row in shelf.connection.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert plans == ["SCAN entries", "SEARCH totals USING PRIMARY KEY (name=?)"]


def test_a_reader_whose_file_fails_says_so_in_our_words(shelf: Shelf) -> None:
    shelf.connection.close()
    for asking in (shelf.reader.devices, shelf.outbox.counts, lambda: list(shelf.outbox.waiting("hq"))):
        with pytest.raises(StorageError):
            asking()
    with pytest.raises(StorageError):
        shelf.cards.facts("0042")
