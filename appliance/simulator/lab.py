"""Many copiers for a lab: they swipe, copy and report until all jobs are done, and one line says how it went.

Each copier does one thing at a time, as copiers do, so the rate that can be reached is their number over the time that
an answer takes. Whoever is not let in walks away and the next person comes.
"""

from __future__ import annotations

import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from appliance.simulator.copier import KIND_NUMBERS, Copier, Target
from appliance.simulator.terminal import TerminalCopier, TerminalTarget

AnyCopier = Copier | TerminalCopier
AnyTarget = Target | TerminalTarget

JOBS_A_SESSION = 3
LOGIN_WAIT = 15.0


class LabError(Exception):
    """The copiers cannot start. The text is one line: what, where, what to do."""


def resolved(host: str, option: str = "--radius") -> str:
    """The first numeric address of a host. Raises LabError."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        raise LabError(f"{host}: is no address and does not resolve ({error}); check {option}") from None


class Lab:
    """So many copiers in front of one target. `rate`: jobs a second over all; 0 means as fast as they go."""

    def __init__(
        self, reactor: Any, target: AnyTarget, cards: Sequence[str], *, count: int, jobs: int, rate: float
    ) -> None:
        self._reactor = reactor
        self._cards = cards
        self._jobs_left = jobs
        self._interval = 1 / rate if rate else 0.0
        self._next_turn = 0.0
        self._began = 0.0
        self._people = 0
        self.ending = False
        self._counts: Counter[str] = Counter()
        # Milliseconds since 1970 in hex: no session or job number comes back when the command is run again.
        run = f"{time.time_ns() // 1_000_000:x}-"
        self._again = "datagrams" if isinstance(target, Target) else "requests"
        self._copiers = [_copier(reactor, f"copier-{number}", target, run) for number in range(1, count + 1)]

    def work(self) -> Deferred[Any]:
        """Fires once every job is done and acknowledged, or nobody is let in."""
        self._began = self._next_turn = self._reactor.seconds()
        return gatherResults(
            [Deferred.fromCoroutine(self._one(copier)) for copier in self._copiers], consumeErrors=True
        )

    @property
    def all_acknowledged(self) -> bool:
        """Whether every job was done, and acknowledged."""
        return self._jobs_left == 0 and all(job.acknowledged for copier in self._copiers for job in copier.jobs)

    def end(self) -> None:
        """Nobody starts anything from now on, and what is cut off is no trouble."""
        self.ending = True

    def close(self) -> None:
        """Switch all copiers off."""
        for copier in self._copiers:
            copier.close()

    def closing_line(self) -> str:
        """What happened, in one line."""
        jobs = [job for copier in self._copiers for job in copier.jobs]
        counts, seconds = self._counts, self._reactor.seconds() - self._began
        return (
            f"{len(self._copiers)} copiers, {seconds:.1f} s: logins {counts['granted']} granted, "
            f"{counts['refused']} refused, {counts['unanswered']} unanswered; jobs {len(jobs)} sent, "
            f"{sum(job.acknowledged for job in jobs)} acknowledged, {sum(job.pages for job in jobs)} pages; "
            f"{sum(copier.sent_again for copier in self._copiers)} {self._again} sent again"
        )

    async def _one(self, copier: AnyCopier) -> None:
        await copier.power_on()
        refused = 0
        while self._jobs_left and refused < len(self._cards):
            card = self._next_card()
            answer = await copier.log_in(card, wait=LOGIN_WAIT)
            if self.ending:
                return
            what = "unanswered" if answer is None else "granted" if answer.granted else "refused"
            self._counts[what] += 1
            if answer is None:
                print(f"{copier.name}: no answer to a swipe in {LOGIN_WAIT:.0f} s; swiping again", file=sys.stderr)
                continue
            refused = 0 if answer.granted else refused + 1
            if answer.granted:
                await self._session(copier, card, answer.marks)

    async def _session(self, copier: AnyCopier, card: str, marks: tuple[bytes, ...]) -> None:
        session = await copier.begin(card, marks)
        for _ in range(JOBS_A_SESSION):
            if not self._jobs_left:
                break
            self._jobs_left -= 1
            await self._turn()
            pages = random.randint(1, 20)
            await copier.copy(session, random.choice(list(KIND_NUMBERS)), pages, random.randint(0, pages))
        await copier.end(session)

    def _next_card(self) -> str:
        self._people += 1
        return self._cards[(self._people - 1) % len(self._cards)]

    async def _turn(self) -> None:
        """Wait until the rate allows for the next job."""
        if self._interval:
            now = self._reactor.seconds()
            at = max(self._next_turn, now)
            self._next_turn = at + self._interval
            await deferLater(self._reactor, at - now)


def _copier(reactor: Any, name: str, target: AnyTarget, run: str) -> AnyCopier:
    if isinstance(target, Target):
        return Copier(reactor, name, target, run=run)
    return TerminalCopier(reactor, name, target)


def run_lab(target: AnyTarget, cards: Sequence[str], *, count: int, jobs: int, rate: float) -> int:
    """Run the copiers until they are done or interrupted, and print the closing line; gives the exit status."""
    from twisted.internet import reactor

    running: Any = reactor
    lab = Lab(running, target, cards, count=count, jobs=jobs, rate=rate)
    failures: list[Failure] = []

    def failed(failure: Failure) -> None:
        if not lab.ending:  # whoever interrupts the copiers takes the connections away from under them
            first = failure.value
            failures.append(first.subFailure if isinstance(first, FirstError) else failure)

    running.addSystemEventTrigger("before", "shutdown", lab.end)
    running.callWhenRunning(lambda: lab.work().addErrback(failed).addBoth(lambda _: running.running and running.stop()))
    running.run()
    done, line = lab.all_acknowledged, lab.closing_line()
    lab.close()
    print(line)
    if failures:
        failures[0].raiseException()
    return 0 if done else 1
