"""What the demo counts: by the copiers themselves, in Locum's ledger, and the closing figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from appliance.simulator.copier import CopiedJob
from storage.database import reading
from storage.proof import walk

Key = tuple[str, str]
"""Device and the device's own job number."""
Content = tuple[str, int, str]
"""Kind, pages and card of a job."""


@dataclass(frozen=True, slots=True)
class Logins:
    """How many swipes ended how: let in by the server, let in by Locum, refused by either."""

    online: int
    offline: int
    refused: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What the copiers counted themselves, and what the story wanted of them.

    `records` is how many records of any kind were acknowledged to them: jobs, starts, stops, switching on.
    """

    devices: Sequence[str]
    jobs: Sequence[CopiedJob]
    records: int
    logins: Logins
    jobs_wanted: int
    logins_wanted: Logins


@dataclass(frozen=True, slots=True)
class Kept:
    """What Locum's ledger says. `maybe_twice` are the ids of records that it names as sent more than once."""

    jobs: Sequence[tuple[Key, Content]]
    logins: Logins
    maybe_twice: frozenset[str]
    not_forwarded: int
    warnings: int
    chain: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """The closing object of `locum demo --json`. None: a later version counts it."""

    ok: bool
    copiers: int
    logins_online: int
    logins_offline: int
    logins_refused: int
    unlocks: int | None
    jobs_sent: int
    jobs_acknowledged: int
    jobs_ledgered: int
    jobs_delivered: int
    duplicates: int
    lost: int
    unknown_cards: int | None
    app_log_warnings: int
    chain_verified: bool
    seconds: float

    def as_object(self) -> dict[str, bool | int | float | None]:
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
    """Figures, a line for each copier, and what does not fit."""

    figures: Figures
    lines: Sequence[Line]
    complaints: Sequence[str]


def read_ledger(path: Path) -> Kept:
    """What is in the ledger, and whether its chain of hashes holds. Raises StorageError."""
    with reading(path) as ledger:
        jobs = ledger.execute("SELECT device, job_number, kind, pages, card FROM jobs_full")
        logins = Counter(
            (outcome, by)
            for outcome, by in ledger.execute(
                "SELECT outcome, decided_by FROM logins WHERE outcome IN ('granted', 'refused') AND late = 0"
            )
        )
        return Kept(
            jobs=[((device, number), (kind, pages, card)) for device, number, kind, pages, card in jobs],
            logins=Logins(
                logins["granted", "server"],
                logins["granted", "locum"],
                logins["refused", "server"] + logins["refused", "locum"],
            ),
            maybe_twice=frozenset(each for (each,) in ledger.execute("SELECT id FROM maybe_forwarded_twice")),
            not_forwarded=ledger.execute("SELECT count(*) FROM outbox").fetchone()[0],
            warnings=ledger.execute("SELECT count(*) FROM app_log WHERE level = 'warning'").fetchone()[0],
            chain=walk(ledger).ok,
        )
