"""Outages that touch the period, what Locum did in each, and how the server was away in all.

An outage lasts from its first failed contact until contact was steadily back; of one that reaches out of the period
only the part inside counts, for its length as for what happened in it. Jobs count by when Locum took them, whoever let
the person in: the server could not take them then.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage import times
from storage.summary.scope import Source

_TOUCHING = """SELECT o.upstream, o.started, o.offline, o.recovered, o.drained, coalesce(o.cause, ''), o.first_seq,
  coalesce(o.recovered_seq, (SELECT max(seq) FROM entries))
FROM outages o WHERE o.started <= ?2 AND (o.recovered IS NULL OR o.recovered >= ?1)
AND EXISTS (SELECT 1 FROM outage_events e WHERE e.upstream = o.upstream AND e.outage = o.started
  AND e.step IN ('failed', 'offline'))
ORDER BY o.first_seq"""


@dataclass(frozen=True, slots=True)
class Outage:
    """Times in ms; None: not (yet). `lasted`: ms of it within the period. `let_in`: logins that Locum granted; `jobs`,
    `pages` and `taken_since` (jobs of these that the server has by now): what was made in it.
    """

    upstream: str
    started: int
    offline: int | None
    recovered: int | None
    drained: int | None
    cause: str
    lasted: int
    let_in: int
    jobs: int
    pages: int
    taken_since: int


def outages(source: Source, until: int) -> list[Outage]:
    """In order of their beginning; one that goes on is measured up to `until` (ms), when the copy was made. Raises
    sqlite3.Error.
    """
    rows = source.connection.execute(_TOUCHING, source.period).fetchall()
    return [_outage(source, until, *row) for row in rows]


def _outage(
    source: Source,
    until: int,
    upstream: str,
    started: str,
    offline: str | None,
    recovered: str | None,
    drained: str | None,
    cause: str,
    first_seq: int,
    last_seq: int,
) -> Outage:
    ask = source.connection.execute
    let_in = ask(
        f"""SELECT count(*) FROM logins WHERE seq BETWEEN ? AND ? AND upstream = ? AND decided_by = 'locum'
        AND outcome = 'granted' AND at BETWEEN ? AND ? AND {source.of_devices()}""",
        (first_seq, last_seq, upstream, *source.period),
    ).fetchone()[0]
    jobs, pages, taken = ask(
        """SELECT count(*), coalesce(sum(j.pages), 0), coalesce(sum(f.delivered), 0)
        FROM report_jobs j LEFT JOIN report_fates f ON f.record = j.seq
        WHERE j.seq BETWEEN ? AND ? AND j.upstream = ?""",
        (first_seq, last_seq, upstream),
    ).fetchone()
    began, ended = times.milliseconds(started), times.milliseconds(recovered) if recovered else until
    scope = source.scope
    return Outage(
        upstream=upstream,
        started=began,
        offline=times.milliseconds(offline) if offline else None,
        recovered=times.milliseconds(recovered) if recovered else None,
        drained=times.milliseconds(drained) if drained else None,
        cause=cause,
        lasted=max(0, min(ended, scope.last) - max(began, scope.first)),
        let_in=let_in,
        jobs=jobs,
        pages=pages,
        taken_since=taken,
    )
