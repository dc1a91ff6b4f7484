"""The figures of a report, worked out by hand for a ledger of one day. `ledger.md`, Export."""

from __future__ import annotations

from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from storage import times
from storage.export.filters import moment
from storage.export.pseudonyms import Pseudonyms
from storage.export.snapshot import snapshot
from storage.ledger import Ledger
from storage.records import (
    Counts,
    Delivery,
    DrillStep,
    Login,
    Mode,
    Note,
    OutboxState,
    Personal,
    Record,
    Sign,
    UnlockStep,
)
from storage.signing import Signer
from storage.summary.scope import Scope, usual_period
from storage.summary.volume import Naming
from storage.summary.whole import Summary, summarise
from tests.unit.storage_samples import job, login, offline_login, step

BERLIN = ZoneInfo("Europe/Berlin")
NINE = times.milliseconds("2026-11-22T08:00:00.000Z")  # nine in Berlin
MINUTE = 60_000
NO_PRINTER = "no printer of that name"

Things = list[Record | Login | Delivery | Note | UnlockStep | DrillStep]


def at(minutes: int) -> int:
    return NINE + minutes * MINUTE


def page(number: int, minutes: int, pages: int, kind: str, **changes: object) -> Record:
    given = {"counts": Counts(kind, pages, pages // 2), "mode": Mode.ONLINE, "event": "job", **changes}
    return job(number, at=at(minutes), **given)


def delivered(seq: int, minutes: int, user: str = "", unknown: bool = False) -> Delivery:
    return Delivery(at(minutes), seq, "hq", "delivered", None, 1, user=user, unknown_card=unknown)


def write(path: Path) -> None:
    """A morning: ten pages online, an hour without the server, and what became of it."""
    ledger = Ledger.open(path, NINE, Signer.new())
    stranger = Personal(card="ffee01", raw=b"x")
    with closing(ledger):
        ledger.commit([login(at=at(0))])
        first = ledger.commit([page(1, 1, 10, "print")])[0].seq
        ledger.commit([delivered(first, 1, "ada")])
        ledger.commit([step("failed", "grace", at=at(10), outage=at(10))])
        ledger.commit([step("offline", "offline", at=at(12), outage=at(10))])
        ledger.commit(
            [UnlockStep(at(13), "KM-1", "hq", "wrong-code"), UnlockStep(at(13), "KM-1", "hq", "unlocked", "once")]
        )
        ledger.commit([offline_login("aa", at=at(14)), offline_login("bb", at=at(15), personal=stranger)])
        offline = {"mode": Mode.OFFLINE}
        second = ledger.commit([page(2, 20, 12, "copy", **offline)])[0].seq
        third = ledger.commit([page(3, 30, 3, "copy", device="KM-2", personal=stranger, **offline)])[0].seq
        fourth = ledger.commit([page(4, 40, 5, "scan", device="KM-2", personal=Personal(), **offline)])[0].seq
        ledger.commit([step("recovered", "recovering", at=at(70), outage=at(10))])
        ledger.commit([delivered(second, 70, "ada"), delivered(third, 70, "guest", unknown=True)])
        ledger.commit([Delivery(at(71), fourth, "hq", "refused", OutboxState.REJECTED, 1, NO_PRINTER)])
        ledger.commit([step("drained", "online", at=at(72), outage=at(10))])
        ledger.commit([DrillStep(at(80), "KM-1", "start", at(90), "new copier", "root (0)")])
        ledger.commit([Note(at(81), "by-hand", {"did": "claim"}, "root (0)"), Note(at(82), "gap", {"records": 2})])
        # Half past midnight in Berlin: the next day, though the ledger's UTC says 22 November.
        ledger.commit([page(5, 15 * 60 + 30, 7, "print", device="KM-2", personal=Personal(card="04BEEF"))])
        ledger.commit([Sign(at(16 * 60))])


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    write(path)
    return path


def ask(
    book: Path, first: str, last: str, devices: tuple[str, ...] = (), pseudonyms: Pseudonyms | None = None
) -> Summary:
    scope = Scope(moment(first, BERLIN), moment(last, BERLIN, end=True), BERLIN, devices)
    folder = book.parent / "work"
    folder.mkdir(exist_ok=True)
    with snapshot(book, folder, lambda done, of: None) as connection:
        return summarise(connection, scope, pseudonyms)


@pytest.fixture
def both_days(book: Path) -> Summary:
    return ask(book, "2026-11-22", "2026-11-23")


def test_pages_are_counted_by_the_local_day_and_kind(both_days: Summary) -> None:
    assert both_days.pages.by_day == {
        date(2026, 11, 22): {"copy": 15, "print": 10, "scan": 5},
        date(2026, 11, 23): {"print": 7},
    }
    assert (both_days.pages.jobs, both_days.pages.pages, both_days.pages.color_pages) == (5, 37, 5 + 6 + 1 + 2 + 3)


def test_a_day_ends_at_midnight_of_the_zone(book: Path) -> None:
    assert ask(book, "2026-11-22", "2026-11-22").pages.pages == 30
    assert ask(book, "2026-11-23", "2026-11-23").pages.pages == 7


def test_copiers_are_ordered_by_their_pages(both_days: Summary) -> None:
    rows = [(row.name, row.jobs, row.pages, row.parts) for row in both_days.devices.rows]
    assert rows == [
        ("KM-A4F-000123", 2, 22, {"copy": 12, "print": 10}),
        ("KM-2", 3, 15, {"copy": 3, "print": 7, "scan": 5}),
    ]


def test_people_have_the_name_the_server_took_the_records_for(both_days: Summary) -> None:
    rows = [(row.naming, row.name, row.pages, row.parts) for row in both_days.users.rows]
    assert rows == [
        (Naming.USER, "ada", 22, {"offline": 12, "online": 10}),
        (Naming.CARD, "04BEEF", 7, {"online": 7}),
        (Naming.NOBODY, "", 5, {"offline": 5}),
        (Naming.UNKNOWN, "", 3, {"offline": 3}),
    ]


def test_without_a_delivery_a_person_has_the_name_that_card_memory_knows(book: Path) -> None:
    with closing(Ledger.open(book, at(1000))) as ledger:
        ledger.commit([page(9, 1000, 1, "copy")])
    rows = ask(book, "2026-11-23", "2026-11-23").users.rows
    assert [(row.naming, row.name, row.pages) for row in rows if row.pages == 1] == [(Naming.USER, "ada", 1)]


def test_cards_that_nobody_has_are_listed(both_days: Summary) -> None:
    (card,) = both_days.unknown_cards
    assert (card.card, card.jobs, card.pages, card.devices) == ("FFEE01", 1, 3, 1)
    assert (card.first, card.last) == (at(30), at(30))


def test_an_outage_tells_what_was_done_in_it(both_days: Summary) -> None:
    (outage,) = both_days.outages
    assert (outage.started, outage.offline, outage.recovered, outage.drained) == (at(10), at(12), at(70), at(72))
    assert (outage.lasted, outage.let_in) == (60 * MINUTE, 2)
    assert (outage.jobs, outage.pages, outage.taken_since) == (3, 20, 2)
    assert (both_days.logins.by_server, both_days.logins.by_locum) == (1, 2)


def test_of_an_outage_only_the_part_in_the_period_counts(book: Path) -> None:
    (outage,) = ask(book, "2026-11-22T09:25", "2026-11-22T09:35").outages
    assert (outage.lasted, outage.jobs, outage.pages, outage.let_in) == (10 * MINUTE, 1, 3, 0)
    assert ask(book, "2026-11-22T10:20", "2026-11-22T11:00").outages == ()


def test_an_outage_that_goes_on_is_measured_to_the_newest_entry(book: Path) -> None:
    with closing(Ledger.open(book, at(1000))) as ledger:
        ledger.commit([step("failed", "grace", at=at(1000), outage=at(1000))])
        ledger.commit([Note(at(1007), "config", {})])
    outage = ask(book, "2026-11-22", "2026-11-30").outages[-1]
    assert (outage.recovered, outage.lasted) == (None, 7 * MINUTE)


def test_records_are_told_by_what_became_of_them(both_days: Summary) -> None:
    fates = both_days.fates
    assert (fates.records, fates.delivered, fates.waiting, fates.rejected, fates.other) == (5, 3, 1, 1, 0)
    assert {(each.state, each.reason, each.records, each.pages) for each in both_days.open} == {
        ("rejected", NO_PRINTER, 1, 5),
        ("waiting", "", 1, 7),
    }


def test_what_is_open_is_told_whatever_the_period(book: Path) -> None:
    later = ask(book, "2026-12-01", "2026-12-02")
    assert (later.pages.jobs, later.fates.records, len(later.open)) == (0, 0, 2)


def test_only_the_devices_asked_for_are_counted(book: Path) -> None:
    one = ask(book, "2026-11-22", "2026-11-23", ("KM-2", 'it\'s "none"'))
    assert (one.pages.pages, one.devices.many, one.fates.records) == (15, 1, 3)
    assert [(each.jobs, each.let_in) for each in one.outages] == [(2, 0)]


def test_people_did_what_they_did(both_days: Summary) -> None:
    assert both_days.unlocks.counts == {"unlocked": 1, "wrong-code": 1}
    assert [(each.device, each.did, each.who) for each in both_days.drills] == [("KM-1", "start", "root (0)")]
    assert [(deed.did, deed.words) for deed in both_days.by_hand.rows] == [
        ("drill start", "new copier"),
        ("by-hand", '{"did":"claim"}'),
    ]
    assert both_days.troubles.gaps == 1


def test_the_rows_of_twenty_are_shown_and_the_rest_added_up(book: Path) -> None:
    with closing(Ledger.open(book, at(1000))) as ledger:
        ledger.commit([page(100 + n, 1000, 100 + n, "copy", device=f"D{n:02}") for n in range(30)])
    found = ask(book, "2026-11-22", "2026-11-23").devices
    assert (found.many, len(found.rows), found.rows[0].name) == (32, 21, "D29")
    others = found.rows[-1]
    assert (others.naming, others.name) == (Naming.OTHERS, "12")
    assert sum(row.pages for row in found.rows) == found.pages == 37 + sum(range(100, 130))


def test_pseudonyms_hide_people_and_what_was_typed_but_no_figure(book: Path, both_days: Summary) -> None:
    hidden = ask(book, "2026-11-22", "2026-11-23", pseudonyms=Pseudonyms())
    assert [row.pages for row in hidden.users.rows] == [row.pages for row in both_days.users.rows]
    names = {row.name for row in hidden.users.rows} | {each.card for each in hidden.unknown_cards}
    assert names & {"ada", "04BEEF", "FFEE01"} == set()
    assert [deed.words for deed in hidden.by_hand.rows] == ["", ""]


def test_the_usual_period_is_thirty_days_or_as_old_as_the_ledger(book: Path) -> None:
    with closing(Ledger.open(book, at(0))) as ledger:
        ledger.commit([Note(at(0) + 60 * 24 * 60 * MINUTE, "config", {})])
        with snapshot(book, book.parent, lambda done, of: None) as connection:
            first, last = usual_period(connection, BERLIN)
    assert (first, last) == (last - timedelta(days=29), date(2027, 1, 21))


def test_the_usual_period_of_a_young_ledger_begins_with_it(book: Path) -> None:
    with snapshot(book, book.parent, lambda done, of: None) as connection:
        assert usual_period(connection, BERLIN) == (date(2026, 11, 22), date(2026, 11, 23))


def test_a_job_reported_twice_counts_once(book: Path) -> None:
    """A device says counts in an interim update and again at the stop: the view `jobs_counted` takes the stop."""
    interim = page(50, 2000, 4, "copy", event="interim", session="s50", job_number="50")
    stop = page(51, 2001, 9, "copy", event="stop", session="s50", job_number="50")
    with closing(Ledger.open(book, at(2000))) as ledger:
        ledger.commit([interim, stop])
    found = ask(book, "2026-11-23T10:00", "2026-11-24").pages
    assert (found.jobs, found.pages, found.superseded) == (1, 9, 1)
