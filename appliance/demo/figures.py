"""What the demo counts: by the copiers themselves, in Locum's ledger, in the server's book, and the closing figures."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

from appliance.simulator.book import jobs_in, rows_in
from appliance.simulator.copier import CopiedJob
from appliance.simulator.rows import LoggedJob, UserRow
from storage.database import reading
from storage.proof import walk

Key = tuple[str, str]
"""Device and the device's own job number."""
Content = tuple[str, int, int | None, str]
"""Kind, pages, pages in colour, and card of a job."""


@dataclass(frozen=True, slots=True)
class Logins:
    """How many swipes ended how: let in by the server, let in by Locum, refused by either, asked for the code."""

    online: int
    offline: int
    refused: int
    locked: int


@dataclass(frozen=True, slots=True)
class Codes:
    """How many unlock codes typed at copiers were right, and wrong."""

    right: int
    wrong: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What the copiers counted themselves, and what the story wanted of them. `printers`: their names at the server."""

    printers: Mapping[str, str]
    jobs: Sequence[CopiedJob]
    logins: Logins
    codes: Codes
    jobs_wanted: int
    logins_wanted: Logins


@dataclass(frozen=True, slots=True)
class KeptJob:
    """A job in Locum's ledger; `id` is the record's."""

    id: str
    key: Key
    content: Content


@dataclass(frozen=True, slots=True)
class Kept:
    """What Locum's ledger says.

    `in_doubt`: ids of records of which it was not known whether the server took them; `undecided`: those of them that
    nobody has decided. `unknown_jobs`: ids of those logged against the unknown user, `unknown_cards` their cards;
    `unknown_told`: ids of those that a warning in App.Log names.
    """

    jobs: Sequence[KeptJob]
    logins: Logins
    codes: Codes
    in_doubt: frozenset[str]
    undecided: frozenset[str]
    unknown_jobs: frozenset[str]
    unknown_cards: frozenset[str]
    unknown_told: frozenset[str]
    not_forwarded: int
    warnings: int
    chain: bool


@dataclass(frozen=True, slots=True)
class Booked:
    """What the server's own book says: its job log in its order, and the balances of all users."""

    jobs: Sequence[LoggedJob]
    balances: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Figures:
    """The closing object of `locum demo --json`."""

    ok: bool
    copiers: int
    logins_online: int
    logins_offline: int
    logins_refused: int
    unlocks: int
    jobs_sent: int
    jobs_acknowledged: int
    jobs_ledgered: int
    jobs_delivered: int
    duplicates: int
    lost: int
    unknown_cards: int
    app_log_warnings: int
    chain_verified: bool
    seconds: float

    def as_object(self) -> dict[str, bool | int | float]:
        """As JSON has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Line:
    """One copier in the closing table: jobs by its own count, acknowledged, in the ledger, in the book; and pages."""

    device: str
    sent: int
    acknowledged: int
    ledgered: int
    delivered: int
    pages: int
    pages_delivered: int

    @property
    def fits(self) -> bool:
        """Whether all counts are the same."""
        return self.sent == self.acknowledged == self.ledgered == self.delivered and self.pages == self.pages_delivered


@dataclass(frozen=True, slots=True)
class Audit:
    """Figures, a line for each copier, and what does not fit.

    `charged`: what the server took from balances for jobs, `charged_unknown` the unknown user's part of it; `people`:
    of how many users; `balances_fit`: whether each has left what is right. `doubted`: how many records were in doubt.
    """

    figures: Figures
    lines: Sequence[Line]
    complaints: Sequence[str]
    charged: Decimal
    charged_unknown: Decimal
    people: int
    balances_fit: bool
    doubted: int


def read_ledger(path: Path) -> Kept:
    """What is in the ledger, and whether its chain of hashes holds. Raises StorageError."""
    with reading(path) as ledger:
        logins, codes = _decided(ledger)
        jobs = ledger.execute("SELECT id, device, job_number, kind, pages, color_pages, card FROM jobs_full")
        return Kept(
            jobs=[KeptJob(id, (device, number), tuple(content)) for id, device, number, *content in jobs],
            logins=logins,
            codes=codes,
            in_doubt=_texts(ledger, "SELECT DISTINCT record_id FROM deliveries WHERE state = 'in_doubt'"),
            undecided=_texts(ledger, "SELECT id FROM in_doubt"),
            unknown_jobs=_texts(ledger, "SELECT DISTINCT record_id FROM deliveries WHERE unknown_card = 1"),
            unknown_cards=_texts(ledger, "SELECT DISTINCT card FROM unknown_cards"),
            unknown_told=_told_of(ledger),
            not_forwarded=ledger.execute("SELECT count(*) FROM outbox").fetchone()[0],
            warnings=ledger.execute("SELECT count(*) FROM app_log WHERE level = 'warning'").fetchone()[0],
            chain=walk(ledger).ok,
        )


def decided_in(path: Path) -> tuple[Logins, Codes]:
    """How logins and codes ended, as far as it is in the ledger. Raises StorageError."""
    with reading(path) as ledger:
        return _decided(ledger)


def read_book(directory: Path) -> Booked:
    """What is in the server's book. Raises BookError."""
    users = rows_in(directory, UserRow)
    return Booked(jobs_in(directory), {user.shown: Decimal(user.balance) for user in users})


def unknown_warnings(path: Path) -> list[str]:
    """What App.Log says of the unknown user, each text once. Raises StorageError."""
    with reading(path) as ledger:
        found = ledger.execute(
            "SELECT text FROM app_log WHERE level = 'warning' AND text LIKE '%''unknown''%' "
            "GROUP BY text ORDER BY min(seq)"
        )
        return [str(text) for (text,) in found]


def _decided(ledger: sqlite3.Connection) -> tuple[Logins, Codes]:
    logins: Counter[tuple[str, str]] = Counter()
    for outcome, by in ledger.execute("SELECT outcome, decided_by FROM logins WHERE late = 0"):
        logins[outcome, by] += 1
    codes = Counter(outcome for (outcome,) in ledger.execute("SELECT outcome FROM unlocks"))
    found = Logins(
        logins["granted", "server"],
        logins["granted", "locum"],
        logins["refused", "server"] + logins["refused", "locum"],
        logins["locked", "locum"],
    )
    return found, Codes(codes["unlocked"], codes["wrong-code"])


def _texts(ledger: sqlite3.Connection, sql: str) -> frozenset[str]:
    return frozenset(str(found) for (found,) in ledger.execute(sql))


def _told_of(ledger: sqlite3.Connection) -> frozenset[str]:
    warned = ledger.execute("SELECT context FROM app_log WHERE level = 'warning'")
    return frozenset(str(told["record"]) for (context,) in warned if "record" in (told := json.loads(context)))
