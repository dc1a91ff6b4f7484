"""Kept values as a day at the copiers makes them, for the tests of the ledger."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from storage.records import Counts, Login, Mode, OutageStep, Personal, Record

NOW = 1_795_342_503_120  # 2026-11-22T10:15:03.120Z
DAY = 24 * 3_600_000


def key_of(text: str) -> bytes:
    return sha256(text.encode()).digest()


def job(number: int = 1, *, at: int = NOW, key: str | None = None, **changes: Any) -> Record:
    """A job; `key` is what a repeat of it would share, by default its number."""
    given: dict[str, Any] = {
        "at": at,
        "dialect": "radius",
        "upstream": "hq",
        "device": "KM-A4F-000123",
        "client": "10.7.0.31",
        "event": "stop",
        "session": f"s{number}",
        "mode": Mode.OFFLINE,
        "order_key": f"KM-A4F-000123/s{number}",
        "personal": Personal(card="04A2B3", document="Leaflet", raw=b"\x04\x01" + number.to_bytes(4, "big")),
        "job_number": str(number),
        "counts": Counts("copy", 12, 2, 6, 1, True, "A4"),
        "repeat_scope": "10.7.0.31",
        "repeat_keys": (key_of(key if key is not None else str(number)),),
    }
    return Record(**{**given, **changes})


def mark(event: str, *, at: int = NOW, key: str, **changes: Any) -> Record:
    """An accounting record without counts."""
    return job(0, at=at, key=key, event=event, counts=None, **changes)


def restart(*, at: int = NOW, key: str = "on", **changes: Any) -> Record:
    """An Accounting-On."""
    return mark("on", at=at, key=key, ends_repeats=True, **changes)


def login(card: str = "04A2B3", *, at: int = NOW, **changes: Any) -> Login:
    """A login that the server granted."""
    given: dict[str, Any] = {
        "at": at,
        "dialect": "radius",
        "upstream": "hq",
        "device": "KM-A4F-000123",
        "client": "10.7.0.31",
        "method": "card",
        "outcome": "granted",
        "decided_by": "server",
        "reason": "",
        "mode": Mode.ONLINE,
        "personal": Personal(card=card, user="ada"),
        "teaches": True,
    }
    return Login(**{**given, **changes})


def offline_login(session: str, *, at: int = NOW, **changes: Any) -> Login:
    """A login that Locum granted."""
    given: dict[str, Any] = {
        "decided_by": "locum",
        "mode": Mode.OFFLINE,
        "session": session,
        "expires_at": at + 3_600_000,
        "personal": Personal(card="04A2B3"),
        "teaches": False,
    }
    return login(at=at, **{**given, **changes})


def step(name: str, state: str, *, at: int = NOW, outage: int = NOW, upstream: str = "hq") -> OutageStep:
    """A step of an outage."""
    return OutageStep(at, upstream, outage, name, state, "no answer in 3 s", "boot-1", 1_000)
