"""What handing a record over needs around it: who writes down how it ended, the tokens, and the job as it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from protocols.papercut.jobs import Job
from protocols.papercut.times import job_time
from proxy.commands import Command
from proxy.dialects.papercut.calls import Call, Server
from proxy.events import Moment
from storage.answers import OutboxItem
from storage.records import Delivery


class Books(Protocol):
    """What of the upstream writes down how a record ended."""

    name: str

    def delivered(
        self, item: OutboxItem, at: Moment, *, user: str, unknown_card: bool, answer: str
    ) -> list[Command]: ...

    @property
    def unwritten(self) -> bool: ...

    def refused(self, item: OutboxItem, answer: str, at: Moment) -> list[Command]: ...

    def in_doubt(
        self, item: OutboxItem, why: str, at: Moment, *, user: str = "", unknown_card: bool = False
    ) -> list[Command]: ...


class Carrier(Server, Protocol):
    """Who takes calls, takes one back that was not written yet, and finds out whether every call is refused."""

    def cancel(self, call: Call) -> bool: ...

    def confirm(self, at: Moment) -> list[Command]: ...


@dataclass(frozen=True, slots=True)
class MarkedAsSent:
    """Token: these records were to be marked as sent."""

    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PutBack:
    """Token: this record was to wait again, until `until` (monotonic; 0: it is due at once)."""

    delivery: Delivery
    until: float


def job_of(item: OutboxItem, user: str, printers: Callable[[str], str]) -> Job:
    """What the server is told of a record. An admin's corrections (user, printer) count first.

    Raises ValueError for a record that is no job.
    """
    facts, corrections = item.facts, dict(item.corrections)
    if facts is None or facts.counts is None:
        raise ValueError("it is no job")
    counts = facts.counts
    return Job(
        user=user,
        printer=corrections.get("printer") or printers(item.device),
        time=job_time(item.at, facts.started_at, facts.ended_at),
        record=item.id,
        kind=counts.kind,
        pages=counts.pages,
        color_pages=counts.color_pages,
        copies=counts.copies,
        duplex=counts.duplex,
        paper=counts.paper,
        document=facts.document,
        account=facts.account,
    )
