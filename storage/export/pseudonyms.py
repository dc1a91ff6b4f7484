"""Pseudonyms: the same person gets the same sixteen letters all through one export, and others in the next.

A pseudonym is the beginning of HMAC-SHA-256(key, field || value) in hexadecimal; the key is random and thrown away when
the export is made, so nobody can try all card numbers against it. Empty stays empty. Cards are taken as card memory has
them, so that `04a2` and `04A2` are one.
"""

from __future__ import annotations

import hmac
import os
import re
from functools import lru_cache

from storage.cards import normalised

FIELDS = ("card", "user", "document", "account")
LENGTH = 16
_REMEMBERED = 50_000
_SHORTEST_NAME = 3
_OF_PERSONAL = re.compile(r"\b(FROM|JOIN) personal\b")


def with_pseudonyms(query: str) -> str:
    """A query of the ledger that reads the table `pseudonyms` in place of `personal`."""
    return _OF_PERSONAL.sub(r"\1 pseudonyms", query)


class Pseudonyms:
    """Those of one export."""

    def __init__(self) -> None:
        key = os.urandom(32)

        @lru_cache(maxsize=_REMEMBERED)
        def of(field: str, value: str) -> str:
            if not value:
                return ""
            if field == "card":
                value = normalised(value)
            return hmac.digest(key, (field + value).encode(), "sha256").hex()[:LENGTH]

        self.of = of
        """The pseudonym of a field's value."""

    def in_words(self, text: str, named: list[tuple[str, str]]) -> str:
        """A text of the server or the device in which these (field, value) may be named, without them."""
        for field, value in named:
            if len(value) >= _SHORTEST_NAME and value in text:
                text = text.replace(value, self.of(field, value))
        return text
