"""What the ledger answers: what became of a value that was to be kept, and what it knows when it is asked.

Values like those of `records`, in the other direction. All times are milliseconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.checkpoints import Checkpoint
from storage.records import Counts, Mode


@dataclass(frozen=True, slots=True)
class Stored:
    """It is on stable storage under this sequence and id (UUIDv7 text); seq 0 for what is no evidence.

    `conflict`: the device has used this job number before, for another content.
    """

    seq: int
    id: str
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Repeat:
    """The record was kept before, under this sequence and id; nothing was written."""

    seq: int
    id: str


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What the ledger knows of a record; the fields are those of `Record` and `Personal`."""

    client: str
    event: str
    session: str
    mode: Mode
    card: str
    user: str
    document: str
    account: str
    job_number: str
    counts: Counts | None
    started_at: int | None
    ended_at: int | None


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """A record on its way to the server. `tries` counts finished tries, `first_try` is 0 before the first one.

    `facts` is there if the `Take` asked for it; `corrections` is what an admin wants the server to be told instead.
    """

    seq: int
    id: str
    at: int
    upstream: str
    dialect: str
    device: str
    order_key: str
    tries: int
    first_try: int
    raw: bytes
    facts: RecordFacts | None = None
    corrections: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """The records that `Take` found, in order of their sequence; those no longer waiting are left out."""

    items: tuple[OutboxItem, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """The sequences that `Retry`, `Resolve` or `Drop` found and changed, with upstream and order key."""

    items: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True, slots=True)
class Signed:
    """The newest checkpoint, new or not; None if the ledger has no key to sign with, or no entries."""

    checkpoint: Checkpoint | None


@dataclass(frozen=True, slots=True)
class Erased:
    """The personal data of so many entries was deleted, noted in entry `seq` (0: there was nothing). `waiting`: nothing
    was, because so many records of the card are in the outbox. `first`: the oldest of the entries. `clock_jump`:
    nothing was, because within the last day the clock went forward by so many ms, and may be wrong.
    """

    entries: int
    seq: int = 0
    waiting: int = 0
    first: int = 0
    clock_jump: int = 0


Outcome = Stored | Repeat | Taken | Changed | Signed | Erased


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What is remembered of a card: when the server last granted a login with it, and whether its last word was a
    grant.
    """

    granted_at: int | None
    last_word_granted: bool
    user: str


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session with a mark that has not ended: granted by Locum, or by the server where its mark is known.

    `user` is whom the server named, "" for an offline session.
    """

    session: str
    device: str
    upstream: str
    card: str
    at: int
    expires_at: int
    mode: Mode
    user: str = ""


@dataclass(frozen=True, slots=True)
class WaitingRef:
    """A waiting record as the forwarder needs to know it after a start: order, key, when it may be tried, and, for a
    record of a drill, its device (else "").
    """

    seq: int
    order_key: str
    next_try: int
    drill: str = ""


@dataclass(frozen=True, slots=True)
class Overrun:
    """What a card has used while nobody checked its balance, in one outage of one upstream."""

    card: str
    pages: int
    sessions: int
