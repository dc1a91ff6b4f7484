"""Card memory: what the server last said of a card, learnt from logins and asked when the server is away.

A card is known by its upper-case text; leading zeros count, and no other sense is made of it. Nothing is deleted for
being old: whoever asks compares times, so that a longer `card_memory` takes effect at once.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from storage import proof, times
from storage.answers import CardFacts
from storage.errors import in_our_words
from storage.records import Login
from storage.rows import Target

_LEARN = """ON CONFLICT (card) DO UPDATE SET
user = CASE WHEN excluded.user <> '' THEN excluded.user ELSE user END,
granted_at = coalesce(excluded.granted_at, granted_at),
last_word = excluded.last_word, last_word_at = excluded.last_word_at"""
LESSONS = Target("cards", ("card", "user", "granted_at", "last_word", "last_word_at"), otherwise=_LEARN)


def normalised(card: str) -> str:
    """The form under which a card is remembered."""
    return card.upper()


def lesson(login: Login) -> tuple[Any, ...] | None:
    """The row that a login teaches; None where the server gave no word on a card."""
    if login.outcome not in ("granted", "refused") or not login.personal.card:
        return None
    at = times.text(login.at)
    granted = login.outcome == "granted"
    card, user = normalised(proof.clean(login.personal.card)), proof.clean(login.personal.user)
    return (card, user if granted else "", at if granted else None, login.outcome, at)


class CardMemory:
    """Reads what is remembered, over a connection of `database.open_reader`; fast enough to be asked on the reactor."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader

    @in_our_words
    def facts(self, card: str) -> CardFacts | None:
        """What is known of a card; None if the server never gave a word on it. Raises StorageError."""
        row = self._reader.execute(
            "SELECT granted_at, last_word, user FROM cards WHERE card = ?", (normalised(proof.clean(card)),)
        ).fetchone()
        if row is None:
            return None
        granted_at, last_word, user = row
        return CardFacts(times.milliseconds(granted_at) if granted_at else None, last_word == "granted", user)
