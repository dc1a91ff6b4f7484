"""Records on their way to the server: what became of those of the period, and what is in the outbox now.

The outbox is shown as it is when the copy is made, whatever the period, because whoever reads the report wants to know
what is still open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from storage import times
from storage.summary.scope import Source

_OPEN = """SELECT o.state, o.upstream, o.reason, o.at, coalesce(j.pages, 0),
  coalesce(p.card, ''), coalesce(p.user, ''), coalesce(p.document, '')
FROM outbox o LEFT JOIN jobs j ON j.seq = o.seq LEFT JOIN {persons} p ON p.seq = o.seq WHERE {devices}"""


@dataclass(frozen=True, slots=True)
class Fates:
    """How many records of the period there are, and what became of them by now. `other`: neither taken, open nor given
    up, such as what needed no forwarding. `maybe_twice`: of all, how many the server may have twice.
    """

    records: int
    delivered: int
    waiting: int
    in_doubt: int
    rejected: int
    given_up: int
    other: int
    maybe_twice: int


@dataclass(frozen=True, slots=True)
class Open:
    """Records in the outbox that share state, server and reason. `state`: waiting, in_doubt, rejected. `oldest`: ms."""

    state: str
    upstream: str
    reason: str
    records: int
    pages: int
    oldest: int


def fates(source: Source) -> Fates:
    """Raises sqlite3.Error."""
    outbox = "outbox" if source.has_outbox else "(SELECT 0 AS seq, '' AS state WHERE false)"
    rows = source.connection.execute(
        f"""SELECT CASE o.state WHEN 'sent' THEN 'waiting' ELSE coalesce(o.state,
            CASE WHEN f.delivered THEN 'delivered' WHEN f.given_up THEN 'given_up' ELSE 'other' END) END AS fate,
          count(*), coalesce(sum(f.maybe_twice), 0)
        FROM records r LEFT JOIN report_fates f ON f.record = r.seq LEFT JOIN {outbox} o ON o.seq = r.seq
        WHERE r.at BETWEEN ? AND ? AND {source.of_devices("r.device")} GROUP BY fate""",
        source.period,
    ).fetchall()
    found = {fate: count for fate, count, _ in rows}
    return Fates(
        records=sum(found.values()),
        delivered=found.get("delivered", 0),
        waiting=found.get("waiting", 0),
        in_doubt=found.get("in_doubt", 0),
        rejected=found.get("rejected", 0),
        given_up=found.get("given_up", 0),
        other=found.get("other", 0),
        maybe_twice=sum(twice for _, _, twice in rows),
    )


def still_open(source: Source) -> list[Open]:
    """What is in the outbox, the most records first. Raises sqlite3.Error."""
    if not source.has_outbox:
        return []
    found: dict[tuple[str, str, str], Open] = {}
    query = _OPEN.format(persons=source.persons, devices=source.of_devices("o.device"))
    for state, upstream, reason, at, pages, card, user, document in source.connection.execute(query):
        standing = "waiting" if state == "sent" else state
        words = source.said(reason, card=card, user=user, document=document)
        key = standing, upstream, words
        since = times.milliseconds(at)
        before = found.get(key) or Open(*key, 0, 0, since)
        found[key] = replace(
            before, records=before.records + 1, pages=before.pages + pages, oldest=min(before.oldest, since)
        )
    return sorted(found.values(), key=lambda each: (-each.records, each.state, each.upstream, each.reason))
