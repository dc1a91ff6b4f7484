"""What is kept: the values that flows hand to the ledger. What it answers is in `storage.answers`.

Each value is one thing that happened, free of any dialect: from here on nobody knows which wire it came from. A flow
wraps them in `Keep`; the one writer turns a batch of them into one transaction. `at` is always milliseconds since
1970-01-01T00:00:00Z by the appliance's wall clock, taken when the thing happened, not when it was written.

Personal data (card, user, document, account, raw bytes) travels in `Personal`, apart from the rest, because the ledger
keeps it apart: the hashed body holds a salted commitment to it only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Mode(StrEnum):
    """How the session of a record or a login was: decided by the server, by Locum, in a drill, or not known. RECOVERED:
    the record was taken from a capture, and nothing is known of its session.
    """

    ONLINE = "online"
    OFFLINE = "offline"
    DRILL = "drill"
    UNKNOWN = "unknown"
    RECOVERED = "recovered"


class OutboxState(StrEnum):
    """Where a record stands on its way to the server."""

    WAITING = "waiting"
    SENT = "sent"
    IN_DOUBT = "in_doubt"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Personal:
    """What leads back to a person. Empty strings and empty bytes mean: not there."""

    card: str = ""
    user: str = ""
    document: str = ""
    account: str = ""
    raw: bytes = b""


NOBODY = Personal()


@dataclass(frozen=True, slots=True)
class Counts:
    """What a job is accounted by. `pages` are impressions; None means that the device did not say."""

    kind: str
    pages: int
    color_pages: int | None = None
    sheets: int | None = None
    copies: int | None = None
    duplex: bool | None = None
    paper: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """What a device reported to be accounted: a job (`counts` is there), or another mark of a session that must be
    forwarded.

    `event` is what the device said: start, interim, stop, on, off, other. `started_at` and `ended_at` are the device's
    own times, kept as they are. Two records of one `repeat_scope` that share one of `repeat_keys` within 24 hours are
    the same; a record with `ends_repeats` begins a new life of the device, in which older keys count no more. With
    `for_ever` the device's own number is known for ever: `repeat_keys` is then (key of the number, digest of the
    content); both known: a repeat; the key known with another content: stored all the same, as a conflict
    (`Stored.conflict`, and `event` is kept as "conflict"). `outbox` is WAITING, SENT (handed to the server the moment
    it is kept) or None (nothing to forward).
    """

    at: int
    dialect: str
    upstream: str
    device: str
    client: str
    event: str
    session: str
    mode: Mode
    order_key: str
    personal: Personal
    job_number: str = ""
    counts: Counts | None = None
    started_at: int | None = None
    ended_at: int | None = None
    repeat_scope: str = ""
    repeat_keys: tuple[bytes, ...] = ()
    ends_repeats: bool = False
    for_ever: bool = False
    outbox: OutboxState | None = OutboxState.WAITING


@dataclass(frozen=True, slots=True)
class Login:
    """A login and its outcome. outcome: granted, refused, challenged, unavailable, unanswered. decided_by: server,
    locum, nobody.

    `session` is the mark (hex) of the session that began, "" where none is known: Locum's own with an offline grant.
    `late` marks a server's answer that came after Locum had decided. `teaches` says that the card memory learns from
    it: the server's own word on a card.
    """

    at: int
    dialect: str
    upstream: str
    device: str
    client: str
    method: str
    outcome: str
    decided_by: str
    reason: str
    mode: Mode
    personal: Personal
    session: str = ""
    expires_at: int | None = None
    late: bool = False
    teaches: bool = False


@dataclass(frozen=True, slots=True)
class Logout:
    """The end of a session with a mark, and why: logout, stop, restart, next-login, timeout, silence."""

    at: int
    device: str
    session: str
    cause: str


@dataclass(frozen=True, slots=True)
class OutageStep:
    """A change of an upstream's state. step: failed, offline, recovered, drained; `state` is the state it led to.

    `outage` numbers the outages of an upstream (the `at` of its first failed contact); None is never kept: a change of
    state without an outage (records of an earlier run have been forwarded) is a `Note`. `boot_id` and `boot_ms`
    (CLOCK_BOOTTIME) let a restart work out how much time has passed.
    """

    at: int
    upstream: str
    outage: int | None
    step: str
    state: str
    cause: str
    boot_id: str
    boot_ms: int


@dataclass(frozen=True, slots=True)
class UnlockStep:
    """A try to unlock a device, or the end of an unlock. scope: once, until-restored, "".

    outcome: unlocked, wrong-code, too-many, not-offline, by-hand-unlocked, by-hand-locked, used (the session that used
    it up has ended), begun (a session has begun on it), void (no session began in time), dropped (the server is back),
    in-force-again (contact was lost again at once), cleared (too many wrong codes: the admin lets codes be tried
    again). `who` is who did it by hand, "" at the device.
    """

    at: int
    device: str
    upstream: str
    outcome: str
    scope: str = ""
    reason: str = ""
    who: str = ""


@dataclass(frozen=True, slots=True)
class DrillStep:
    """A drill begins or ends on a device ("*": on all). did: start, stop. `until` is when it ends by itself."""

    at: int
    device: str
    did: str
    until: int
    reason: str
    who: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One try to forward a record and how it ended: delivered, unanswered, refused, unsent (taken, then contact was
    lost), unknown (cut while in flight), dropped, not-forwardable (the server takes no such record), resolved-sent and
    resolved-resend (by hand, from in doubt).

    `state` is where the record stands afterwards: None when it has left the outbox. `maybe_twice` names a record that
    the server may have taken although it did not (or not in time) say so: when it is sent again, it may stand there
    twice. `user` is whom the server logged it against; `unknown_card`: nobody has its card.
    """

    at: int
    seq: int
    upstream: str
    outcome: str
    state: OutboxState | None
    tries: int
    answer: str = ""
    user: str = ""
    next_try: int = 0
    maybe_twice: bool = False
    unknown_card: bool = False


@dataclass(frozen=True, slots=True)
class AppLogLine:
    """A line that an admin should read. level: info, warning, error. `text` holds neither secrets nor card numbers."""

    at: int
    level: str
    text: str
    context: dict[str, str | int] = field(default_factory=dict)
    personal: Personal = NOBODY


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Bytes that could not be read as a record, for whoever looks into it."""

    at: int
    dialect: str
    device: str
    client: str
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """Anything else that belongs to the evidence: start, stop, config, clock-step, gap, by-hand. `who` is who did it by
    hand.
    """

    at: int
    kind: str
    data: dict[str, str | int]
    who: str = ""


@dataclass(frozen=True, slots=True)
class Remember:
    """A fact that Locum must know after a restart, no evidence: proven upstreams, resolved names. Replaces the old
    value.
    """

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class DeviceSeen:
    """A device was heard: first time, from another address, or a minute after the last such line. No evidence."""

    at: int
    device: str
    client: str
    dialect: str
    upstream: str


@dataclass(frozen=True, slots=True)
class Take:
    """Hand out these waiting records; with `mark`, mark them as sent before they are.

    `facts`: with what the ledger knows of each (`OutboxItem.facts`), for servers that are not sent the device's own
    bytes. `evidence`: for some of the seqs, what will help to find out later whether the server took it (JSON), kept in
    the outbox.
    """

    at: int
    upstream: str
    seqs: tuple[int, ...]
    mark: bool = True
    facts: bool = False
    evidence: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Retry:
    """An admin wants rejected (or waiting) records tried now. Empty `seqs`: all rejected ones of the upstream.

    `corrections`: what to tell the server instead, by field (printer, user), kept with the record from now on.
    """

    at: int
    seqs: tuple[int, ...]
    who: str
    corrections: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Resolve:
    """An admin has found out whether the server took a record in doubt. how: sent (it leaves the outbox), resend (it
    waits again).
    """

    at: int
    seq: int
    how: str
    who: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Drop:
    """An admin takes a record out of the outbox, for a reason."""

    at: int
    seq: int
    reason: str
    who: str


@dataclass(frozen=True, slots=True)
class Sign:
    """Make a checkpoint, if there are entries that none signs yet."""

    at: int


@dataclass(frozen=True, slots=True)
class MeterReading:
    """What one page counter of a device showed. counter: total, color, mono, copy, print, scan, fax. event: reading;
    reset or exchange (of the machine), when counting begins anew with this value. source: by-hand, csv, snmp.

    `taken_at` is when it was read, `at` when it was entered; `who` entered it by hand.
    """

    at: int
    device: str
    counter: str
    value: int
    taken_at: int
    event: str = "reading"
    source: str = "by-hand"
    remark: str = ""
    who: str = ""


@dataclass(frozen=True, slots=True)
class Trap:
    """An SNMP trap or inform of a device, as it came. version: 1, 2c, 3. kind: trap, inform; opaque: of SNMPv3,
    which is not read.
    """

    at: int
    device: str
    client: str
    version: str
    kind: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class TrapForwarded:
    """What became of the trap with this seq at the server. outcome: sent; acknowledged or unanswered, of an inform."""

    at: int
    seq: int
    outcome: str


@dataclass(frozen=True, slots=True)
class EraseCard:
    """Delete what leads from a card to a person. Refused (`Erased.waiting`) while records of it are in the outbox."""

    at: int
    card: str
    who: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EraseOld:
    """Delete the personal data of up to `limit` entries that were recorded before `before` (ms), but of those whose
    records are in the outbox.
    """

    at: int
    before: int
    limit: int


Keepable = (
    Record
    | Login
    | Logout
    | OutageStep
    | UnlockStep
    | DrillStep
    | Delivery
    | AppLogLine
    | Quarantined
    | Note
    | Remember
    | DeviceSeen
    | Take
    | Retry
    | Resolve
    | Drop
    | Sign
    | MeterReading
    | Trap
    | TrapForwarded
    | EraseCard
    | EraseOld
)
