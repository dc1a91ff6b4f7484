"""One copier's meters: what they showed last, what they moved by since, and whose that was. No clock, no commands.

`read` takes a reading and says what came of it. What is not settled yet (a session that is open, nobody's pages of a
moment ago) stays in `accounts`. `saved` and `restore` carry it all across a restart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from protocols.meters.formula import Counter, Value
from protocols.meters.identity import Profile, shown
from proxy.metering.differences import Moved, Reset, Usage, Values, add, moved
from proxy.metering.spans import Span, attribute, over
from storage.answers import OpenSession
from storage.records import Mode

NOBODY_MARK = ""
NOBODYS_LONGEST = 3_600.0
"""Seconds after which nobody's pages are settled although more come all the time."""
UPTIME_WRAPS = 1 << 32
SAVED_VERSION = 1
MOST_SPANS = 64
"""Sessions that wait for a reading; of a copier that does not answer for days the oldest are given up."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A profile's counters at one moment: monotonic seconds, ms UTC; `uptime` in hundredths of a second."""

    values: Values
    uptime: int | None
    serial: str
    now: float
    wall: int


@dataclass(slots=True)
class Account:
    """What one session, or nobody, has made since the last settlement."""

    session: OpenSession | None
    since: float
    usage: Usage = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not any(self.usage.values())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a reading. `event`: reading, reset, exchange; `why` in words. `settled`: accounts that are complete.

    `moved_pages`: what the meters moved by, `unclear`: of these, pages that one of several sessions made.
    """

    event: str
    why: str
    settled: tuple[Account, ...]
    moved_pages: int = 0
    unclear: int = 0


class Copier:
    """The state of one copier's meters."""

    def __init__(self) -> None:
        self.profile: Profile | None = None
        self.last: Reading | None = None
        self.spans: list[Span] = []
        self.accounts: dict[str, Account] = {}
        self.moved_at: dict[str, float] = {}
        self.flushes = 0
        self._restored: dict[str, Usage] = {}

    # Sessions

    def began(self, session: OpenSession, now: float, wall: int) -> None:
        """A session is open; one that began before a restart began when it did."""
        if not any(each.mark == session.session for each in self.spans):
            del self.spans[: max(0, len(self.spans) - MOST_SPANS + 1)]
            self.spans.append(Span(session, now - max(0, wall - session.at) / 1000))
            usage = self._restored.pop(session.session, None)
            if usage:
                self.accounts[session.session] = Account(session, now, usage)

    def ended(self, session: OpenSession, now: float) -> None:
        for each in self.spans:
            if each.mark == session.session and each.ended is None:
                each.ended = now

    @property
    def in_session(self) -> bool:
        return any(each.ended is None for each in self.spans)

    def oldest_end(self) -> float | None:
        """When the session ended that has waited longest for its last reading."""
        return min((each.ended for each in self.spans if each.ended is not None), default=None)

    # Readings

    def read(self, reading: Reading) -> Outcome:
        """The meters as they are, read at `reading.now`."""
        known, before, self.last = self.profile, self.last, reading
        if known is None:
            return Outcome("reading", "", ())
        event, why, change = "reading", "", Moved({})
        if before is not None:
            if before.serial and reading.serial and before.serial != reading.serial:
                event, why = "exchange", f"its serial number was {before.serial} and is {reading.serial}"
            else:
                result = moved(
                    known,
                    before.values,
                    reading.values,
                    max((reading.wall - before.wall) / 1000, reading.now - before.now),
                    rebooted=_rebooted(before, reading),
                )
                if isinstance(result, Reset):
                    event, why = "reset", result.why
                else:
                    change = result
        unclear = self._attribute(change, before, reading)
        self._keep_up_with(reading, before)
        return Outcome(event, why, self._settle(change, reading, event), change.pages, unclear)

    def meters(self) -> dict[str, int]:
        """What the meters showed last, by meaning."""
        return shown(self.profile, self.last.values) if self.profile is not None and self.last is not None else {}

    @property
    def pending(self) -> bool:
        """Whether pages are not settled yet."""
        return any(not each.empty for each in self.accounts.values())

    def _attribute(self, change: Moved, before: Reading | None, reading: Reading) -> int:
        if before is None or not change.pages:
            return 0
        whose = attribute(self.spans, before.now, reading.now)
        mark = NOBODY_MARK if whose.span is None else whose.span.mark
        account = self.accounts.get(mark)
        if account is None:
            session = None if whose.span is None else whose.span.session
            account = self.accounts[mark] = Account(session, reading.now)
        account.usage = add(account.usage, change.usage)
        self.moved_at[mark] = reading.now
        return change.pages if whose.unclear else 0

    def _keep_up_with(self, reading: Reading, before: Reading | None) -> None:
        """A counter that was not answered this time keeps what it showed: what it moved by comes with the next."""
        if before is not None:
            kept = {each: value for each, value in before.values.items() if each not in reading.values}
            if kept:
                values = {**kept, **reading.values}
                self.last = Reading(values, reading.uptime, reading.serial or before.serial, reading.now, reading.wall)

    def _settle(self, change: Moved, reading: Reading, event: str) -> tuple[Account, ...]:
        done: list[Account] = []
        for span in over(self.spans, reading.now):
            self.spans.remove(span)
            self.moved_at.pop(span.mark, None)
            if span.mark in self.accounts:
                done.append(self.accounts.pop(span.mark))
        for mark, usage in self._restored.items():
            # Of sessions that were over when Locum began again.
            done.append(Account(_gone(mark), reading.now, usage))
        self._restored = {}
        nobodys = self.accounts.get(NOBODY_MARK)
        if nobodys is not None:
            quiet = self.moved_at.get(NOBODY_MARK) != reading.now
            if quiet or self.spans or event != "reading" or reading.now - nobodys.since >= NOBODYS_LONGEST:
                done.append(self.accounts.pop(NOBODY_MARK))
        return tuple(each for each in done if not each.empty)

    # Across a restart

    def saved(self, jobs: list[dict[str, object]]) -> str:
        """All of it as text. `jobs`: those that were settled with it."""
        last = self.last
        return json.dumps(
            {
                "version": SAVED_VERSION,
                "flushes": self.flushes,
                "serial": last.serial if last else "",
                "uptime": last.uptime if last else None,
                "wall": last.wall if last else 0,
                "values": [[*counter, *value] for counter, value in last.values.items()] if last else [],
                "accounts": {mark: each.usage for mark, each in self.accounts.items() if not each.empty},
                "jobs": jobs,
            },
            separators=(",", ":"),
        )

    def restore(self, text: str, now: float, wall: int) -> list[dict[str, object]]:
        """What `saved` gave, in an earlier run; gives the jobs in it. Raises ValueError for anything else."""
        try:
            told = json.loads(text)
            if told["version"] != SAVED_VERSION:
                return []
            values = {Counter(oid, tag): Value(number, modulus) for oid, tag, number, modulus in told["values"]}
            accounts = {str(mark): _usage(usage) for mark, usage in told["accounts"].items()}
            since = now - max(0, wall - int(told["wall"])) / 1000
            if values:
                self.last = Reading(values, told["uptime"], str(told["serial"]), since, int(told["wall"]))
            self.flushes = int(told["flushes"])
            jobs: list[dict[str, object]] = list(told["jobs"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from error
        nobodys = accounts.pop(NOBODY_MARK, None)
        if nobodys:
            self.accounts[NOBODY_MARK] = Account(None, now, nobodys)
        self._restored = accounts
        return jobs


def _rebooted(before: Reading, reading: Reading) -> bool:
    """By sysUpTime, which begins again at 2^32 hundredths of a second by itself."""
    if before.uptime is None or reading.uptime is None or reading.uptime >= before.uptime:
        return False
    passed = 100 * max(0.0, (reading.wall - before.wall) / 1000)
    return abs(before.uptime + passed - UPTIME_WRAPS - reading.uptime) > 60_000


def _gone(mark: str) -> OpenSession:
    """A session of which only the mark is known any more."""
    return OpenSession(mark, "", "", "", 0, 0, Mode.UNKNOWN)


def _usage(told: Mapping[str, object]) -> Usage:
    return {str(meaning): int(number) for meaning, number in told.items() if isinstance(number, int)}
