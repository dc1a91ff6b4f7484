"""In whatever order cards are used and erased, time passes and Locum is killed: what is missing from `personal` is what
was noted as erased, the chain holds, and no byte of what was erased is left; a vacuum removes what SQLite left behind.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from storage import database, proof
from storage.answers import Erased, Stored
from storage.ledger import Ledger
from storage.records import AppLogLine, Delivery, EraseCard, EraseOld, Personal, Quarantined
from storage.remnants import remnants
from tests.unit.storage_samples import NOW, job, login
from tests.unit.test_storage_erasure import UNNOTED

CARDS = [f"C{number:02}RD{number * 7919:07X}" for number in range(12)]
cards = st.sampled_from(CARDS)


class Erasing(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.lives = 0
        self.now = NOW
        self.made = 0
        self.used: set[str] = set()
        self.gone: set[str] = set()
        self.waiting: dict[str, list[int]] = {}
        self.ledger = Ledger.open(self.path, self.now)

    @property
    def path(self) -> Path:
        place = Path(self.folder.name) / str(self.lives)
        place.mkdir(exist_ok=True)
        return place / "ledger.db"

    @rule(given=st.lists(st.tuples(cards, st.integers(0, 900), st.booleans()), min_size=1, max_size=30))
    def people_use_cards(self, given: list[tuple[str, int, bool]]) -> None:
        for card, size, waits in given:
            self.now += 1000
            self.made += 1
            whose = Personal(card, "", "", "", card.lower().encode() + bytes(size))
            record = job(self.made, at=self.now, order_key=f"card|{card}", personal=whose)
            stored = self.ledger.commit([login(card, at=self.now), record])[1]
            assert isinstance(stored, Stored)
            self.waiting.setdefault(card, []).append(stored.seq)
            if not waits:
                self._taken(card)
            self.used.add(card)

    @rule(card=cards)
    def somebody_looks_into_a_card(self, card: str) -> None:
        self.now += 1000
        bad = Quarantined(self.now, "radius", "KM-1", "10.7.0.31", "overruns", b"\x01\x0e" + card.encode() + b"P")
        self.ledger.commit([AppLogLine(self.now, "warning", "unknown card", personal=Personal(card=card)), bad])
        self.used.add(card)

    @rule(card=cards)
    def the_server_takes_what_waits(self, card: str) -> None:
        self._taken(card)

    def _taken(self, card: str) -> None:
        self.ledger.commit(
            [Delivery(self.now, seq, "hq", "delivered", None, 1, user="u") for seq in self.waiting.pop(card, [])]
        )

    @rule(card=cards)
    def a_card_is_erased(self, card: str) -> None:
        (outcome,) = self.ledger.commit([EraseCard(self.now, card, "root")])
        assert isinstance(outcome, Erased)
        assert outcome.waiting == len(self.waiting.get(card, []))
        if not outcome.waiting:
            assert (outcome.entries > 0) == (card in self.used)
            self._are_gone({card})

    @rule(seconds=st.integers(0, 60), limit=st.integers(1, 40))
    def what_is_old_is_erased(self, seconds: int, limit: int) -> None:
        while True:
            (outcome,) = self.ledger.commit([EraseOld(self.now, self.now - seconds * 1000, limit)])
            assert isinstance(outcome, Erased)
            if outcome.entries < limit:
                break
        with database.reading(self.path) as reader:
            left = {card for (card,) in reader.execute("SELECT card FROM personal UNION SELECT card FROM cards")}
            left |= {key.partition("|")[2] for (key,) in reader.execute("SELECT order_key FROM outbox")}
            bad = reader.execute("SELECT p.raw FROM quarantine q JOIN personal p ON p.seq = q.seq").fetchall()
        left |= {card for card in CARDS if any(card.encode() in raw for (raw,) in bad)}
        self._are_gone(self.used - left)

    def _are_gone(self, erased: set[str]) -> None:
        self.used -= erased
        self.gone |= erased

    @rule()
    def it_stops_and_starts(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.open(self.path, self.now)

    @rule()
    def it_is_killed(self) -> None:
        before, killed = self.path, self.ledger
        self.lives += 1
        for name in ("ledger.db", "ledger.db-wal"):
            if before.with_name(name).exists():
                shutil.copy(before.with_name(name), self.path.with_name(name))
        killed.close()
        self.ledger = Ledger.open(self.path, self.now)

    def _search_the_bytes(self) -> None:
        self.gone -= self.used
        told = {card for card in self.gone if remnants(self.path, card).unused}
        assert self._found() == told
        if told:
            vacuum = sqlite3.connect(self.path)
            vacuum.execute("VACUUM")
            vacuum.close()
        assert not self._found()

    def _found(self) -> set[str]:
        data = self.path.read_bytes().upper()
        return {card for card in self.gone if card.encode() in data}

    @invariant()
    def what_is_missing_was_noted(self) -> None:
        if not hasattr(self, "ledger"):
            return
        with database.reading(self.path) as reader:
            assert reader.execute(UNNOTED).fetchone() == (0,)

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            with database.reading(self.path) as reader:
                assert proof.walk(reader).ok
            self.ledger.close()
            self._search_the_bytes()
            self.folder.cleanup()


Erasing.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
test_erasing = Erasing.TestCase
