"""What happens in the demo: a morning, the server's death, an outage in which Locum itself is killed, and the return.

Nothing is waited for by guess: each step begins once the one before is seen to have happened. Every person is of
`users.csv`, but for the visitor, whose card the server does not know.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, FirstError
from twisted.internet.threads import deferToThread

from appliance.demo.audit import audit
from appliance.demo.figures import Audit, Counted, read_ledger
from appliance.demo.people import BROKE, PASSWORD, TYPIST, VISITOR, People, Turn, together, turns_of
from appliance.demo.stage import DELAY, DemoFailed, Stage
from appliance.demo.telling import Teller
from appliance.demo.watch import Watch
from appliance.simulator.book import records_in
from appliance.simulator.copier import Copier
from appliance.simulator.users import User, shipped_users

FIRST_PAUSE = 0.3
ROUNDS = 4


class Story:
    """The whole story, to be played once."""

    def __init__(self, reactor: Any, stage: Stage, teller: Teller, *, copiers: int, jobs: int) -> None:
        self._stage = stage
        self._teller = teller
        self._jobs = jobs
        self._users = shipped_users()
        self._watch = Watch(reactor, stage)
        self._people = People(reactor, teller)
        self._copiers = [
            Copier(
                reactor,
                f"copier-{number}",
                stage.locum_target,
                source=f"127.0.0.{10 + number}",
                first_pause=FIRST_PAUSE,
            )
            for number in range(1, copiers + 1)
        ]
        self._jobs_until_kill: int | None = None

    async def play(self) -> Audit:
        """Play it; gives the audit. Raises DemoFailed, BookError or StorageError."""
        morning, first, second, evening = turns_of(self._copiers, self._users, ROUNDS, self._jobs)
        second[-1].person, second[-1].told = VISITOR, True
        try:
            await self._set_up()
            await self._morning(morning)
            await self._death(morning[-1], first[0])
            await self._outage(first)
            await self._second_death(second)
            await self._return()
            await self._evening(evening)
            await self._close()
        except FirstError as error:
            error.subFailure.raiseException()
        finally:
            for copier in self._copiers:
                copier.close()
        counted = Counted(
            devices=[copier.name for copier in self._copiers],
            jobs=[job for copier in self._copiers for job in copier.jobs],
            records=sum(copier.records_acknowledged for copier in self._copiers),
            logins=self._people.seen,
            jobs_wanted=self._jobs,
            logins_wanted=self._people.expected,
        )
        kept, booked = read_ledger(self._stage.ledger), records_in(self._stage.book_dir)
        return audit(counted, kept, booked, self._users, self._teller.seconds)

    async def _set_up(self) -> None:
        stage, tell, count = self._stage, self._teller.tell, len(self._copiers)
        copiers = "One copier" if count == 1 else f"{count} copiers"
        self._teller.chapter(f"{copiers}, an Application Server, and Locum between them")
        stage.server.start()
        stage.locum.start()
        await self._watch.until_server_answers()
        tell("server", f"is up (process {stage.server.pid}). It knows {len(self._users)} people by their cards.")
        await self._watch.until_state("online")
        tell("Locum", f"is up (process {stage.locum.pid}) and has heard from the server.")
        await together(copier.power_on() for copier in self._copiers)
        tell("copiers", "are switched on. They know one address, Locum's, and take it for the server.")

    async def _morning(self, turns: list[Turn]) -> None:
        self._teller.chapter("A normal morning: Locum passes everything on, and writes it down")
        last = turns[-1]
        # One job is held back: it is done just after the server has died.
        held_back = min(1, last.jobs)
        last.jobs -= held_back
        await self._people.round(turns[:-1], online=True)
        await self._people.work(last, await self._people.swipe(last, online=True), stay=True)
        last.jobs = held_back
        await self._people.is_refused(turns[0].copier, self._named(BROKE), "swipes a card that the server knows")

    async def _death(self, still_there: Turn, comes_in: Turn) -> None:
        stage, tell = self._stage, self._teller.tell
        self._teller.chapter("The server dies")
        stage.server.kill()
        tell("server", f"is killed: kill -9 {stage.server.pid}. Nobody told the copiers, or Locum.", "red")
        if comes_in.copier is still_there.copier:
            await self._people.finish(still_there)
        swipe = Deferred.fromCoroutine(self._people.swipe(comes_in, online=False))
        await self._people.finish(still_there)
        await self._watch.until_state("grace", "offline")
        tell("Locum", f"has noticed. It may be only a reboot: for {DELAY} s Locum does not speak for the server.")
        name, person = comes_in.copier.name, comes_in.person.full_name
        tell(name, f"{person} has swiped a card meanwhile. The copier gets no answer, and asks again and again.")
        answer = await swipe
        self._teller.chapter("Offline mode: Locum answers in the server's place")
        await self._watch.until_state("offline")
        tell("Locum", "is offline: the time has passed and the server is still away. It decides who may copy.")
        await self._people.work(comes_in, answer, f"has waited {answer.seconds:.1f} s and")

    async def _outage(self, turns: list[Turn]) -> None:
        await self._people.round(turns[1:], online=False)
        one, other = turns[0].copier, turns[-1].copier
        await self._people.is_refused(one, self._named(TYPIST), "types a name and a password", password=PASSWORD)
        await self._people.is_refused(other, self._named(BROKE), "tries again with the card that the server refused")

    async def _second_death(self, turns: list[Turn]) -> None:
        self._teller.chapter("Now Locum itself is killed, while people copy")
        self._jobs_until_kill = max(1, sum(turn.jobs for turn in turns) // 2)
        self._people.job_done = self._one_job_nearer
        back = Deferred.fromCoroutine(self._restart_locum())
        await self._people.round(turns, online=False, apart=0.05)
        if self._jobs_until_kill is not None:
            self._kill_locum()
        await back
        records = await self._watch.waiting()
        self._teller.tell(
            "Locum",
            f"keeps {records} records: what was done, by whom. Each is on disk since before it was acknowledged.",
        )

    def _one_job_nearer(self) -> None:
        if self._jobs_until_kill is not None:
            self._jobs_until_kill -= 1
            if self._jobs_until_kill <= 0:
                self._kill_locum()

    def _kill_locum(self) -> None:
        self._jobs_until_kill = None
        self._stage.locum.kill()
        pid = self._stage.locum.pid
        self._teller.tell("Locum", f"is killed: kill -9 {pid}. Copiers get no answer, and send again and again.", "red")

    async def _restart_locum(self) -> None:
        async def killed() -> bool:
            return self._jobs_until_kill is None

        locum = self._stage.locum
        await self._watch.until(killed, "Locum to be killed", None)
        await self._people.pause(0.5)
        locum.start()
        await self._watch.until_state("offline")
        self._teller.tell("Locum", f"is back (process {locum.pid}). Its ledger says that the server is away: offline.")

    async def _return(self) -> None:
        stage, tell = self._stage, self._teller.tell
        self._teller.chapter("The server comes back")
        total = await self._watch.waiting()
        stage.server.start()
        await self._watch.until_server_answers()
        tell("server", f"is up again (process {stage.server.pid}). It has missed all that people did meanwhile.")
        with self._teller.draining(total) as forwarded:
            await self._watch.until_drained(total, forwarded)
        tell("Locum", f"has found the server steady and forwarded all {total} records, each session's in order.")

    async def _evening(self, turns: list[Turn]) -> None:
        self._teller.chapter("Back to normal")
        await self._people.round(turns, online=True)

    async def _close(self) -> None:
        async def settled() -> bool:
            return await self._watch.waiting() == 0

        await self._watch.until(settled, "the last records to be forwarded", self._stage.locum)
        for child in (self._stage.locum, self._stage.server):
            status = await deferToThread(child.stop)
            if status != 0:
                raise DemoFailed(f"{child.name} ended with status {status} when it was asked to stop")

    def _named(self, username: str) -> User:
        user = self._users.named(username)
        if user is None:
            raise DemoFailed(f"users.csv has no {username}")
        return user
