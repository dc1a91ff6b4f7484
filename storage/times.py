"""Times as the ledger writes them: ISO 8601 in UTC with milliseconds, 2026-11-22T10:15:03.120Z.

Such texts sort as the times do, and every SQLite tool's date functions read them. Between modules a time is always
milliseconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")


@lru_cache(maxsize=256)
def text(milliseconds: int) -> str:
    """The text of a time. Raises OverflowError outside the years 1 to 9999."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


def text_or_none(milliseconds: int | None) -> str | None:
    """The text of a time that may not be there; 0 counts as not there."""
    return text(milliseconds) if milliseconds else None


def milliseconds(written: str) -> int:
    """The time that such a text stands for. Raises ValueError for any other text."""
    return (datetime.fromisoformat(written) - _EPOCH) // _MILLISECOND


def milliseconds_or_zero(written: str | None) -> int:
    """As `milliseconds`; 0 for what is not there."""
    return milliseconds(written) if written else 0


def compact(milliseconds: int) -> str:
    """A time for file names, to the second: 20261122T101503Z."""
    return _second(milliseconds // 1000).replace("-", "").replace(":", "") + "Z"
