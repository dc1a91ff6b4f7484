"""What is read back: the outbox, card memory, and what a start rebuilds and status shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from storage import database
from storage.cards import CardMemory
from storage.errors import StorageError
from storage.ledger import Ledger
from storage.outbox import Outbox, OutboxCounts
from storage.reader import Reader
from storage.records import (
    AppLogLine,
    CardFacts,
    Delivery,
    DeviceSeen,
    Logout,
    Mode,
    OpenSession,
    OutboxState,
    Personal,
    Remember,
    Stored,
    Take,
    WaitingRef,
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
    assert shelf.outbox.counts() == OutboxCounts(in_doubt=1, rejected=1, oldest=NOW + 5)


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
        "drained": "2026-11-22T10:16:38.120Z",
        "logins": 1,
        "jobs": 2,
        "pages": 24,
        "unknown_cards": None,
    }
    assert shelf.reader.last_outage("other") is None


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
