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

from appliance.demo.figures import Codes, Logins
from appliance.demo.stage import DemoFailed
from appliance.demo.telling import Teller
from appliance.demo.watch import PATIENCE
from appliance.simulator.copier import LoginAnswer, Session
from appliance.simulator.lab import AnyCopier
from appliance.simulator.terminal import TerminalCopier, TerminalLogin
from appliance.simulator.users import User, Users
from protocols.terminal.messages import LoginStatus, Scope, UnlockStatus
from proxy.admission import OFFLINE_LINE

MOST_TOLD = 6
VISITOR = User("", "A visitor from another office", "7E57C0DE")
BROKE = "dkeller"
TYPIST = "nvogel"
PASSWORD = "autumn-leaves"
SWIPES_AGAIN = 0.3

AnyLogin = LoginAnswer | TerminalLogin


@dataclass(slots=True)
class Turn:
    """One person's turn at one copier, with so many jobs to do; `session` once it was begun."""

    copier: AnyCopier
    person: User
    jobs: int = 0
    told: bool = False
    session: Session | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """Somebody was let in: the answer, and how long it took with all tries."""

    answer: AnyLogin
    seconds: float
    tries: int

    @property
    def words(self) -> str:
        """What the display shows."""
        return words_of(self.answer)


def who_copies(users: Users) -> list[User]:
    """Those who may copy whatever is on their account, so that no figure rests on how much they copied before."""
    return [user for user in users if user.card and not user.restricted and user.username != TYPIST]


def share_out(jobs: int, turns: list[Turn], first: Iterable[Turn]) -> None:
    """All jobs among all turns, nearly the same number for each; where they do not suffice, `first` come first."""
    preferred = list(first)
    ordered = [*preferred, *(turn for turn in turns if not any(turn is each for each in preferred))]
    for number, turn in enumerate(ordered):
        turn.jobs = jobs // len(ordered) + (number < jobs % len(ordered))


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

    @property
    def codes(self) -> Codes:
        """How the codes ended that were typed at copiers."""
        return Codes(self._seen["unlocked"], self._seen["wrong code"])

    async def round(self, turns: list[Turn], *, online: bool, apart: float = 0.25) -> None:
        """All copiers at once, people coming so many seconds after each other; they are to be let in."""
        apart = min(apart, 1.5 / max(1, len(turns)))
        await together(self._later(number * apart, turn, online) for number, turn in enumerate(turns))
        if untold := sum(not turn.told for turn in turns):
            self._teller.tell("copiers", f"and people at {untold} more did the same.")

    async def swipe(self, turn: Turn, *, online: bool) -> Entry:
        """Somebody swipes, again while the copier says that the server is away, and is to be let in, by the server or
        by Locum. Raises DemoFailed.
        """
        self._expected["online" if online else "offline"] += 1
        began = self._reactor.seconds()
        answer, tries = await self._log_in(turn.copier, turn.person.card)
        if answer is None or not answer.granted:
            said = f"“{answer.words}”" if answer else "nothing"
            raise DemoFailed(f"{turn.copier.name} was to let {turn.person.full_name} in, and was answered {said}")
        return Entry(answer, self._reactor.seconds() - began, tries)

    async def is_refused(self, copier: AnyCopier, person: User, how: str, *, password: str = "") -> None:
        """Somebody is to be refused: by card, or with a password by name. Raises DemoFailed."""
        self._expected["refused"] += 1
        name = person.username if password else person.card
        answer, _ = await self._log_in(copier, name, password)
        if answer is None or answer.granted or _is_unavailable(answer):
            raise DemoFailed(f"{copier.name} was to refuse {person.full_name} ({how}), and did not")
        self._teller.tell(copier.name, f"{person.full_name} {how}, and is refused: “{answer.words}”.", "yellow")

    async def finds_it_locked(self, copier: AnyCopier, person: User, how: str) -> None:
        """Somebody swipes where offline mode waits for the code. Raises DemoFailed."""
        self._expected["locked"] += 1
        answer, _ = await self._log_in(copier, person.card)
        if not isinstance(answer, TerminalLogin) or answer.status != LoginStatus.LOCKED:
            raise DemoFailed(f"{copier.name} was to be locked, and was not")
        self._teller.tell(copier.name, f"{person.full_name} {how}, and reads “{answer.words}”.", "yellow")

    async def types_code(self, copier: AnyCopier, code: str, scope: Scope, *, right: bool, how: str) -> None:
        """An adult types the code, or a wrong one. Raises DemoFailed."""
        wanted = UnlockStatus.UNLOCKED if right else UnlockStatus.WRONG
        result = await copier.unlock(code, scope, wait=PATIENCE) if isinstance(copier, TerminalCopier) else None
        if result is None or result.status != wanted:
            said = "nothing" if result is None else f"status {result.status}"
            raise DemoFailed(f"{copier.name} was given {'the' if right else 'a wrong'} code, and was answered {said}")
        self._seen["unlocked" if right else "wrong code"] += 1
        self._teller.tell(copier.name, how, "" if right else "yellow")

    async def work(self, turn: Turn, entry: Entry, before: str = "swipes,", *, stay: bool = False) -> None:
        """The session of somebody who was let in; `stay`: it is left open."""
        turn.session = await turn.copier.begin(turn.person.card, entry.answer.marks)
        await self._copy(turn, turn.session, f"{before} reads “{entry.words}”", "stays" if stay else "logs out")
        if not stay:
            await turn.copier.end(turn.session)

    async def come(self, turn: Turn, *, online: bool) -> None:
        """Somebody swipes, is let in and works."""
        await self.work(turn, await self.swipe(turn, online=online))

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
        await self.come(turn, online=online)

    async def _copy(self, turn: Turn, session: Session, before: str, after: str) -> None:
        pages = 0
        for _ in range(turn.jobs):
            count = random.randint(1, 12)
            color = random.randint(0, count)
            job = await turn.copier.copy(session, random.choice(("copy", "copy", "print", "scan")), count, color)
            if not job.acknowledged:
                raise DemoFailed(f"{turn.copier.name}: job {job.number} was not acknowledged")
            pages += count
            self.job_done()
            await self.pause(min(0.1, 0.5 / turn.jobs))
        if turn.told:
            did = f"does {turn.jobs} {'job' if turn.jobs == 1 else 'jobs'} of {pages} pages" if turn.jobs else "waits"
            self._teller.tell(turn.copier.name, f"{turn.person.full_name} {before}, {did}, {after}.")

    async def _log_in(self, copier: AnyCopier, name: str, password: str = "") -> tuple[AnyLogin | None, int]:
        """The decision on a login, asked for again while there is none, and how often it was asked for."""
        tries, end = 1, self._reactor.seconds() + PATIENCE
        answer = await copier.log_in(name, password=password, wait=PATIENCE)
        while answer is not None and _is_unavailable(answer) and (left := end - self._reactor.seconds()) > 0:
            await deferLater(self._reactor, SWIPES_AGAIN)
            tries += 1
            answer = await copier.log_in(name, password=password, wait=left)
        if answer is not None and not _is_unavailable(answer):
            self._seen[_kind(answer)] += 1
        return answer, tries


async def together(coroutines: Iterable[Any]) -> None:
    """Run them all at once; raises what the first that fails raises."""
    started: list[Deferred[Any]] = [Deferred.fromCoroutine(each) for each in coroutines]
    await gatherResults(started, consumeErrors=True)


def words_of(answer: AnyLogin) -> str:
    """What the display shows: the words that came, else the user and the balance."""
    if answer.words or not isinstance(answer, TerminalLogin):
        return answer.words or "Welcome"
    return answer.user if answer.balance is None else f"{answer.user}, {answer.balance / 100:.2f} left"


def _kind(answer: AnyLogin) -> str:
    if answer.granted:
        return "offline" if answer.words == OFFLINE_LINE else "online"
    locked = isinstance(answer, TerminalLogin) and answer.status == LoginStatus.LOCKED
    return "locked" if locked else "refused"


def _is_unavailable(answer: AnyLogin) -> bool:
    """Whether the copier was told that the server does not answer, which is no decision."""
    return isinstance(answer, TerminalLogin) and answer.status == LoginStatus.UNAVAILABLE


def _logins(counts: Counter[str]) -> Logins:
    return Logins(counts["online"], counts["offline"], counts["refused"], counts["locked"])
