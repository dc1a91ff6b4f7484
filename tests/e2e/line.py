"""A whole line for one test: FreeRADIUS, Locum in front of it, copiers, and a book of what the copiers reported.

`Shift` is what people did at one copier: each job with the time at which it was first sent and whether it was
acknowledged. The checks compare shifts with FreeRADIUS's own accounting log and with Locum's ledger, never with
Locum's word alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.peers import wire
from tests.peers.copier import Copier
from tests.peers.freeradius import FreeRadius, Logged, seconds_of
from tests.peers.locum import Locum
from tests.peers.waiting import eventually

Key = tuple[str, str, str]
"""NAS-Identifier, session, job number."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A job as a copier reported it; `at` is the wall clock at its first sending."""

    key: Key
    at: float
    acknowledged: bool
    delay: int = 0


@dataclass(slots=True)
class Shift:
    """The jobs of one copier, in order."""

    copier: Copier
    reported: list[Reported] = field(default_factory=list)

    def job(
        self,
        session: str,
        *,
        card: str = "0A1B2C3D",
        pages: int = 3,
        delay: int = 0,
        wait: float = 5.0,
        must: bool = True,
        resend_every: float | None = 1.0,
    ) -> Reported:
        """Report the next job of a session; `must` it be acknowledged? `delay` is the device's own Acct-Delay-Time."""
        number = f"{len(self.reported):06d}"
        extra = wire.attribute(wire.DELAY_TIME, delay) if delay else b""
        at = time.time()
        answer = self.copier.account(
            wire.INTERIM, session, user=card, job=number, pages=pages, extra=extra, wait=wait, resend_every=resend_every
        )
        done = Reported((self.copier.name, session, number), at, answer is not None, delay)
        self.reported.append(done)
        if must:
            assert done.acknowledged, f"no acknowledgement for {done.key} in {wait:g} s"
        return done


def key_of(logged: Logged) -> Key:
    """The NAS, session and job of a record in FreeRADIUS's log."""
    return logged.get("NAS-Identifier"), logged.get("Acct-Session-Id"), logged.get("Locum-Job-Id")


def arrivals(server: FreeRadius) -> dict[Key, list[Logged]]:
    """FreeRADIUS's log by job, copies of one job together, in the order of first arrival."""
    found: dict[Key, list[Logged]] = {}
    for logged in server.logged():
        if logged.get("Locum-Job-Id"):
            found.setdefault(key_of(logged), []).append(logged)
    return found


def acknowledged(shifts: Iterable[Shift]) -> list[Reported]:
    """Every acknowledged job."""
    return [job for shift in shifts for job in shift.reported if job.acknowledged]


def wait_for_all(server: FreeRadius, shifts: Iterable[Shift], within: float = 20.0) -> dict[Key, list[Logged]]:
    """Wait until every acknowledged job stands in FreeRADIUS's log: none lost."""
    wanted = {job.key for job in acknowledged(shifts)}

    def complete() -> bool:
        return not wanted - arrivals(server).keys()

    try:
        eventually(complete, within, "every acknowledged job is in the server's log", every=0.1)
    except AssertionError as failure:
        lost = wanted - arrivals(server).keys()
        raise AssertionError(f"{len(lost)} of {len(wanted)} lost: {sorted(lost)[:5]}") from failure
    return arrivals(server)


def assert_in_order(found: dict[Key, list[Logged]]) -> None:
    """Jobs of one session arrived in the order of their numbers."""
    latest: dict[tuple[str, str], str] = {}
    for nas, session, job in found:
        before = latest.get((nas, session), "")
        assert job > before, f"{nas} {session}: job {job} arrived after {before}"
        latest[nas, session] = job


def assert_delay_right(found: dict[Key, list[Logged]], reported: Iterable[Reported], tolerance: float = 1.6) -> None:
    """Acct-Delay-Time is the device's value plus the time held; Event-Timestamp, where it waited, when it happened."""
    for job in reported:
        for copy in found.get(job.key, []):
            delay = float(copy.get("Acct-Delay-Time", "0"))
            happened = job.at - job.delay
            assert abs(copy.written - delay - happened) <= tolerance, (
                f"{job.key}: written {copy.written}, delay {delay}, happened {happened:.1f}"
            )
            if "Event-Timestamp" not in copy.attributes:
                assert delay == job.delay, f"{job.key}: held for {delay} s and not stamped"
                continue
            stamped = seconds_of(copy["Event-Timestamp"])
            assert abs(stamped - happened) <= tolerance, f"{job.key}: stamped {stamped}, happened {happened:.1f}"


def extra_copies(found: dict[Key, list[Logged]]) -> dict[Key, list[Logged]]:
    """The jobs that stand in the log more than once."""
    return {key: copies for key, copies in found.items() if len(copies) > 1}


def assert_extra_copies_named(found: dict[Key, list[Logged]], locum: Locum, at_most: int) -> None:
    """At most `at_most` jobs have copies; all copies share one Locum-Record-Id, and the ledger's deliveries name it."""
    twice = extra_copies(found)
    assert len(twice) <= at_most, f"{len(twice)} jobs have copies, {at_most} were in flight"
    named = {row["id"] for row in locum.query("SELECT id FROM maybe_forwarded_twice")}
    for key, copies in twice.items():
        ids = {copy.get("Locum-Record-Id") for copy in copies} - {""}
        assert len(ids) <= 1, f"{key}: copies under different ids {ids}"
        known = ids or {
            row["id"]
            for row in locum.query("SELECT id FROM jobs WHERE device = ? AND session = ? AND job_number = ?", *key)
        }
        assert known & named, f"{key} came {len(copies)} times and the ledger does not name it"


def assert_ledgered_once(locum: Locum, reported: Iterable[Reported]) -> None:
    """Every acknowledged job stands in the ledger, once."""
    rows = locum.query("SELECT device, session, job_number, count(*) AS n FROM jobs GROUP BY 1, 2, 3")
    stored = {(row["device"], row["session"], row["job_number"]): row["n"] for row in rows}
    for job in reported:
        assert stored.get(job.key) == 1, f"{job.key} stands {stored.get(job.key, 0)} times in the ledger"


@dataclass(slots=True)
class Line:
    """A server, a Locum that is ready and has heard it, and one shift."""

    server: Any
    locum: Locum
    shift: Shift

    @property
    def copier(self) -> Copier:
        """The shift's copier."""
        return self.shift.copier

    def go_offline(self) -> None:
        """kill -9 of the server, and offline mode."""
        self.server.kill()
        self.locum.wait_for_state("offline")

    def come_back(self, within: float = 20.0) -> None:
        """The server starts again, and all is drained."""
        self.server.start()
        self.locum.wait_until_drained(within)
