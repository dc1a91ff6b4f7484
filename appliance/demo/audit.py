"""The audit at the end: copiers, ledger and the server's own book, compared job by job.

The book is read from the server's file and the ledger from Locum's, after both have ended; nobody's word is taken for
another's. Every figure is counted from what happened. What does not fit is said in words, and then the demo fails.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from appliance.demo.figures import Audit, Counted, Figures, Kept, Key, Line
from appliance.simulator.book import Record
from appliance.simulator.copier import CopiedJob
from appliance.simulator.users import Users

Arrived = Mapping[Key, Sequence[Record]]


def audit(counted: Counted, kept: Kept, booked: Sequence[Record], users: Users, seconds: float) -> Audit:
    """Compare what all three say. `booked` is the server's book in its order, `users` whom its cards belong to."""
    acknowledged = {(job.device, job.number): job for job in counted.jobs if job.acknowledged}
    arrived = _by_key(booked)
    lost = acknowledged.keys() - arrived.keys()
    unknown = {each.card for each in booked if each.job_number is not None and not each.user}
    strangers = {job.card for job in acknowledged.values() if users.of_card(job.card) is None}
    complaints = [
        *_must_be("jobs sent", len(counted.jobs), counted.jobs_wanted),
        *_must_be("jobs acknowledged", len(acknowledged), len(counted.jobs)),
        *_logins(counted, kept),
        *_named("acknowledged, but lost: not in the server's book", lost),
        *_ledger(acknowledged, kept),
        *_book(acknowledged, arrived, users),
        *_must_be(
            "records of any kind in the server's book",
            len({(each.device, each.session, each.event, each.job_number) for each in booked}),
            counted.records,
        ),
        *_order(booked),
        *_named("twice in the server's book, and not named in the ledger", _unnamed_repeats(arrived, kept)),
        *_must_be("records that wait in Locum", kept.not_forwarded, 0),
        *_must_be("unknown cards in the server's book", len(unknown), len(strangers)),
        *([] if kept.chain else ["the ledger's chain of hashes does not hold"]),
    ]
    figures = Figures(
        ok=not complaints,
        copiers=len(counted.devices),
        logins_online=counted.logins.online,
        logins_offline=counted.logins.offline,
        logins_refused=counted.logins.refused,
        unlocks=None,
        jobs_sent=len(counted.jobs),
        jobs_acknowledged=len(acknowledged),
        jobs_ledgered=len({key for key, _ in kept.jobs}),
        jobs_delivered=len(acknowledged.keys() & arrived.keys()),
        duplicates=sum(len(records) - 1 for records in arrived.values()),
        lost=len(lost),
        unknown_cards=len(unknown),
        app_log_warnings=kept.warnings,
        chain_verified=kept.chain,
        seconds=round(seconds, 1),
    )
    return Audit(figures, [_line(device, counted, kept, arrived) for device in counted.devices], complaints)


def _line(device: str, counted: Counted, kept: Kept, arrived: Arrived) -> Line:
    jobs = [job for job in counted.jobs if job.device == device]
    here = [records for key, records in arrived.items() if key[0] == device]
    return Line(
        device=device,
        sent=len(jobs),
        acknowledged=sum(job.acknowledged for job in jobs),
        ledgered=len({key for key, _ in kept.jobs if key[0] == device}),
        delivered=len(here),
        pages=sum(job.pages for job in jobs),
        pages_delivered=sum(records[0].pages or 0 for records in here),
    )


def _by_key(booked: Iterable[Record]) -> dict[Key, list[Record]]:
    found: dict[Key, list[Record]] = defaultdict(list)
    for record in booked:
        if record.job_number is not None:
            found[record.device, record.job_number].append(record)
    return dict(found)


def _logins(counted: Counted, kept: Kept) -> list[str]:
    seen, wanted, ledger = counted.logins, counted.logins_wanted, kept.logins
    complaints: list[str] = []
    for who, found, right in (("seen by the copiers", seen, wanted), ("in the ledger", ledger, seen)):
        complaints += _must_be(f"logins granted by the server, {who}", found.online, right.online)
        complaints += _must_be(f"logins refused, {who}", found.refused, right.refused)
    complaints += _must_be("logins granted by Locum, seen by the copiers", seen.offline, wanted.offline)
    # A grant that was kept just before the kill, and did not reach its copier, is asked for and kept again.
    if not seen.offline <= ledger.offline <= seen.offline + len(counted.devices):
        complaints += _must_be("logins granted by Locum, in the ledger", ledger.offline, seen.offline)
    return complaints


def _ledger(acknowledged: Mapping[Key, CopiedJob], kept: Kept) -> list[str]:
    times = Counter(key for key, _ in kept.jobs)
    contents = dict(kept.jobs)
    both = acknowledged.keys() & contents.keys()
    other = [
        key
        for key in both
        if contents[key] != (acknowledged[key].kind, acknowledged[key].pages, acknowledged[key].card)
    ]
    return [
        *_named("acknowledged, but not in the ledger", acknowledged.keys() - contents.keys()),
        *_named("in the ledger, but not acknowledged", contents.keys() - acknowledged.keys()),
        *_named("more than once in the ledger", [key for key, count in times.items() if count > 1]),
        *_named("not in the ledger as they were done", other),
    ]


def _book(acknowledged: Mapping[Key, CopiedJob], arrived: Arrived, users: Users) -> list[str]:
    wrong_user, other = [], []
    for key in acknowledged.keys() & arrived.keys():
        job, owner = acknowledged[key], users.of_card(acknowledged[key].card)
        for record in arrived[key]:
            if record.user != (owner.username if owner else ""):
                wrong_user.append(key)
            if (record.kind, record.pages, record.card, record.session) != (job.kind, job.pages, job.card, job.session):
                other.append(key)
    return [
        *_named("in the server's book under the wrong user", wrong_user),
        *_named("not in the server's book as they were done", other),
        *_named("in the server's book, but not acknowledged", arrived.keys() - acknowledged.keys()),
    ]


def _order(booked: Iterable[Record]) -> list[str]:
    latest: dict[tuple[str, str], str] = {}
    seen: set[Key] = set()
    late = []
    for record in booked:
        if record.job_number is None or (record.device, record.job_number) in seen:
            continue
        seen.add((record.device, record.job_number))
        session = record.device, record.session
        if record.job_number < latest.get(session, ""):
            late.append((record.device, record.job_number))
        latest[session] = max(record.job_number, latest.get(session, ""))
    return _named("out of their session's order in the server's book", late)


def _unnamed_repeats(arrived: Arrived, kept: Kept) -> list[Key]:
    return [
        key
        for key, records in arrived.items()
        if len(records) > 1 and not {record.record_id for record in records} <= kept.maybe_twice
    ]


def _must_be(what: str, found: int, wanted: int) -> list[str]:
    return [] if found == wanted else [f"{what}: {found} instead of {wanted}"]


def _named(what: str, jobs: Iterable[Key]) -> list[str]:
    """A complaint about jobs, with the first few by name; none if there are no jobs."""
    found = sorted(set(jobs))
    if not found:
        return []
    shown = ", ".join(f"{device} job {number}" for device, number in found[:3])
    return [f"{len(found)} jobs {what}: {shown}{', ...' if len(found) > 3 else ''}"]
