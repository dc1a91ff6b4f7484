"""From what a session made to jobs in the ledger: exactly once, whatever is cut.

First what is to be settled and the state of the meters after it are remembered together, then the jobs are kept, each
under a number that is known for ever. After a cut in between the remembered jobs are kept again: what the ledger has
is a repeat. Jobs of sessions that Locum granted go to the server; those of the server's own sessions it meters itself,
and nobody's belong to nobody: they stay in the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from protocols.meters.formula import Value
from protocols.terminal.messages import Job, encode
from protocols.terminal.values import Kind
from proxy.commands import Command, Keep
from proxy.events import Flow, Kept, Moment, NotKept
from proxy.metering.copier import Account, Copier
from proxy.metering.differences import Values, jobs
from proxy.site import Site
from proxy.upstream import Upstream
from storage.answers import OpenSession, Stored
from storage.records import Counts, Mode, OutboxState, Personal, Record, Remember

DIALECT = "cardreader"
TERMINAL = "terminal"
MOST_JOB = (1 << 63) - 1
MEMORY = "meter:"
RETRY_STORAGE = 1.0
_COUNTS = ("kind", "pages", "color_pages")


@dataclass(frozen=True, slots=True)
class Settlement:
    """Token: these jobs were to be remembered together with the state of the meters. `text`: what is remembered."""

    device: str
    number: int
    text: str
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class JobAsked:
    """Token: this job was to be kept."""

    record: Record


class Nobody:
    """Nobody waits for the server's answer to a job that a meter told of."""

    def answered(self, attributes: object, at: Moment) -> list[Command]:
        return []

    def unanswered(self, at: Moment) -> list[Command]:
        return []


class Settling:
    """`owner` is told what was kept; `records_to`: which upstream takes a device's jobs."""

    def __init__(self, owner: Flow, site: Site, records_to: Callable[[str], Upstream | None]) -> None:
        self._owner = owner
        self._site = site
        self._records_to = records_to
        self._again: list[tuple[float, Keep]] = []
        self._open: dict[str, list[Record]] = {}
        """Of each device: the jobs that are not known to be in the ledger."""
        self._asked: dict[str, int] = {}

    def settle(self, device: str, copier: Copier, accounts: tuple[Account, ...], raw: bytes, at: Moment) -> Keep:
        """Remember the state of the meters, and with it the jobs that these accounts are."""
        records = self._open.setdefault(device, [])
        for account in accounts:
            copier.flushes += 1
            number = f"{at.wall}-{copier.flushes}"
            made = jobs(account.usage)
            records += [self._record(device, each, account.session, number, raw, at) for each in made]
        text = copier.saved([_saved(each) for each in records])
        self._asked[device] = self._asked.get(device, 0) + 1
        return self._remember(Settlement(device, self._asked[device], text, tuple(records)))

    def again(self, device: str, saved: list[dict[str, Any]]) -> list[Command]:
        """After a restart: the jobs that were remembered last are kept, unless the ledger has them."""
        records = [self._restored(device, each) for each in saved]
        self._open.setdefault(device, []).extend(records)
        return [self._keep(each) for each in records]

    def handle(self, event: Kept | NotKept) -> list[Command]:
        """What became of a settlement, or of a job."""
        token = event.token
        if isinstance(event, NotKept):
            when = event.at.now + RETRY_STORAGE
            if isinstance(token, JobAsked):
                self._again.append((when, self._keep(token.record)))
            elif isinstance(token, Settlement) and token.number == self._asked[token.device]:
                # A later one has the jobs of this one too, and must not be overwritten by it.
                self._again.append((when, self._remember(token)))
            return []
        if isinstance(token, Settlement):
            return [self._keep(record) for record in token.records]
        if isinstance(token, JobAsked):
            waiting = self._open.get(token.record.device, [])
            self._open[token.record.device] = [each for each in waiting if each is not token.record]
            if isinstance(event.outcome, Stored):
                return self._kept(token.record, event.outcome, event.at)
        return []

    def tick(self, at: Moment) -> list[Command]:
        """What could not be stored is tried again."""
        due = [keep for when, keep in self._again if when <= at.now]
        if due:
            self._again = [each for each in self._again if each[0] > at.now]
        return list(due)

    def _remember(self, settlement: Settlement) -> Keep:
        return Keep(Remember(MEMORY + settlement.device, settlement.text), self._owner, settlement)

    def _keep(self, record: Record) -> Keep:
        return Keep(record, self._owner, JobAsked(record))

    def _kept(self, record: Record, stored: Stored, at: Moment) -> list[Command]:
        upstream = self._records_to(record.device)
        if upstream is None:
            return []
        commands = self._site.job_kept(record, upstream)
        if record.outbox is None:
            return commands
        drill = self._site.drills.on(record.device)
        return commands + upstream.take_over(record, stored, Nobody(), at, drill=drill)[0]

    def _record(
        self, device: str, counts: Counts, session: OpenSession | None, number: str, raw: bytes, at: Moment
    ) -> Record:
        mark = session.session if session is not None else ""
        if session is not None and not session.device:
            session = self._site.sessions.marked(device, mark)
        mode = session.mode if session is not None else Mode.UNKNOWN
        card, user = (session.card, session.user) if session is not None else ("", "")
        upstream = self._records_to(device)
        facts = self._site.facts(card) if card and not user else None
        whose = user or (facts.user if facts is not None else "")
        key = f"{number}-{counts.kind}".encode()
        record = Record(
            at=at.wall,
            dialect=DIALECT,
            upstream=upstream.name if upstream is not None else "",
            device=device,
            client="",
            event="job",
            session=mark,
            mode=mode,
            order_key=upstream.order_key(device, mark, card, whose) if upstream is not None else device,
            personal=Personal(card=card, user=user, raw=raw),
            job_number=number,
            counts=counts,
            started_at=session.at if session is not None else None,
            ended_at=at.wall,
            repeat_scope=f"meter:{device}",
            repeat_keys=(key, key),
            for_ever=True,
            outbox=None,
        )
        if upstream is None or mode not in (Mode.OFFLINE, Mode.DRILL) or not card:
            return record
        if upstream.dialect == TERMINAL:
            record = _as_terminals(record, number)
        return replace(record, outbox=upstream.place_of(replace(record, outbox=OutboxState.WAITING), relays=False))

    def _restored(self, device: str, saved: Mapping[str, Any]) -> Record:
        mark = str(saved["session"])
        session = OpenSession(mark, "", "", "", 0, 0, Mode.UNKNOWN) if mark else None
        counts = Counts(*(saved[name] for name in _COUNTS))
        at = Moment(0.0, int(saved["at"]), b"")
        return self._record(device, counts, session, str(saved["number"]), bytes.fromhex(saved["raw"]), at)


def _as_terminals(record: Record, number: str) -> Record:
    """The job as a terminal would have told it: a terminal server takes no other."""
    counts, (wall, flush) = record.counts, number.split("-")
    if counts is None:
        return record
    kind = Kind[counts.kind.upper()] if counts.kind.upper() in Kind.__members__ else Kind.COPY
    job = Job(
        session=0,
        job=(int(wall) << 20 | int(flush) << 3 & 0xFFFFF | kind) & MOST_JOB,
        kind=kind,
        started=record.started_at or 0,
        ended=record.ended_at or 0,
        pages=counts.pages,
        color_pages=counts.color_pages or 0,
        sheets=0,
        copies=1,
        flags=0,
        paper="",
        document="",
        account="",
    )
    return replace(record, dialect=TERMINAL, personal=replace(record.personal, raw=encode(job, 0)))


def raw_of(before: Values, after: Values) -> bytes:
    """What the counters showed before and after, as JSON, to keep beside a job."""
    told = {
        _name(counter.oid, counter.tag): [_number(before.get(counter)), value.number]
        for counter, value in after.items()
    }
    return json.dumps(told, separators=(",", ":"), sort_keys=True).encode()


def _number(value: Value | None) -> int | None:
    return value.number if value is not None else None


def _name(oid: str, tag: int) -> str:
    return oid if tag < 0 else f"{oid}#{tag:02x}"


def _saved(record: Record) -> dict[str, object]:
    counts = record.counts
    return {
        "at": record.at,
        "session": record.session,
        "number": record.job_number,
        "raw": record.personal.raw.hex(),
        **{name: getattr(counts, name) for name in _COUNTS},
    }
