"""Who comes to which copier and what they do there, told and counted.

A turn is one person at one copier. The short pauses are those of people, so that the story can be read; where nobody
reads there are none.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from appliance.demo.figures import Logins
from appliance.demo.stage import DemoFailed
from appliance.demo.telling import Teller
from appliance.demo.watch import PATIENCE
from appliance.simulator.copier import Copier, LoginAnswer, Session
from appliance.simulator.users import User, Users
from proxy.admission import OFFLINE_LINE

MOST_TOLD = 6
VISITOR = User("", "A visitor from another office", "7E57C0DE")
BROKE = "dkeller"
TYPIST = "nvogel"
PASSWORD = "autumn-leaves"


@dataclass(slots=True)
class Turn:
    """One person's turn at one copier, with so many jobs to do; `session` once it was begun."""

    copier: Copier
    person: User
    jobs: int
    told: bool
    session: Session | None = None


def turns_of(copiers: list[Copier], users: Users, rounds: int, jobs: int) -> list[list[Turn]]:
    """So many rounds with a turn at each copier; all jobs are shared out among them. Told are the first few copiers."""
    people = [user for user in users if user.card and user.may_copy and user.username != TYPIST]
    made: list[list[Turn]] = []
    total = rounds * len(copiers)
    for number in range(total):
        at = number % len(copiers)
        if at == 0:
            made.append([])
        share = jobs * (number + 1) // total - jobs * number // total
        made[-1].append(Turn(copiers[at], people[number % len(people)], share, at < MOST_TOLD))
    return made


class People:
    """Sends people to copiers. `seen` and `expected` are what became of their swipes, and what was to become of them.

    `job_done` is called after each acknowledged job.
    """

    def __init__(self, reactor: Any, teller: Teller) -> None:
        self.job_done: Callable[[], None] = lambda: None
        self._reactor = reactor
        self._teller = teller
        self._seen: Counter[str] = Counter()
        self._expected: Counter[str] = Counter()

    @property
    def seen(self) -> Logins:
        """How the swipes ended, as the copiers saw it."""
        return _logins(self._seen)

    @property
    def expected(self) -> Logins:
        """How they were to end."""
        return _logins(self._expected)

    async def round(self, turns: list[Turn], *, online: bool, apart: float = 0.25) -> None:
        """All copiers at once, people coming so many seconds after each other; they are to be let in."""
        apart = min(apart, 1.5 / max(1, len(turns)))
        await together(self._later(number * apart, turn, online) for number, turn in enumerate(turns))
        if untold := sum(not turn.told for turn in turns):
            self._teller.tell("copiers", f"and people at {untold} more did the same.")

    async def swipe(self, turn: Turn, *, online: bool) -> LoginAnswer:
        """Somebody swipes and is to be let in, by the server or by Locum. Raises DemoFailed."""
        self._expected["online" if online else "offline"] += 1
        answer = self._counted(await turn.copier.log_in(turn.person.card, wait=PATIENCE))
        if answer is None or not answer.granted:
            said = f"“{answer.words}”" if answer else "nothing"
            raise DemoFailed(f"{turn.copier.name} was to let {turn.person.full_name} in, and was answered {said}")
        return answer

    async def is_refused(self, copier: Copier, person: User, how: str, *, password: str = "") -> None:
        """Somebody is to be refused: by card, or with a password by name. Raises DemoFailed."""
        self._expected["refused"] += 1
        name = person.username if password else person.card
        answer = self._counted(await copier.log_in(name, password=password, wait=PATIENCE))
        if answer is None or answer.granted:
            raise DemoFailed(f"{copier.name} was to refuse {person.full_name} ({how}), and did not")
        self._teller.tell(copier.name, f"{person.full_name} {how}, and is refused: “{answer.words}”.", "yellow")

    async def work(self, turn: Turn, answer: LoginAnswer, before: str = "swipes,", *, stay: bool = False) -> None:
        """The session of somebody who was let in; `stay`: it is left open."""
        turn.session = await turn.copier.begin(turn.person.card, answer.marks)
        await self._copy(turn, turn.session, f"{before} reads “{answer.words}”", "stays" if stay else "logs out")
        if not stay:
            await turn.copier.end(turn.session)

    async def finish(self, turn: Turn) -> None:
        """The rest of a session that was left open."""
        if turn.session is not None:
            session, turn.session = turn.session, None
            await self._copy(turn, session, "is still logged in", "logs out")
            await turn.copier.end(session)

    async def pause(self, seconds: float) -> None:
        """What a person takes, where somebody reads."""
        if seconds and not self._teller.silent:
            await deferLater(self._reactor, seconds)

    async def _later(self, seconds: float, turn: Turn, online: bool) -> None:
        await self.pause(seconds)
        await self.work(turn, await self.swipe(turn, online=online))

    async def _copy(self, turn: Turn, session: Session, before: str, after: str) -> None:
        pages = 0
        for _ in range(turn.jobs):
            count = random.randint(1, 12)
            color = random.randint(0, count)
            await turn.copier.copy(session, random.choice(("copy", "copy", "print", "scan")), count, color)
            pages += count
            self.job_done()
            await self.pause(min(0.1, 0.5 / turn.jobs))
        if turn.told:
            did = f"does {turn.jobs} {'job' if turn.jobs == 1 else 'jobs'} of {pages} pages" if turn.jobs else "waits"
            self._teller.tell(turn.copier.name, f"{turn.person.full_name} {before}, {did}, {after}.")

    def _counted(self, answer: LoginAnswer | None) -> LoginAnswer | None:
        if answer is not None:
            by_locum = answer.words == OFFLINE_LINE
            self._seen["refused" if not answer.granted else "offline" if by_locum else "online"] += 1
        return answer


async def together(coroutines: Iterable[Any]) -> None:
    """Run them all at once; raises what the first that fails raises."""
    started: list[Deferred[Any]] = [Deferred.fromCoroutine(each) for each in coroutines]
    await gatherResults(started, consumeErrors=True)


def _logins(counts: Counter[str]) -> Logins:
    return Logins(counts["online"], counts["offline"], counts["refused"])
