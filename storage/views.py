"""The auditor's usual questions as views: `SELECT * FROM jobs_by_card` needs no manual.

They hold no data of their own, so a migration may drop and make them anew. Sums of pages are those of `jobs_counted`: a
device may report a job's counts more than once, and a job counts once.
"""

from __future__ import annotations

from collections.abc import Iterable

_SUMS = "count(*) AS jobs, sum(pages) AS pages, sum(color_pages) AS color_pages, min(at) AS first, max(at) AS last"

_LAST = (1 << 63) - 1

VIEWS = {
    "jobs_full": """SELECT j.*, p.card, p.user, p.document, p.account, o.state AS outbox
FROM jobs j LEFT JOIN personal p ON p.seq = j.seq LEFT JOIN outbox o ON o.seq = j.seq""",
    "logins_full": "SELECT l.*, p.card, p.user FROM logins l LEFT JOIN personal p ON p.seq = l.seq",
    "records": """SELECT seq, id, at, device, client, dialect, upstream, event, session, mode, kind, pages FROM jobs
UNION ALL SELECT seq, id, at, device, client, dialect, upstream, event, session, mode, NULL, NULL FROM accounting""",
    # Asked for all such rows at once: a ledger at work has no index by which each could be looked up.
    "jobs_counted": """SELECT * FROM jobs_full WHERE event NOT IN ('start', 'interim') OR seq NOT IN
(SELECT o.seq FROM jobs o JOIN (SELECT device, session, job_number, max(seq) AS last FROM jobs
  WHERE (device, session, job_number) IN (SELECT device, session, job_number FROM jobs
    WHERE event IN ('start', 'interim') AND session || job_number <> '') GROUP BY 1, 2, 3) n
  ON n.device = o.device AND n.session = o.session AND n.job_number = o.job_number AND n.last > o.seq
WHERE o.event IN ('start', 'interim'))""",
    "jobs_by_card": f"SELECT card, {_SUMS} FROM jobs_counted GROUP BY card ORDER BY pages DESC",
    "jobs_by_user": f"""SELECT coalesce(nullif(d.user, ''), j.user, '') AS user, {_SUMS.replace("at)", "j.at)")}
FROM jobs_counted j LEFT JOIN (SELECT e.record, p.user, max(e.seq) FROM deliveries e JOIN personal p ON p.seq = e.seq
  WHERE e.outcome = 'delivered' AND p.user <> '' GROUP BY e.record) d
ON d.record = j.seq GROUP BY 1 ORDER BY pages DESC""",
    "jobs_by_device": f"SELECT device, {_SUMS} FROM jobs_counted GROUP BY device ORDER BY pages DESC",
    "jobs_by_day": f"""SELECT substr(at, 1, 10) AS day, kind, {_SUMS} FROM jobs_counted
GROUP BY day, kind ORDER BY day, kind""",
    # An outage has recovered if its last return was not followed by another failure.
    "outages": """SELECT upstream, started, offline,
  (SELECT at FROM outage_events WHERE seq = recovered_seq) AS recovered, drained, first_seq, recovered_seq,
  (SELECT cause FROM outage_events WHERE seq = first_seq) AS cause
FROM (SELECT upstream, outage AS started,
  min(CASE WHEN step = 'offline' THEN at END) AS offline,
  max(CASE WHEN step = 'drained' THEN at END) AS drained,
  min(seq) AS first_seq,
  nullif(max(CASE WHEN step IN ('failed', 'recovered') THEN seq END),
    max(CASE WHEN step = 'failed' THEN seq END)) AS recovered_seq
FROM outage_events GROUP BY upstream, outage) ORDER BY first_seq""",
    "outage_contents": f"""SELECT o.upstream AS outage_of, o.started, e.seq, e.recorded_at AS at, e.kind, e.body
FROM outages o JOIN entries e ON e.seq BETWEEN o.first_seq AND coalesce(o.recovered_seq, {_LAST})""",
    "records_not_taken": """SELECT o.seq, e.id, o.state, o.upstream, o.at, o.device,
  coalesce(j.event, a.event) AS event, j.kind, j.pages, p.card, p.user, o.tries, o.next_try, o.reason
FROM outbox o JOIN entries e ON e.seq = o.seq LEFT JOIN jobs j ON j.seq = o.seq LEFT JOIN accounting a ON a.seq = o.seq
LEFT JOIN personal p ON p.seq = o.seq ORDER BY o.seq""",
    "maybe_forwarded_twice": """SELECT record AS seq, record_id AS id, upstream,
  group_concat(outcome, ', ') AS outcomes, min(at) AS first, max(at) AS last
FROM deliveries WHERE record IN (SELECT record FROM deliveries WHERE maybe_twice = 1) GROUP BY record""",
    "in_doubt": """SELECT o.seq, e.id, o.upstream, o.at, o.device, coalesce(j.event, a.event) AS event, j.kind, j.pages,
  p.card, p.user, p.document, o.tries, o.first_try, o.reason, o.evidence
FROM outbox o JOIN entries e ON e.seq = o.seq LEFT JOIN jobs j ON j.seq = o.seq LEFT JOIN accounting a ON a.seq = o.seq
LEFT JOIN personal p ON p.seq = o.seq WHERE o.state = 'in_doubt' ORDER BY o.seq""",
    "unknown_cards": """SELECT p.card, r.device, min(r.at) AS first, max(r.at) AS last,
  count(r.kind) AS jobs, sum(r.pages) AS pages
FROM (SELECT DISTINCT record FROM deliveries WHERE unknown_card = 1) d
JOIN records r ON r.seq = d.record LEFT JOIN personal p ON p.seq = d.record
GROUP BY p.card, r.device ORDER BY first""",
    # At one moment the reading comes before the reset or exchange; of two such rows the last one entered counts.
    "readings": """SELECT seq, device, counter, taken_at, value, CASE event WHEN 'reading' THEN
  value - lag(value) OVER (PARTITION BY device, counter ORDER BY taken_at, event <> 'reading') END AS since_before,
  event, source, remark, who, at AS entered_at
FROM meters m WHERE NOT EXISTS (SELECT 1 FROM meters n WHERE n.device = m.device AND n.counter = m.counter
  AND n.taken_at = m.taken_at AND (n.event = 'reading') = (m.event = 'reading') AND n.seq > m.seq)
ORDER BY device, counter, taken_at, event <> 'reading'""",
    "checkpoints_full": """SELECT number, seq, json_extract(body, '$.time') AS time,
  json_extract(body, '$.installation') AS installation, json_extract(body, '$.hash') AS hash,
  json_extract(body, '$.previous') AS previous, hex(signature) AS signature, hex(public_key) AS public_key
FROM checkpoints""",
    "erasures": """SELECT seq, at, who, json_extract(data, '$.what') AS what,
  json_extract(data, '$.entries') AS entries, json_extract(data, '$.reason') AS reason
FROM notes WHERE note = 'erased'""",
    "exports": """SELECT seq, at, who, note, json_extract(data, '$.to') AS file,
  json_extract(data, '$.format') AS format, json_extract(data, '$.through') AS through,
  json_extract(data, '$.pseudonymised') AS pseudonymised,
  json_extract(data, '$.sha256') AS sha256, data
FROM notes WHERE note IN ('export', 'backup', 'archive')""",
    "by_hand": """SELECT seq, at, who, note AS did, data AS about FROM notes WHERE who <> ''
UNION ALL SELECT seq, at, who, outcome, 'record ' || record || ': ' || answer FROM deliveries WHERE who <> ''
UNION ALL SELECT seq, at, who, outcome, device FROM unlocks WHERE who <> ''
UNION ALL SELECT seq, at, who, 'drill ' || did, device || ': ' || reason FROM drills WHERE who <> ''
UNION ALL SELECT seq, at, who, 'meter ' || event, device || ': ' || counter || ' ' || value FROM meters WHERE who <> ''
ORDER BY 1""",
}
"""Name and query of each view, in an order in which they can be made."""

OF_VERSION_1 = (
    "jobs_full",
    "logins_full",
    "records",
    "jobs_counted",
    "jobs_by_card",
    "jobs_by_device",
    "jobs_by_day",
    "outages",
    "outage_contents",
    "records_not_taken",
    "maybe_forwarded_twice",
)
"""Those that a ledger of schema version 1 had."""


def statements(names: Iterable[str] = tuple(VIEWS)) -> list[str]:
    """The statements that make these views."""
    return [f"CREATE VIEW {name} AS {VIEWS[name]}" for name in names]
