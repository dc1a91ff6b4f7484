"""The outbox in a person's hands, and for servers that cannot recognise a repeat: taking, retrying, resolving."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storage import database
from storage.answers import Changed, RecordFacts, Stored, Taken, WaitingRef
from storage.errors import NotStorable
from storage.ledger import Ledger
from storage.outbox import Outbox, OutboxDetail, TryMade
from storage.records import Counts, Delivery, Drop, Mode, OutboxState, Personal, Resolve, Retry, Take
from tests.unit.storage_samples import NOW, job, mark

KEY = "KM-A4F-000123/s1"


class Shelf:
    def __init__(self, path: Path) -> None:
        self.ledger = Ledger.open(path, NOW)
        self.connection = database.open_reader(path)
        self.outbox = Outbox(self.connection)

    def ask(self, query: str) -> list[Any]:
        return self.connection.execute(query).fetchall()

    def take(self, *seqs: int, **changes: Any) -> Taken:
        taken = self.ledger.commit([Take(NOW, "hq", seqs, **changes)])[0]
        assert isinstance(taken, Taken)
        return taken

    def shown(self, seq: int) -> OutboxDetail:
        detail = self.outbox.show(seq)
        assert detail is not None
        return detail


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path / "ledger.db")
    with closing(made.ledger), closing(made.connection):
        yield made


def doubtful(shelf: Shelf, tries: int = 1) -> None:
    """A job that is in doubt."""
    shelf.ledger.commit([job(1)])
    shelf.take(1)
    shelf.ledger.commit([Delivery(NOW, 1, "hq", "unknown", OutboxState.IN_DOUBT, tries, "cut", maybe_twice=True)])


def test_taking_without_a_mark_leaves_records_waiting(shelf: Shelf) -> None:
    shelf.ledger.commit([job(1), job(2)])
    assert [item.seq for item in shelf.take(1, 2, 3, mark=False).items] == [1, 2]
    assert shelf.ask("SELECT state, first_try FROM outbox") == [("waiting", None)] * 2


def test_taking_with_facts_tells_what_the_ledger_knows(shelf: Shelf) -> None:
    counts = Counts("print", 4, 0, None, 2, False, "A3")
    personal = Personal("04A2B3", "ada", "Leaflet", "12.4", b"raw")
    times = {"started_at": NOW - 90_000, "ended_at": NOW - 5_000}
    shelf.ledger.commit([job(1, counts=counts, personal=personal, **times), mark("start", key="s")])
    first, second = shelf.take(1, 2, facts=True).items
    assert first.facts == RecordFacts(
        client="10.7.0.31",
        event="stop",
        session="s1",
        mode=Mode.OFFLINE,
        card="04A2B3",
        user="ada",
        document="Leaflet",
        account="12.4",
        job_number="1",
        counts=counts,
        started_at=NOW - 90_000,
        ended_at=NOW - 5_000,
    )
    assert second.facts is not None
    assert (second.facts.event, second.facts.counts, second.facts.started_at) == ("start", None, None)
    assert [item.facts for item in shelf.take(1, 2).items] == [None, None]


def test_facts_are_there_when_what_is_personal_was_erased(shelf: Shelf) -> None:
    shelf.ledger.commit([job(1)])
    shelf.ledger._connection.execute("DELETE FROM personal")
    (item,) = shelf.take(1, facts=True).items
    assert item.facts is not None
    assert (item.facts.card, item.facts.document, item.raw) == ("", "", b"")


def test_evidence_is_kept_with_those_that_were_taken(shelf: Shelf) -> None:
    shelf.ledger.commit([job(1), job(2), job(3, upstream="other")])
    shelf.take(1, 2, 3, evidence=((1, '{"job-count":41}'), (3, '{"job-count":1}'), (9, "{}")))
    assert shelf.ask("SELECT seq, state, evidence FROM outbox") == [
        (1, "sent", '{"job-count":41}'),
        (2, "sent", ""),
        (3, "waiting", ""),
    ]
    shelf.take(1, evidence=((1, '{"job-count":42}'),))
    assert shelf.shown(1).evidence == {"job-count": 42}


@pytest.mark.parametrize("text", ["", "{", "no json", "\ud800"])
def test_evidence_that_is_no_json_is_not_storable_and_nothing_is_marked(shelf: Shelf, text: str) -> None:
    shelf.ledger.commit([job(1)])
    assert isinstance(shelf.ledger.commit([Take(NOW, "hq", (1,), evidence=((1, text),))])[0], NotStorable)
    assert shelf.ask("SELECT state FROM outbox") == [("waiting",)]


def test_corrections_go_with_the_record_and_later_ones_are_laid_over_them(shelf: Shelf) -> None:
    shelf.ledger.commit([job(1), job(2)])
    shelf.ledger.commit([Delivery(NOW, 1, "hq", "refused", OutboxState.REJECTED, 1, "no such printer")])
    first = Retry(NOW, (1,), "root", (("printer", "srv\\old"), ("user", "ada")))
    assert shelf.ledger.commit([first]) == [Changed(((1, "hq", KEY),))]
    shelf.ledger.commit([Retry(NOW, (1,), "root", (("printer", "srv\\new"),))])
    one, two = shelf.take(1, 2).items
    assert (dict(one.corrections), two.corrections) == ({"printer": "srv\\new", "user": "ada"}, ())
    assert dict(shelf.shown(1).corrections) == {"printer": "srv\\new", "user": "ada"}
    shelf.ledger.commit([Delivery(NOW, 1, "hq", "unanswered", OutboxState.WAITING, 1)])
    assert len(shelf.take(1).items[0].corrections) == 2


def test_the_note_says_who_corrected_what_and_a_name_of_a_person_stands_apart(shelf: Shelf) -> None:
    shelf.ledger.commit([job(1)])
    shelf.ledger.commit([Retry(NOW, (1,), "root", (("printer", "srv\\new"), ("user", "zoe")))])
    seq, who, data = shelf.ask("SELECT seq, who, data FROM notes")[0]
    assert who == "root"
    assert json.loads(data) == {
        "did": "outbox retry",
        "count": 1,
        "records": "1",
        "corrected": "printer user",
        "corrected_printer": "srv\\new",
    }
    assert shelf.ask(f"SELECT user, card FROM personal WHERE seq = {seq}") == [("zoe", "")]
    assert "zoe" not in shelf.ask(f"SELECT body FROM entries WHERE seq = {seq}")[0][0]


def test_a_retry_that_finds_nothing_corrects_and_notes_nothing(shelf: Shelf) -> None:
    shelf.ledger.commit([job(1, outbox=OutboxState.SENT)])
    assert shelf.ledger.commit([Retry(NOW, (1,), "root", (("user", "ada"),))]) == [Changed(())]
    assert shelf.ask("SELECT corrections FROM outbox") == [("",)]
    assert shelf.ask("SELECT count(*) FROM notes") == [(0,)]


@pytest.mark.parametrize("corrections", [(("drücker", "x"),), (("user", 7),), (("printer", 2**60),)])
def test_a_correction_that_cannot_be_noted_is_not_made(shelf: Shelf, corrections: Any) -> None:
    shelf.ledger.commit([job(1, outbox=OutboxState.REJECTED)])
    assert isinstance(shelf.ledger.commit([Retry(NOW, (1,), "root", corrections)])[0], NotStorable)
    assert shelf.ask("SELECT state, corrections FROM outbox") == [("rejected", "")]
    assert shelf.ledger.head[0] == 1


def test_retry_leaves_what_is_in_doubt_alone(shelf: Shelf) -> None:
    doubtful(shelf)
    assert shelf.ledger.commit([Retry(NOW, (1,), "root"), Retry(NOW, (), "root")]) == [Changed(()), Changed(())]
    assert shelf.ask("SELECT state FROM outbox") == [("in_doubt",)]
    assert shelf.take(1).items == ()


def test_a_record_in_doubt_that_the_server_took_leaves_with_name_and_reason(shelf: Shelf) -> None:
    doubtful(shelf, tries=2)
    assert shelf.ledger.commit([Resolve(NOW + 5, 1, "sent", "root", "it stands in the job log")]) == [
        Changed(((1, "hq", KEY),))
    ]
    assert shelf.ask("SELECT count(*) FROM outbox") == [(0,)]
    query = "SELECT outcome, state, tries, answer, who, unknown_card FROM deliveries WHERE who <> ''"
    assert shelf.ask(query) == [("resolved-sent", None, 2, "it stands in the job log", "root", 0)]


def test_a_record_in_doubt_that_the_server_did_not_take_waits_anew(shelf: Shelf) -> None:
    doubtful(shelf, tries=7)
    assert shelf.ledger.commit([Resolve(NOW, 1, "resend", "root")]) == [Changed(((1, "hq", KEY),))]
    assert shelf.ask("SELECT state, tries, first_try, next_try FROM outbox") == [("waiting", 0, None, None)]
    assert shelf.ask("SELECT outcome, state, who FROM deliveries WHERE who <> ''") == [
        ("resolved-resend", "waiting", "root")
    ]
    assert [item.seq for item in shelf.take(1).items] == [1]


@pytest.mark.parametrize("state", [OutboxState.WAITING, OutboxState.SENT, OutboxState.REJECTED])
def test_only_what_is_in_doubt_is_resolved(shelf: Shelf, state: OutboxState) -> None:
    shelf.ledger.commit([job(1, outbox=state)])
    for how in ("sent", "resend"):
        assert shelf.ledger.commit([Resolve(NOW, 1, how, "root")]) == [Changed(())]
    assert shelf.ask("SELECT state FROM outbox") == [(state.value,)]
    assert shelf.ledger.head[0] == 1


def test_a_way_to_resolve_that_is_none_is_not_storable(shelf: Shelf) -> None:
    doubtful(shelf)
    assert isinstance(shelf.ledger.commit([Resolve(NOW, 1, "perhaps", "root")])[0], NotStorable)
    assert shelf.ask("SELECT state FROM outbox") == [("in_doubt",)]


def test_resolving_twice_in_one_batch_does_it_once(shelf: Shelf) -> None:
    doubtful(shelf)
    twice = [Resolve(NOW, 1, "sent", "root"), Resolve(NOW, 1, "resend", "root")]
    assert shelf.ledger.commit(twice) == [Changed(((1, "hq", KEY),)), Changed(())]


def test_what_is_in_doubt_may_be_dropped(shelf: Shelf) -> None:
    doubtful(shelf)
    assert shelf.ledger.commit([Drop(NOW, 1, "a test page", "root")]) == [Changed(((1, "hq", KEY),))]


def test_after_a_crash_what_was_sent_is_in_doubt_where_the_server_cannot_recognise_a_repeat(shelf: Shelf) -> None:
    sent = OutboxState.SENT
    shelf.ledger.commit([job(1, outbox=sent), job(2, outbox=sent, upstream="papercut"), job(3, upstream="papercut")])
    assert shelf.ledger.settle_sent(NOW + 9, ("papercut",)) == [(1, "hq"), (2, "papercut")]
    assert shelf.ask("SELECT seq, state FROM outbox") == [(1, "waiting"), (2, "in_doubt"), (3, "waiting")]
    assert shelf.ask("SELECT record, outcome, state, maybe_twice FROM deliveries") == [
        (1, "unknown", "waiting", 1),
        (2, "unknown", "in_doubt", 1),
    ]
    assert shelf.ledger.settle_sent(NOW + 9, ("papercut",)) == []


def test_what_waits_says_which_records_are_of_a_drill(shelf: Shelf) -> None:
    shelf.ledger.commit([job(1), job(2, mode=Mode.DRILL), job(3, mode=Mode.ONLINE)])
    assert list(shelf.outbox.waiting("hq")) == [
        WaitingRef(1, KEY, 0),
        WaitingRef(2, "KM-A4F-000123/s2", 0, "KM-A4F-000123"),
        WaitingRef(3, "KM-A4F-000123/s3", 0),
    ]


def test_everything_about_a_record_can_be_shown(shelf: Shelf) -> None:
    stored = shelf.ledger.commit([job(1)])[0]
    assert isinstance(stored, Stored)
    shelf.take(1, evidence=((1, '{"job-count":41,"user":"ada"}'),))
    shelf.ledger.commit(
        [
            Delivery(NOW + 1, 1, "hq", "refused", OutboxState.REJECTED, 1, "no such user", unknown_card=True),
            job(2),
            Delivery(NOW + 2, 2, "hq", "delivered", None, 1),
            Retry(NOW + 3, (1,), "root", (("user", "ada"),)),
        ]
    )
    shelf.ledger.commit([Delivery(NOW + 4, 1, "hq", "unknown", OutboxState.IN_DOUBT, 1, "cut", user="ada")])
    shown = shelf.shown(1)
    assert (shown.row.id, shown.row.state, shown.row.kind, shown.row.pages) == (
        stored.id,
        OutboxState.IN_DOUBT,
        "copy",
        12,
    )
    assert (shown.dialect, shown.order_key) == ("radius", KEY)
    assert (shown.facts.card, shown.facts.document, shown.facts.counts) == ("04A2B3", "Leaflet", job(1).counts)
    assert shown.tries == (
        TryMade(NOW + 1, "refused", OutboxState.REJECTED, "no such user", "", "", True),
        TryMade(NOW + 4, "unknown", OutboxState.IN_DOUBT, "cut", "", "ada", False),
    )
    assert shown.evidence == {"job-count": 41, "user": "ada"}
    assert shown.corrections == (("user", "ada"),)
    assert shelf.outbox.in_doubt("hq") == shelf.outbox.in_doubt() == [shown]
    assert shelf.outbox.in_doubt("other") == []
    assert shelf.outbox.show(2) is None


def test_a_record_that_was_never_tried_is_shown_too(shelf: Shelf) -> None:
    shelf.ledger.commit([mark("start", key="s")])
    shown = shelf.shown(1)
    assert (shown.tries, shown.evidence, shown.corrections, shown.facts.counts) == ((), None, (), None)


def test_the_edges_are_those_of_what_is_sent_or_waits(shelf: Shelf) -> None:
    assert shelf.outbox.edges("hq") is None
    shelf.ledger.commit([job(number) for number in range(1, 7)])
    shelf.ledger.commit([job(7, upstream="other")])
    shelf.ledger.commit([Delivery(NOW, 1, "hq", "refused", OutboxState.REJECTED, 1)])
    shelf.ledger.commit([Delivery(NOW, 6, "hq", "unknown", OutboxState.IN_DOUBT, 1)])
    assert shelf.outbox.edges("hq") == (2, 5)
    shelf.take(2, 5)
    assert shelf.outbox.edges("hq") == (2, 5)
    shelf.take(3, 4)
    assert shelf.outbox.edges("hq") == (2, 5)
    shelf.ledger.commit([Delivery(NOW, seq, "hq", "delivered", None, 1) for seq in (2, 3, 5)])
    assert shelf.outbox.edges("hq") == (4, 4)
    assert shelf.outbox.edges("other") == (7, 7)


def test_edges_are_cheap_with_a_hundred_thousand_waiting(shelf: Shelf) -> None:
    shelf.ledger._connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
        "INSERT INTO outbox (seq, upstream, state, dialect, device, order_key, at) "
        "SELECT i, 'hq', 'waiting', 'radius', 'd', 'k' || i, '2026-11-22T10:15:03.120Z' FROM n"
    )
    shelf.outbox.edges("hq")
    began = time.thread_time()
    assert shelf.outbox.edges("hq") == (1, 100_000)
    assert time.thread_time() - began < 0.005


def test_views_for_auditors_name_doubts_and_unknown_cards(shelf: Shelf) -> None:
    doubtful(shelf)
    nobody = Personal(card="0666")
    shelf.ledger.commit([job(number, at=NOW + number, personal=nobody) for number in range(2, 5)])
    known = [Delivery(NOW, seq, "hq", "refused", OutboxState.REJECTED, 1, unknown_card=True) for seq in (3, 4, 5)]
    shelf.ledger.commit([*known, replace(known[0], at=NOW + 9)])
    rows = shelf.ask("SELECT card, device, first, last, jobs, pages FROM unknown_cards")
    assert rows == [("0666", "KM-A4F-000123", "2026-11-22T10:15:03.122Z", "2026-11-22T10:15:03.124Z", 3, 36)]
    assert shelf.ask("SELECT seq, card, document, pages FROM in_doubt") == [(1, "04A2B3", "Leaflet", 12)]
