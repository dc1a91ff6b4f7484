"""The time of a job as the server wants it: yyyyMMddTHHmmss in the server's own local time.

Such a text has no zone. In the hour that the end of daylight saving repeats, two moments an hour apart give the same
text, and the server cannot tell them apart; the hour that its beginning skips is never written, for every moment has a
local time outside it. The zone comes as an object, because its rules are read from files.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = 60_000
DAY = 86_400_000
FROM_THE_FUTURE = 5 * MINUTE
TOO_OLD = 7 * DAY


def local_text(milliseconds: int, zone: tzinfo) -> str:
    """The local time of a moment (ms UTC since 1970) in `zone`, to the second below.

    Raises OverflowError outside the years 1 to 9999.
    """
    local = (_EPOCH + timedelta(milliseconds=milliseconds)).astimezone(zone)
    return f"{local.year:04d}{local:%m%dT%H%M%S}"


def job_time(taken: int, started: int | None, ended: int | None) -> int:
    """When a job was, in ms: its device's word if that can be true, else when Locum took it.

    A device may hand a job over late, so its end, or else its start, counts if it is at most a week before `taken` and
    at most five minutes after it. A clock that was never set says neither.
    """
    for said in (ended, started):
        if said is not None and taken - TOO_OLD <= said <= taken + FROM_THE_FUTURE:
            return said
    return taken
