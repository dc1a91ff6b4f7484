"""Erasing a card and erasing what is old: which rows go, what stays, what is noted, and that nothing is left in the
file.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage import database, erasure, keeping, proof
from storage import ledger as ledgers
from storage.answers import Erased, Stored
from storage.errors import NotStorable
from storage.ledger import Ledger
from storage.records import (
    AppLogLine,
    Delivery,
    EraseCard,
    EraseOld,
    Keepable,
    Note,
    OutboxState,
    Personal,
    Quarantined,
    Retry,
)
from storage.remnants import remnants
from tests.unit.storage_samples import DAY, NOW, job, login

CARD = "04A2B3C4D5"
OTHER = "0555555555"
UNNOTED = """SELECT (SELECT count(*) FROM entries e WHERE json_extract(body, '$.data.personal') IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM personal p WHERE p.seq = e.seq))
- (SELECT coalesce(sum(json_extract(data, '$.entries')), 0) FROM notes WHERE note = 'erased')"""


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


def keep(ledger: Ledger, *items: Keepable) -> list[int]:
    outcomes = ledger.commit(items)
    assert all(isinstance(outcome, Stored) for outcome in outcomes), outcomes
    return [outcome.seq for outcome in outcomes if isinstance(outcome, Stored)]


def erase(ledger: Ledger, card: str = CARD, **given: Any) -> Erased:
    (outcome,) = ledger.commit([EraseCard(NOW + DAY, card, "root", **given)])
    assert isinstance(outcome, Erased), outcome
    return outcome


def erase_old(ledger: Ledger, before: int, limit: int = 100, at: int = NOW + DAY) -> Erased:
    (outcome,) = ledger.commit([EraseOld(at, before, limit)])
    assert isinstance(outcome, Erased), outcome
    return outcome


def delivered(number: int, card: str = CARD, **changes: Any) -> list[Keepable]:
    """A record of a card that the server has taken, as the `number`th entry."""
    return [
        job(number, personal=Personal(card=card, user="", document=f"secret-{number}", raw=card.encode()), **changes),
        Delivery(NOW, number, "hq", "delivered", None, 1, user="ada.lovelace"),
    ]


def with_personal(path: Path) -> list[int]:
    return [seq for (seq,) in ask(path, "SELECT seq FROM personal ORDER BY seq")]


def bytes_of(path: Path) -> bytes:
    """What lies on the disk of a ledger, the WAL with it."""
    return b"".join(each.read_bytes() for each in path.parent.glob(path.name + "*"))


def test_all_that_leads_from_a_card_to_a_person_is_deleted_and_nothing_else(ledger: Ledger, path: Path) -> None:
    keep(ledger, *delivered(1), *delivered(3, OTHER))
    keep(ledger, login(CARD), login(OTHER))
    keep(ledger, AppLogLine(NOW, "warning", "a card that nobody has", personal=Personal(card=CARD)))
    keep(ledger, Quarantined(NOW, "radius", "KM-1", "10.7.0.31", "overruns", b"\x01\x0c" + CARD.encode() + b"P\x12"))
    keep(ledger, Quarantined(NOW, "radius", "KM-1", "10.7.0.31", "overruns", b"\x01\x0d9" + CARD.encode()))
    assert erase(ledger) == Erased(5, 10, first=1)
    assert with_personal(path) == [3, 4, 6, 9]
    assert ask(path, "SELECT card FROM cards") == [(OTHER,)]
    assert ask(path, "SELECT count(*) FROM entries") == [(10,)]
    with database.reading(path) as reader:
        assert proof.walk(reader).ok


def test_the_erasure_is_noted_with_who_and_why_but_neither_card_nor_entries(ledger: Ledger, path: Path) -> None:
    keep(ledger, *delivered(1))
    erase(ledger, reason="asked for by letter")
    ((who, data),) = ask(path, "SELECT who, data FROM notes WHERE note = 'erased'")
    assert (who, json.loads(data)) == ("root", {"what": "card", "entries": 2, "reason": "asked for by letter"})
    assert ask(path, UNNOTED) == [(0,)]


def test_nothing_of_the_card_is_left_in_any_file(ledger: Ledger, path: Path) -> None:
    keep(ledger, *delivered(1, order_key=f"card|{CARD}"), login(CARD.lower()))
    before = bytes_of(path).upper()
    assert all(trace in before for trace in (CARD.encode(), b"SECRET-1", b"ADA.LOVELACE"))
    erase(ledger)
    after = bytes_of(path).upper()
    assert not any(trace in after for trace in (CARD.encode(), b"SECRET-1", b"ADA.LOVELACE"))


def test_a_reader_delays_only_the_last_traces_and_no_commit(ledger: Ledger, path: Path) -> None:
    keep(ledger, *delivered(1))
    with database.reading(path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM personal").fetchall()
        erase(ledger)
        keep(ledger, Note(NOW, "start", {}))
        reader.execute("COMMIT")
    ledger._empty_wal_at = 0.0
    keep(ledger, Note(NOW, "start", {}))
    assert CARD.encode() not in bytes_of(path)


def test_what_a_cut_off_run_left_in_the_wal_goes_with_the_next_run(path: Path, tmp_path: Path) -> None:
    ledger = Ledger.open(path, NOW)
    keep(ledger, *delivered(1))
    with database.reading(path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM personal").fetchall()
        erase(ledger)
        copy = tmp_path / "after-a-power-cut"
        copy.mkdir()
        for name in ("ledger.db", "ledger.db-wal"):
            (copy / name).write_bytes((tmp_path / name).read_bytes())
    ledger.close()
    assert CARD.encode() in bytes_of(copy / "ledger.db")
    again = Ledger.open(copy / "ledger.db", NOW)
    keep(again, Note(NOW, "start", {}))
    assert CARD.encode() not in bytes_of(copy / "ledger.db")
    again.close()


@pytest.mark.parametrize("written", ["04a2b3c4d5", "04A2B3C4D5"])
def test_a_card_is_known_in_any_case(ledger: Ledger, path: Path, written: str) -> None:
    keep(ledger, login(CARD), login(CARD.lower()))
    assert erase(ledger, written).entries == 2
    assert ask(path, "SELECT count(*) FROM cards") == [(0,)]


def test_letters_beyond_ascii_are_known_in_any_case_too(ledger: Ledger) -> None:
    keep(ledger, login("stra\u00dfe7"), login("STRASSE7"), login("\u00e4bc"), login("\u00c4BC"))
    assert erase(ledger, "Strasse7").entries == 2
    assert erase(ledger, "\u00c4bc").entries == 2


def test_leading_zeros_and_longer_numbers_make_another_card(ledger: Ledger, path: Path) -> None:
    keep(ledger, login("4A2B3C4D5"), login(CARD + "0"), login("0" + CARD))
    assert erase(ledger) == Erased(0)
    assert with_personal(path) == [1, 2, 3]


def test_a_card_that_stands_as_the_user_is_erased_too(ledger: Ledger, path: Path) -> None:
    keep(ledger, job(1, outbox=None, personal=Personal(user=CARD.lower(), raw=b"x")))
    assert erase(ledger).entries == 1


def test_a_correction_by_hand_of_the_card_s_record_is_erased_and_others_stay(ledger: Ledger, path: Path) -> None:
    keep(ledger, job(1, personal=Personal(card=CARD)), job(2, personal=Personal(card=OTHER)))
    for number in (1, 2):
        ledger.commit([Delivery(NOW, number, "hq", "refused", OutboxState.REJECTED, 1)])
        ledger.commit([Retry(NOW, (number,), "root", (("user", f"grace{number}"),))])
        ledger.commit([Delivery(NOW, number, "hq", "delivered", None, 2)])
    assert erase(ledger).entries == 2
    assert ask(path, "SELECT user FROM personal ORDER BY seq") == [("",), ("grace2",)]


def test_while_a_record_of_the_card_waits_nothing_is_erased(ledger: Ledger, path: Path) -> None:
    keep(ledger, login(CARD), job(1, personal=Personal(card=CARD)), job(2, personal=Personal(card=CARD)))
    assert erase(ledger) == Erased(0, waiting=2, first=1)
    assert with_personal(path) == [1, 2, 3]
    assert ask(path, "SELECT count(*) FROM notes") == [(0,)]
    assert ask(path, "SELECT card FROM cards") == [(CARD,)]


def test_where_nothing_leads_to_the_card_nothing_is_noted(ledger: Ledger, path: Path) -> None:
    keep(ledger, login(OTHER))
    assert erase(ledger) == Erased(0)
    assert ask(path, "SELECT count(*) FROM notes") == [(0,)]


def test_what_was_kept_in_the_same_commit_before_is_erased_too(ledger: Ledger, path: Path) -> None:
    outcomes = ledger.commit([login(CARD), EraseCard(NOW, CARD, "root"), login(CARD)])
    assert outcomes[1] == Erased(1, 2, first=1)
    assert with_personal(path) == [3]


@pytest.mark.parametrize(("card", "reason"), [("", ""), (CARD, f"letter about {CARD.lower()}"), (None, ""), (7, "")])
def test_what_cannot_be_erased_or_noted_changes_nothing(ledger: Ledger, path: Path, card: Any, reason: str) -> None:
    keep(ledger, login(CARD), Quarantined(NOW, "radius", "KM-1", "10.7.0.31", "overruns", CARD.encode()))
    (outcome,) = ledger.commit([EraseCard(NOW, card, "root", reason)])
    assert isinstance(outcome, NotStorable)
    assert with_personal(path) == [1, 2]
    assert ask(path, "SELECT count(*) FROM notes") == [(0,)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"User=04A2B3C4D5", True),
        (b"User=04a2b3c4d5;", True),
        (b"<value>04A2B3C4D5</value>", True),
        (b"04A2B3C4D5", True),
        (b"04A2B3C4D56", False),
        (b"x04A2B3C4D5", False),
        (b"\x01\x0c04A2B3C4D5P\x12", True),
        (b"\x01\x0d04A2B3C4D5P\x12", False),
        (b"", False),
    ],
)
def test_a_number_stands_in_bytes_whole_or_as_an_attribute_of_radius(text: bytes, found: bool) -> None:
    assert erasure.names(text, CARD) is found


def test_a_number_may_be_long_or_full_of_signs() -> None:
    assert erasure.names(b" (*.[$ ", "(*.[$")
    assert erasure.names(b"x" * 400, "x" * 400)


def test_old_entries_lose_their_personal_data_in_bites(ledger: Ledger, path: Path) -> None:
    keep(ledger, *(login(f"0000000{number}", at=NOW + number) for number in range(1, 8)))
    assert erase_old(ledger, NOW + 6, limit=3) == Erased(3, 8, first=1)
    assert erase_old(ledger, NOW + 6, limit=3) == Erased(2, 9, first=4)
    assert erase_old(ledger, NOW + 6, limit=3) == Erased(0)
    assert with_personal(path) == [6, 7]
    assert [json.loads(data) for (data,) in ask(path, "SELECT data FROM notes")] == [
        {"what": "age", "before": "2026-11-22T10:15:03.126Z", "entries": count} for count in (3, 2)
    ]
    assert ask(path, UNNOTED) == [(0,)]


def test_old_records_in_the_outbox_keep_theirs(ledger: Ledger, path: Path) -> None:
    keep(ledger, job(1), *delivered(2))
    assert erase_old(ledger, NOW + 1).entries == 2
    assert with_personal(path) == [1]


def test_cards_without_a_word_since_then_are_forgotten(ledger: Ledger, path: Path) -> None:
    keep(ledger, login(CARD, at=NOW), login(OTHER, at=NOW), login(OTHER, at=NOW + DAY))
    erase_old(ledger, NOW + 1)
    assert ask(path, "SELECT card FROM cards") == [(OTHER,)]


def test_a_clock_that_ran_behind_makes_no_entry_old(ledger: Ledger, path: Path) -> None:
    keep(ledger, Note(NOW, "start", {}), login(CARD, at=NOW), Note(0, "start", {}), login(CARD, at=5_000))
    keep(ledger, Note(NOW + 1000, "clock-step", {"milliseconds": 2 * DAY}), login(CARD, at=NOW + 1001))
    assert erase_old(ledger, NOW - DAY) == Erased(0)
    assert erase_old(ledger, NOW + 1001).entries == 2
    assert with_personal(path) == [6]


def test_a_clock_that_ran_ahead_hides_no_later_entry(ledger: Ledger, path: Path) -> None:
    ahead = NOW + 4000 * DAY
    keep(ledger, login(CARD, at=NOW - 9), Note(ahead, "start", {}))
    keep(ledger, *(login(f"{number:08}", at=ahead + number) for number in range(150)))
    keep(ledger, Note(NOW, "clock-step", {"milliseconds": -1}), login(OTHER, at=NOW))
    assert erase_old(ledger, NOW + 1).entries == 2
    assert len(with_personal(path)) == 150


@pytest.mark.parametrize(("days", "held"), [(2, False), (400, True)])
def test_after_the_clock_was_set_far_forward_nothing_is_erased_for_a_day(ledger: Ledger, days: int, held: bool) -> None:
    jump = days * DAY
    keep(ledger, login(CARD), Note(NOW + jump, "clock-step", {"milliseconds": jump}))
    soon, later = NOW + jump + 1000, NOW + jump + DAY + 1000
    assert erase_old(ledger, soon - DAY, at=soon).clock_jump == (jump if held else 0)
    if held:
        assert erase_old(ledger, later - DAY, at=later).entries == 1


def test_a_start_long_after_the_last_entry_counts_as_such_a_jump(ledger: Ledger) -> None:
    start = NOW + 400 * DAY
    keep(ledger, login(CARD), Note(start, "key", {}), Note(start + 40, "start", {}))
    assert erase_old(ledger, start - DAY, at=start + 90_000).clock_jump == 400 * DAY + 40
    assert erase_old(ledger, start - DAY, at=start + DAY + 90_000).entries == 1


def test_bytes_of_old_quarantined_records_go_and_are_noted(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "QUARANTINE_KEPT", 2)
    bad = [Quarantined(NOW, "radius", "KM-1", "10.7.0.31", "overruns", b"%d" % number) for number in range(5)]
    keep(ledger, *bad, *delivered(6))
    assert with_personal(path) == [4, 5, 6, 7]
    assert ask(path, "SELECT data FROM notes WHERE note = 'erased'") == [('{"entries":3,"what":"quarantine"}',)]
    assert ask(path, UNNOTED) == [(0,)]
    with database.reading(path) as reader:
        assert proof.walk(reader).ok


def test_quarantined_bytes_that_an_older_locum_deleted_are_noted_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(path, NOW)
    keep(ledger, *(Quarantined(NOW, "radius", "KM-1", "10.7.0.31", "overruns", b"%d" % number) for number in range(5)))
    ledger.close()
    with sqlite3.connect(path) as older:
        older.execute("DELETE FROM personal WHERE seq IN (1, 2)")
    monkeypatch.setattr(ledgers, "QUARANTINE_KEPT", 2)
    for _ in range(2):
        ledger = Ledger.open(path, NOW)
        keep(ledger, login(CARD))
        ledger.close()
    assert ask(path, "SELECT data FROM notes WHERE note = 'erased'") == [('{"entries":3,"what":"quarantine"}',)]
    assert ask(path, UNNOTED) == [(0,)]


def test_what_sqlite_leaves_behind_when_most_is_erased_is_found_and_a_vacuum_removes_it(path: Path) -> None:
    chance = random.Random(4)
    cards = [f"{chance.getrandbits(40):010X}" for _ in range(150)]
    ledger = Ledger.open(path, NOW)
    for number in range(3_000):
        card = chance.choice(cards)
        raw = card.encode() + bytes(chance.randrange(300))
        keep(ledger, job(number, outbox=None, personal=Personal(card=card, raw=raw)))
    erased = cards[:110]
    for card in erased:
        erase(ledger, card)
    ledger.close()

    def found() -> set[str]:
        data = path.read_bytes()
        return {card for card in erased if card.encode() in data}

    assert {card for card in erased if remnants(path, card).unused} == found()
    keeping.vacuum(path, NOW)
    assert not found()
