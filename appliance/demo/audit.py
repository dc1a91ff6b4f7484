"""The audit at the end: copiers, ledger and the server's own book, compared job by job, and the money.

The book is read from the server's file and the ledger from Locum's, after both have ended; nobody's word is taken for
another's. The id of the record, which the server has in the job's comment, leads from the book to the ledger. Every
figure is counted from what happened. What does not fit is said in words, and then the demo fails.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from appliance.demo.figures import Audit, Booked, Counted, Figures, Kept, KeptJob, Key, Line
from appliance.simulator.copier import CopiedJob
from appliance.simulator.rows import LoggedJob
from appliance.simulator.state import COST_OF_A_PAGE
from appliance.simulator.users import Users

UNKNOWN = "unknown"
"""The user for cards that nobody has, as a server that was told nothing else calls it."""

Done = Mapping[Key, CopiedJob]
Arrived = Mapping[Key, Sequence[LoggedJob]]


def audit(counted: Counted, kept: Kept, booked: Booked, users: Users, seconds: float) -> Audit:
    """Compare what all three say. `users`: whom the server knew when the story began, and what they had."""
    done = {(job.device, job.number): job for job in counted.jobs if job.acknowledged}
    keys = {job.id: job.key for job in kept.jobs}
    arrived = _by_key(booked.jobs, keys)
    lost, money = done.keys() - arrived.keys(), _money(done, booked, users)
    complaints = [
        *_must_be("jobs sent", len(counted.jobs), counted.jobs_wanted),
        *_must_be("jobs acknowledged", len(done), len(counted.jobs)),
        *_logins(counted, kept),
        *_named("acknowledged, but lost: not in the server's book", lost),
        *_ledger(done, kept),
        *_book(done, arrived, counted, users),
        *_must_be("jobs in the server's book that are not in the ledger", _strays(booked.jobs, keys), 0),
        *_order(counted.jobs, booked.jobs, keys, kept),
        *_named("more than once in the server's book", [key for key, jobs in arrived.items() if len(jobs) > 1]),
        *_must_be("records that wait in Locum, or were refused", kept.not_forwarded - len(kept.undecided), 0),
        *_must_be("records in doubt that nobody has decided", len(kept.undecided), 0),
        *_unknown(done, kept, users),
        *money,
        *([] if kept.chain else ["the ledger's chain of hashes does not hold"]),
    ]
    figures = Figures(
        ok=not complaints,
        copiers=len(counted.printers),
        logins_online=counted.logins.online,
        logins_offline=counted.logins.offline,
        logins_refused=counted.logins.refused,
        unlocks=counted.codes.right,
        jobs_sent=len(counted.jobs),
        jobs_acknowledged=len(done),
        jobs_ledgered=len({job.key for job in kept.jobs}),
        jobs_delivered=len(done.keys() & arrived.keys()),
        duplicates=sum(len(jobs) - 1 for jobs in arrived.values()),
        lost=len(lost),
        unknown_cards=len(kept.unknown_cards),
        app_log_warnings=kept.warnings,
        chain_verified=kept.chain,
        seconds=round(seconds, 1),
    )
    return Audit(
        figures=figures,
        lines=[_line(device, counted, kept, arrived) for device in counted.printers],
        complaints=complaints,
        charged=sum((Decimal(job.cost) for job in booked.jobs), Decimal(0)),
        charged_unknown=sum((Decimal(job.cost) for job in booked.jobs if job.user == UNKNOWN), Decimal(0)),
        people=len({job.user for job in booked.jobs}),
        balances_fit=not money,
        doubted=len(kept.in_doubt),
    )


def _line(device: str, counted: Counted, kept: Kept, arrived: Arrived) -> Line:
    jobs = [job for job in counted.jobs if job.device == device]
    here = [logged for key, logged in arrived.items() if key[0] == device]
    return Line(
        device=device,
        sent=len(jobs),
        acknowledged=sum(job.acknowledged for job in jobs),
        ledgered=len({job.key for job in kept.jobs if job.key[0] == device}),
        delivered=len(here),
        pages=sum(job.pages for job in jobs),
        pages_delivered=sum(logged[0].pages for logged in here),
    )


def _by_key(booked: Iterable[LoggedJob], keys: Mapping[str, Key]) -> dict[Key, list[LoggedJob]]:
    found: dict[Key, list[LoggedJob]] = defaultdict(list)
    for job in booked:
        if job.record_id in keys:
            found[keys[job.record_id]].append(job)
    return dict(found)


def _strays(booked: Iterable[LoggedJob], keys: Mapping[str, Key]) -> int:
    return sum(job.record_id not in keys for job in booked)


def _logins(counted: Counted, kept: Kept) -> list[str]:
    seen, wanted, ledger = counted.logins, counted.logins_wanted, kept.logins
    complaints: list[str] = []
    for who, found, right in (("seen by the copiers", seen, wanted), ("in the ledger", ledger, seen)):
        complaints += _must_be(f"logins granted by the server, {who}", found.online, right.online)
        complaints += _must_be(f"logins refused, {who}", found.refused, right.refused)
        complaints += _must_be(f"logins that found the copier locked, {who}", found.locked, right.locked)
    complaints += _must_be("logins granted by Locum, seen by the copiers", seen.offline, wanted.offline)
    # A grant that was kept just before the kill, and did not reach its copier, is asked for and kept again.
    if not seen.offline <= ledger.offline <= seen.offline + len(counted.printers):
        complaints += _must_be("logins granted by Locum, in the ledger", ledger.offline, seen.offline)
    complaints += _must_be("right codes in the ledger", kept.codes.right, counted.codes.right)
    return complaints + _must_be("wrong codes in the ledger", kept.codes.wrong, counted.codes.wrong)


def _ledger(done: Done, kept: Kept) -> list[str]:
    times = Counter(job.key for job in kept.jobs)
    contents = {job.key: job.content for job in kept.jobs}
    other = [key for key in done.keys() & contents.keys() if contents[key] != _content(done[key])]
    return [
        *_named("acknowledged, but not in the ledger", done.keys() - contents.keys()),
        *_named("in the ledger, but not acknowledged", contents.keys() - done.keys()),
        *_named("more than once in the ledger", [key for key, count in times.items() if count > 1]),
        *_named("not in the ledger as they were done", other),
    ]


def _content(job: CopiedJob) -> tuple[str, int, int | None, str]:
    return (job.kind, job.pages, job.color_pages, job.card)


def _book(done: Done, arrived: Arrived, counted: Counted, users: Users) -> list[str]:
    wrong_user, other = [], []
    for key in done.keys() & arrived.keys():
        job = done[key]
        wanted = (job.kind, job.pages, job.color_pages, counted.printers.get(job.device))
        for logged in arrived[key]:
            if logged.user != _user_of(job, users):
                wrong_user.append(key)
            if (logged.kind, logged.pages, logged.color_pages, logged.device) != wanted:
                other.append(key)
    return [
        *_named("in the server's book under the wrong user", wrong_user),
        *_named("not in the server's book as they were done", other),
        *_named("in the server's book, but not acknowledged", arrived.keys() - done.keys()),
    ]


def _user_of(job: CopiedJob, users: Users) -> str:
    owner = users.of_card(job.card)
    return owner.username if owner else UNKNOWN


def _order(jobs: Sequence[CopiedJob], booked: Iterable[LoggedJob], keys: Mapping[str, Key], kept: Kept) -> list[str]:
    """Each session's jobs stand in the book as they were done; one that was in doubt may have been sent once more."""
    places = {(job.device, job.number): (number, job.session) for number, job in enumerate(jobs)}
    latest: dict[tuple[str, str], int] = {}
    late = []
    for logged in booked:
        key = keys.get(logged.record_id)
        if key is None or key not in places or logged.record_id in kept.in_doubt:
            continue
        place, session = places[key]
        if place < latest.get((key[0], session), -1):
            late.append(key)
        latest[key[0], session] = max(place, latest.get((key[0], session), -1))
    return _named("out of their session's order in the server's book", late)


def _unknown(done: Done, kept: Kept, users: Users) -> list[str]:
    """Cards that nobody has: each is in the ledger, and App.Log warns of each such job."""
    strangers = {key for key, job in done.items() if users.of_card(job.card) is None}
    ids = {job.id: job for job in kept.jobs}
    # Of one that was in doubt Locum does not know in the end what the server made of it.
    doubted = {job.key for job in _of(ids, kept.in_doubt)}
    found = {job.key for job in _of(ids, kept.unknown_jobs)}
    unsaid = {job.key for job in _of(ids, kept.unknown_jobs - kept.unknown_told)}
    cards = {done[key].card for key in strangers & found}
    return [
        *_named("of cards that nobody has, and not marked so in the ledger", strangers - found - doubted),
        *_named("marked in the ledger as of a card that nobody has, wrongly", found - strangers),
        *_named("of cards that nobody has, without a warning in App.Log", unsaid),
        *_must_be("unknown cards in the ledger", len(kept.unknown_cards), len(cards)),
    ]


def _of(jobs: Mapping[str, KeptJob], ids: Iterable[str]) -> list[KeptJob]:
    return [jobs[id] for id in ids if id in jobs]


def _money(done: Done, booked: Booked, users: Users) -> list[str]:
    """What everybody has left at the server: what they had, less what their jobs cost."""
    left = {user.username: user.balance for user in users}
    for job in done.values():
        who = _user_of(job, users)
        left[who] = left.get(who, Decimal(0)) - job.pages * COST_OF_A_PAGE
    wrong = [
        f"the server's balance of {who}: {booked.balances.get(who, 'no such user')} instead of {amount}"
        for who, amount in sorted(left.items())
        if booked.balances.get(who) != amount
    ]
    surplus = sorted(booked.balances.keys() - left.keys())
    return wrong + [f"the server has a user {who} whom nobody needed" for who in surplus]


def _must_be(what: str, found: int, wanted: int) -> list[str]:
    return [] if found == wanted else [f"{what}: {found} instead of {wanted}"]


def _named(what: str, jobs: Iterable[Key]) -> list[str]:
    """A complaint about jobs, with the first few by name; none if there are no jobs."""
    found = sorted(set(jobs))
    if not found:
        return []
    shown = ", ".join(f"{device} job {number}" for device, number in found[:3])
    return [f"{len(found)} jobs {what}: {shown}{', ...' if len(found) > 3 else ''}"]
