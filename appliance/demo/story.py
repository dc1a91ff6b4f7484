"""What happens in the demo: a morning, the server's death, an outage in which Locum itself is killed, a return that
ends in a second death, and the return for good.

Nothing is waited for by guess: each step begins once the one before is seen to have happened. Every person is of
`users.csv`, but for the visitor, whose card the server does not know.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.threads import deferToThread

from appliance.demo.admin import Admin
from appliance.demo.audit import audit
from appliance.demo.figures import Audit, Counted, decided_in, read_book, read_ledger, unknown_warnings
from appliance.demo.floor import Floor, Place
from appliance.demo.people import BROKE, PASSWORD, TYPIST, People, together
from appliance.demo.plan import Plan
from appliance.demo.stage import DELAY, Child, DemoFailed, Stage
from appliance.demo.telling import Teller
from appliance.demo.watch import Watch
from appliance.simulator.users import User, shipped_users
from protocols.terminal.messages import Scope

CODE, WRONG_CODE = "bookworm-7", "123456"
LIBRARIAN = "The librarian"
MOST_USERS = 5


class Story:
    """The whole story, to be played once."""

    def __init__(self, reactor: Any, stage: Stage, teller: Teller, *, places: list[Place], jobs: int) -> None:
        self._reactor = reactor
        self._stage = stage
        self._teller = teller
        self._places = places
        self._jobs = jobs
        self._users = shipped_users()
        self._watch = Watch(reactor, stage)
        self._people = People(reactor, teller)
        self._admin = Admin(stage, self._watch, teller)
        self._jobs_until_kill: int | None = None
        self._is_over = False

    async def play(self) -> Audit:
        """Play it; gives the audit. Raises DemoFailed, BookError or StorageError."""
        whole: Deferred[Any] = Deferred.fromCoroutine(self._whole())
        guard: Deferred[Any] = Deferred.fromCoroutine(self._watch.guard(self._jobs, lambda: self._is_over))
        try:
            played: list[Any] = await gatherResults([whole, guard], consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        audited: Audit = played[0]
        return audited

    async def _whole(self) -> Audit:
        try:
            return await self._told()
        finally:
            self._is_over = True

    async def _told(self) -> Audit:
        await self._set_up()
        stage = self._stage
        floor = Floor(self._reactor, self._places, stage.terminal_target, stage.radius_target)
        try:
            plan = Plan(floor, self._users, self._jobs)
            await self._switch_on(floor)
            await self._morning(plan)
            await self._death(plan)
            await self._outage(plan)
            await self._library(plan)
            await self._locum_dies(plan)
            await self._second_death(plan)
            await self._return()
            await self._evening(plan)
            await self._close()
        except FirstError as error:
            error.subFailure.raiseException()
        finally:
            floor.close()
        counted = Counted(
            printers={place.name: place.printer for place in self._places},
            jobs=[job for copier in floor.copiers for job in copier.jobs],
            logins=self._people.seen,
            codes=self._people.codes,
            jobs_wanted=self._jobs,
            logins_wanted=self._people.expected,
        )
        kept, booked = read_ledger(stage.ledger), read_book(stage.book_dir)
        return audit(counted, kept, booked, self._users, self._teller.seconds)

    async def _set_up(self) -> None:
        stage, tell, count = self._stage, self._teller.tell, len(self._places)
        copiers = "One copier" if count == 1 else f"{count} copiers"
        self._teller.chapter(f"{copiers}, an Application Server, and Locum between them")
        stage.server.start()
        if any(place.library for place in self._places):
            await deferToThread(stage.command, "unlock-code", "set", given=f"{CODE}\n")
            tell("admin", "has set the library's code: `locum unlock-code set`. Only a hash of it is kept.")
        stage.locum.start()
        users = await self._watch.until_server_answers()
        tell("server", f"is up (process {stage.server.pid}), as PaperCut's. It knows {users} people by their cards.")
        await self._watch.until_state("online")
        tell("Locum", f"is up (process {stage.locum.pid}) and has heard from the server.")

    async def _switch_on(self, floor: Floor) -> None:
        await together(copier.power_on() for copier in floor.copiers)
        radius = sum(place.radius for place in self._places)
        told = f"{len(floor.office)} in an office" + (", of which one speaks RADIUS" if radius else "")
        if floor.library:
            told += f", {len(floor.library)} in a school library"
        self._teller.tell("copiers", f"are switched on: {told}. They take Locum for the server.")

    async def _morning(self, plan: Plan) -> None:
        self._teller.chapter("A normal morning: Locum passes everything on, and writes it down")
        await self._people.round([turn for turn in plan.morning if turn is not plan.stays], online=True)
        await self._people.is_refused(plan.first_copier, self._named(BROKE), "swipes a card that the server knows")
        last = plan.stays
        # One job is held back: it is done just after the server has died.
        held_back = min(1, last.jobs)
        last.jobs -= held_back
        await self._people.work(last, await self._people.swipe(last, online=True), stay=True)
        last.jobs = held_back

    async def _death(self, plan: Plan) -> None:
        stage, tell, comes_in = self._stage, self._teller.tell, plan.comes_in
        self._teller.chapter("The server dies")
        stage.server.kill()
        tell("server", f"is killed: kill -9 {stage.server.pid}. Nobody told the copiers, or Locum.", "red")
        await self._people.finish(plan.stays)
        swipe = Deferred.fromCoroutine(self._people.swipe(comes_in, online=False))
        await self._watch.until_state("grace", "offline")
        tell("Locum", f"has noticed. It may be only a reboot: for {DELAY} s Locum does not speak for the server.")
        name, person = comes_in.copier.name, comes_in.person.full_name
        tell(name, f"{person} swipes a card meanwhile.")
        entry = await swipe
        self._teller.chapter("Offline mode: Locum answers in the server's place")
        await self._watch.until_state("offline")
        tell("Locum", "is offline: the time has passed and the server is still away. It decides who may copy.")
        await self._people.work(comes_in, entry, f"has swiped {_times(entry.tries)} in {entry.seconds:.1f} s and now")

    async def _outage(self, plan: Plan) -> None:
        await self._people.round([turn for turn in plan.outage if turn is not plan.comes_in], online=False)
        one, other = plan.first_copier, plan.radius_copier
        await self._people.is_refused(other, self._named(TYPIST), "types a name and a password", password=PASSWORD)
        await self._people.is_refused(one, self._named(BROKE), "tries again with the card that the server refused")

    async def _library(self, plan: Plan) -> None:
        if plan.once is None or plan.until_restored is None:
            return
        people, once, longer = self._people, plan.once, plan.until_restored
        self._teller.chapter("The school library: offline mode waits for an adult's code")
        copier = once.copier
        await people.finds_it_locked(copier, once.person, "swipes")
        told = f"{LIBRARIAN} types a code, and it is wrong: the copier stays locked."
        await people.types_code(copier, WRONG_CODE, Scope.ONCE, right=False, how=told)
        told = f"{LIBRARIAN} types the code, for a single use."
        await people.types_code(copier, CODE, Scope.ONCE, right=True, how=told)
        await people.come(once, online=False)
        await people.finds_it_locked(copier, plan.next_pupil, "is next, swipes")
        told = f"{LIBRARIAN} types the code, and chooses: until the connection is restored."
        await people.types_code(longer.copier, CODE, Scope.UNTIL_RESTORED, right=True, how=told)
        await people.come(longer, online=False)

    async def _locum_dies(self, plan: Plan) -> None:
        self._teller.chapter("Now Locum itself is killed, while people copy")
        await self._watch.until(self._all_is_written, "the ledger to have every login", self._stage.locum)
        self._jobs_until_kill = max(1, sum(turn.jobs for turn in plan.kill) // 2)
        self._people.job_done = self._one_job_nearer
        back = Deferred.fromCoroutine(self._restart_locum())
        await together([self._people.round(plan.kill, online=False, apart=0.05), self._kill_if_nobody_copies(plan)])
        await back
        records = await self._watch.waiting()
        self._teller.tell(
            "Locum",
            f"keeps {records} records: what was done, by whom. Each is on disk since before it was acknowledged.",
        )

    async def _all_is_written(self) -> bool:
        """Refusals make nobody wait until they are on disk, so those of the last moment are lost in a kill."""
        return await deferToThread(decided_in, self._stage.ledger) == (self._people.seen, self._people.codes)

    async def _kill_if_nobody_copies(self, plan: Plan) -> None:
        if not any(turn.jobs for turn in plan.kill):
            self._kill_locum()

    def _one_job_nearer(self) -> None:
        if self._jobs_until_kill is not None:
            self._jobs_until_kill -= 1
            if self._jobs_until_kill <= 0:
                self._kill_locum()

    def _kill_locum(self) -> None:
        self._jobs_until_kill = None
        self._stage.locum.kill()
        pid = self._stage.locum.pid
        self._teller.tell("Locum", f"is killed: kill -9 {pid}. Copiers get no answer, and ask again and again.", "red")

    async def _restart_locum(self) -> None:
        async def killed() -> bool:
            return self._jobs_until_kill is None

        locum = self._stage.locum
        await self._watch.until(killed, "Locum to be killed", None)
        await self._people.pause(0.5)
        locum.start()
        await self._watch.until_state("offline")
        self._teller.tell("Locum", f"is back (process {locum.pid}). Its ledger says that the server is away: offline.")

    async def _second_death(self, plan: Plan) -> None:
        stage, tell = self._stage, self._teller.tell
        self._teller.chapter("The server comes back, and dies again while Locum hands over")
        total = await self._watch.waiting()
        stage.doom_server(max(1, total // 3))
        stage.server.start(doomed=True)
        died = await self._watch.until_server_is_dead()
        if died:
            told = (
                f"was up again (process {stage.server.pid}), took some records, and died before it answered the last."
            )
        else:
            stage.server.kill()
            told = f"was up again, and is killed once more: kill -9 {stage.server.pid}."
        stage.spare_server()
        tell("server", told, "red")
        await self._watch.until_state("offline")
        left, doubted = await self._watch.waiting(), await self._watch.in_doubt()
        told = f"is offline again. Of {total} records {left} wait"
        tell("Locum", f"{told}, and of {doubted} it cannot know whether the server took them: in doubt.")
        await self._people.round(plan.second, online=False)

    async def _return(self) -> None:
        stage, tell = self._stage, self._teller.tell
        self._teller.chapter("The server comes back for good")
        total = await self._watch.waiting()
        stage.server.start()
        await self._watch.until_server_answers()
        tell("server", f"is up again (process {stage.server.pid}). It has missed all that people did meanwhile.")
        with self._teller.draining(total) as forwarded:
            await self._watch.until_drained(total, forwarded)
        tell("Locum", f"has found the server steady and forwarded all {total} records, each person's in order.")
        await self._tell_unknown()
        if await self._admin.decide_doubts():
            await self._watch.until_drained(total, lambda done: None)
            if again := self._admin.found_not_sent:
                tell("Locum", f"has sent again what was not there: {again}.")
        await self._tell_book()

    async def _tell_unknown(self) -> None:
        for text in await deferToThread(unknown_warnings, self._stage.ledger):
            self._teller.tell("App.Log", text, "yellow")

    async def _tell_book(self) -> None:
        jobs = (await deferToThread(read_book, self._stage.book_dir)).jobs
        pages = Counter({job.user: 0 for job in jobs})
        for job in jobs:
            pages[job.user] += job.pages
        most = ", ".join(f"{user} {count}" for user, count in pages.most_common(MOST_USERS))
        self._teller.tell("server", f"has {len(jobs)} jobs in its own book, each under its user. Pages: {most}, ...")

    async def _evening(self, plan: Plan) -> None:
        self._teller.chapter("Back to normal: nobody needs a code, and the server lets people in")
        await self._people.round(plan.evening, online=True)

    async def _close(self) -> None:
        async def settled() -> bool:
            return await self._watch.waiting() == 0

        await self._watch.until(settled, "the last records to be forwarded", self._stage.locum)
        await self._admin.decide_doubts()
        await self._watch.until(settled, "the last records to be forwarded", self._stage.locum)
        for child in (self._stage.locum, self._stage.server):
            await self._end(child)

    async def _end(self, child: Child) -> None:
        status = await deferToThread(child.stop)
        if status != 0:
            raise DemoFailed(f"{child.name} ended with status {status} when it was asked to stop")

    def _named(self, username: str) -> User:
        user = self._users.named(username)
        if user is None:
            raise DemoFailed(f"users.csv has no {username}")
        return user


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
