"""What of an outage's records is left: `drained` says that all is done, and only then. `offline-mode.md`, "What a
person can see".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage import database, outages
from storage.ledger import Ledger
from storage.outages import NoSuchOutage
from storage.reader import Reader
from storage.records import Delivery, Drop, Keepable, OutboxState, Resolve, Retry
from tests.unit.storage_samples import NOW, job, step

BACK, DRAINED = NOW + 60_000, NOW + 70_000
"""When contact was back, and when the link found that nothing waited."""


class Shelf:
    """Entry 1 was on its way when contact failed (2); 4, 5 and 6 were kept in the outage; 8 after it."""

    def __init__(self, path: Path) -> None:
        self.ledger = Ledger.open(path, NOW)
        self.keep(job(1, outbox=OutboxState.SENT), step("failed", "grace"), step("offline", "offline"))
        self.keep(job(4), job(5), job(6), step("recovered", "recovering", at=BACK), job(8))
        self.connection = database.open_reader(path)
        self.reader = Reader(path, self.connection)

    def keep(self, *items: Keepable) -> None:
        self.ledger.commit(items)

    def ended(self, seq: int, outcome: str, state: OutboxState | None) -> None:
        self.keep(Delivery(DRAINED, seq, "hq", outcome, state, 1))

    def told(self, *keys: str) -> list[Any]:
        said = self.reader.last_outage()
        assert said is not None
        return [said[key] for key in keys]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "ledger.db")
    yield shelf
    shelf.connection.close()
    shelf.ledger.close()


def test_an_outage_is_not_drained_while_one_of_its_records_waits_is_sent_or_is_in_doubt(shelf: Shelf) -> None:
    for seq in (1, 4, 5, 8):
        shelf.ended(seq, "delivered", None)
    assert shelf.told("drained", "waiting") == [None, 1]
    shelf.ended(6, "unknown", OutboxState.IN_DOUBT)
    shelf.keep(step("drained", "online", at=DRAINED))
    assert shelf.told("drained", "waiting", "in_doubt") == [None, 0, 1]
    shelf.keep(Resolve(DRAINED + 5_000, 6, "resend", "ada", "not there"))
    assert shelf.told("drained", "waiting", "in_doubt") == [None, 1, 0]
    shelf.ended(6, "delivered", None)
    assert shelf.told("drained", "waiting", "in_doubt") == ["2026-11-22T10:16:18.120Z", 0, 0]


def test_it_is_drained_when_the_last_doubt_was_decided(shelf: Shelf) -> None:
    for seq in (1, 4, 5):
        shelf.ended(seq, "delivered", None)
    shelf.ended(6, "unknown", OutboxState.IN_DOUBT)
    shelf.keep(step("drained", "online", at=DRAINED), Resolve(DRAINED + 5_000, 6, "sent", "ada", "seen there"))
    assert shelf.told("drained", "in_doubt", "dropped") == ["2026-11-22T10:16:18.120Z", 0, 0]


def test_refused_and_dropped_records_do_not_hold_it_and_are_counted(shelf: Shelf) -> None:
    shelf.ended(1, "delivered", None)
    shelf.ended(4, "delivered", None)
    shelf.ended(5, "refused", OutboxState.REJECTED)
    shelf.keep(Drop(DRAINED - 1_000, 6, "a test", "ada"), step("drained", "online", at=DRAINED))
    assert shelf.told("drained", "rejected", "dropped") == ["2026-11-22T10:16:13.120Z", 1, 1]
    shelf.keep(Retry(DRAINED, (5,), "ada"))
    assert shelf.told("drained", "waiting", "rejected") == [None, 1, 0]


def test_what_was_on_its_way_when_contact_failed_is_of_the_outage_if_it_came_into_doubt_there(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db", NOW)
    long_in_doubt = Delivery(NOW, 1, "hq", "unknown", OutboxState.IN_DOUBT, 1)
    ledger.commit([job(1), long_in_doubt, job(2, outbox=OutboxState.SENT), step("failed", "grace")])
    ledger.commit([step("offline", "offline"), Delivery(NOW, 3, "hq", "unknown", OutboxState.IN_DOUBT, 1)])
    ledger.commit([step("recovered", "recovering", at=BACK), step("drained", "online", at=DRAINED)])
    with database.reading(ledger.path) as connection:
        told = Reader(ledger.path, connection).last_outage()
    ledger.close()
    assert told is not None
    assert (told["in_doubt"], told["drained"], told["jobs"]) == (1, None, 0)


def test_another_servers_records_are_not_of_the_outage(shelf: Shelf) -> None:
    for seq in (1, 4, 5, 6):
        shelf.ended(seq, "delivered", None)
    shelf.keep(step("drained", "online", at=DRAINED), job(20, upstream="other"))
    assert shelf.told("drained") == ["2026-11-22T10:16:13.120Z"]


def test_an_outage_is_named_by_its_beginning_or_as_the_last(shelf: Shelf) -> None:
    shelf.keep(step("failed", "grace", at=NOW + 90_000, outage=NOW + 90_000))
    shelf.keep(step("offline", "offline", at=NOW + 90_000, outage=NOW + 90_000, upstream="other"))
    shelf.keep(step("failed", "grace", at=NOW + 95_000, outage=NOW + 95_000))
    shelf.keep(step("recovered", "online", at=NOW + 95_500, outage=NOW + 95_000))
    first, second = "2026-11-22T10:15:03.120Z", "2026-11-22T10:16:33.120Z"
    connection = shelf.connection
    assert [each.started for each in outages.named(connection, first)] == [first]
    assert [each.started for each in outages.named(connection, "2026-11-22T10:15")] == [first]
    assert [(each.upstream, each.started) for each in outages.named(connection, "last")] == [
        ("hq", second),
        ("other", second),
    ]
    with pytest.raises(NoSuchOutage, match="3 outages began at 2026-11-22T10; give more of it, such as 2026-"):
        outages.named(connection, "2026-11-22T10")
    for unknown in ("", "x", "%"):
        with pytest.raises(NoSuchOutage, match="no outage is called"):
            outages.named(connection, unknown)


def test_without_an_outage_there_is_no_last_one(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "ledger.db", NOW).close()
    with (
        database.reading(tmp_path / "ledger.db") as connection,
        pytest.raises(NoSuchOutage, match="no outage is in this ledger"),
    ):
        outages.named(connection, "last")
