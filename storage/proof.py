"""What makes the ledger provable: the canonical form, the chain of hashes, the commitments, and the walk along the
chain.

Canonical form is RFC 8785 (JCS) for the values that occur here: text, whole numbers in the safe range, booleans,
null, objects with ASCII keys, arrays. No floating point: numbers are pages, bytes and milliseconds. Each entry's hash
covers the one before it; personal data is outside and stands in the body as an HMAC under a salt of its own, so that
it can be erased. Checkpoints (signatures) and the full verify are left out here.
"""

from __future__ import annotations

import hmac
import re
import sqlite3
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from storage.records import Personal

SAFE = 2**53 - 1
SALT_BYTES = 32
GENESIS = bytes(32)
REPLACEMENT = "\ufffd"
_DOMAIN = b"locum-entry-1"
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""An escaped NUL, not a backslash that is followed by the letters."""

_encode = msgspec.json.Encoder(order="sorted").encode


class NotCanonical(ValueError):
    """The text holds lone surrogates or NULs, which no foreign tool reads back as they are."""


def canonical(value: object) -> bytes:
    """RFC 8785 of text, safe whole numbers, booleans, None, lists, dicts with ASCII keys; bytes as base64 text.

    Raises ValueError or TypeError for anything else.
    """
    _check(value)
    return _encode(value)


class Committed(msgspec.Struct):
    """What a commitment is to; members in canonical order, which is the order in which a Struct is encoded."""

    account: str
    card: str
    document: str
    raw: bytes
    user: str


def canonical_checked(value: dict[str, Any] | Committed) -> bytes:
    """As `canonical` for a value that is of the right types by construction. Raises `NotCanonical` for text to be
    cleaned.
    """
    try:
        encoded = _encode(value)
    except UnicodeEncodeError as error:
        raise NotCanonical(str(error)) from None
    if b"\\u0000" in encoded and _ESCAPED_NUL.search(encoded):
        raise NotCanonical("a NUL in a text")
    return encoded


def clean(text: str) -> str:
    """The text with U+FFFD in place of NULs and lone surrogates; what the wire said stands in the raw bytes."""
    if text.isprintable():
        return text
    return "".join(REPLACEMENT if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def entry_hash(prev_hash: bytes, body: bytes) -> bytes:
    """SHA-256("locum-entry-1" || the 32 bytes of the entry before || canonical body)."""
    return sha256(_DOMAIN + prev_hash + body).digest()


def commitment(salt: bytes, personal: Personal) -> str:
    """Hex of HMAC-SHA-256(salt, canonical JSON of account, card, document, raw in base64, and user)."""
    fields = Committed(personal.account, personal.card, personal.document, personal.raw, personal.user)
    return hmac.digest(salt, canonical_checked(fields), "sha256").hex()


def _check(value: object) -> None:
    if value is None or isinstance(value, bool | bytes):
        return
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, int):
        if not -SAFE <= value <= SAFE:
            raise ValueError(f"{value} is outside of what JSON numbers hold exactly")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise ValueError(f"{key!r} is no ASCII key")
            _check(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item)
    else:
        raise TypeError(f"{type(value).__name__} has no place in an entry")


@dataclass(frozen=True, slots=True)
class ChainReport:
    """How far the chain holds: so many `entries` do; `first_bad` says what is wrong first and where, or None."""

    entries: int
    ok: bool
    first_bad: str | None


def walk(connection: sqlite3.Connection, first: int = 1, through: int = SAFE) -> ChainReport:
    """Read the entries from `first` through `through` in order and check number, link and hash; what the first of them
    links to is known of the ledger's first only. Raises sqlite3.Error if the file cannot be read.
    """
    expected, head, count = first, GENESIS if first == 1 else None, 0
    rows = connection.execute(
        "SELECT seq, body, prev_hash, hash FROM entries WHERE seq BETWEEN ? AND ? ORDER BY seq", (first, through)
    )
    for seq, body, prev_hash, own_hash in rows:
        encoded = body.encode()
        wrong = None
        if seq != expected:
            wrong = f"entry {expected} is missing: entry {seq} follows {expected - 1}"
        elif head is not None and prev_hash != head:
            wrong = f"entry {seq} does not link to the entry before it"
        elif entry_hash(prev_hash, encoded) != own_hash:
            wrong = f"entry {seq} was changed: its hash does not fit its body"
        elif not encoded.endswith(b'"seq":%d}' % seq):
            wrong = f"entry {seq} stands under another number than its body says"
        if wrong is not None:
            return ChainReport(entries=count, ok=False, first_bad=wrong)
        expected, head, count = seq + 1, own_hash, count + 1
    return ChainReport(entries=count, ok=True, first_bad=None)
