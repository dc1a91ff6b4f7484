"""Two hundred terminals through an outage, with three kill -9 of Locum and one of the server that drains.

Issue 3: 20,000 jobs; here 4,000, and all of them with LOCUM_BIG=1. Each job carries its own name as its document, so
that the server's book is compared with what the terminals were told, not with what Locum says. The seed is printed.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

from tests.crash.books import assert_sound
from tests.peers.office import Office, open_office
from tests.peers.terminal import Worker
from tests.peers.waiting import eventually, let_pass

TERMINALS = 200
JOBS = 20_000 if os.environ.get("LOCUM_BIG") else 4_000
WINDOW = 32
PATIENCE = 240.0
USERS = {f"user{n}": (f"User {n}", f"0BCD{n:04X}", "", "1000.00", "no") for n in range(TERMINALS)}


class Crowd:
    """The terminals, one card each; job N of terminal T is named "T/N"."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.workers = [
            Worker(office.shop.port, f"KM-{number:03}", card) for number, (_, card, *_) in enumerate(USERS.values())
        ]

    def log_in(self, share: slice) -> None:
        """Swipe on these terminals, all at once."""
        self.office.floor.run(self._log_in(share), PATIENCE)

    def copy(self, first: int, last: int) -> Future[None]:
        """Every terminal reports its jobs `first` to `last`, one after the other; they go on at the same time."""
        return self.office.floor.begin(self._copy(range(first, last + 1)))

    def told(self) -> Counter[str]:
        """The jobs that were acknowledged."""
        return Counter(f"{each.device}/{done.number}" for each in self.workers for done in tuple(each.acknowledged))

    def close(self) -> None:
        self.office.floor.run(self._close())

    async def _log_in(self, share: slice) -> None:
        until = time.monotonic() + PATIENCE
        await asyncio.gather(*(worker.log_in(until) for worker in self.workers[share]))

    async def _copy(self, numbers: range) -> None:
        until = time.monotonic() + PATIENCE

        async def one(worker: Worker) -> None:
            for number in numbers:
                await worker.report(number, until, pages=1 + number % 7, document=f"{worker.device}/{number}")

        await asyncio.gather(*(one(worker) for worker in self.workers))

    async def _close(self) -> None:
        await asyncio.gather(*(worker.close() for worker in self.workers))


def _kept(office: Office) -> Counter[str]:
    return Counter(row["document"] for row in office.shop.query("SELECT document FROM jobs_full"))


def _booked(office: Office) -> Counter[str]:
    return Counter(str(name) for (name,) in office.server.query("SELECT document FROM jobs"))


def _in_the_book(office: Office) -> int:
    (count,) = office.server.query("SELECT count(*) FROM jobs")[0]
    return int(count)


def _cut(office: Office, crowd: Crowd) -> None:
    """kill -9 of Locum: what it had acknowledged until then is in its ledger."""
    office.shop.kill()
    lost = crowd.told().keys() - _kept(office).keys()
    assert not lost, f"{len(lost)} acknowledged jobs are not in the ledger: {sorted(lost)[:5]}"
    office.shop.start(within=20)


def test_jobs_of_200_terminals_through_an_outage_and_kills_are_booked_once_or_in_doubt_by_name(
    tmp_path: Path,
) -> None:
    """Nothing acknowledged is lost; nothing is booked twice; in doubt at most one window for each cut."""
    seed = time.time_ns()
    print(f"seed {seed}")
    dice = random.Random(seed)
    each = JOBS // TERMINALS
    online, offline = each // 10, each * 7 // 10
    with ExitStack() as endings:
        office = open_office(tmp_path, endings, users=USERS)
        crowd = Crowd(office)
        endings.callback(crowd.close)
        began = time.monotonic()
        crowd.log_in(slice(None))
        crowd.copy(1, online).result(PATIENCE)
        office.go_offline()

        copying = crowd.copy(online + 1, offline)
        crowd.log_in(slice(0, TERMINALS, 2))
        done = TERMINALS * (online + dice.uniform(0.1, 0.8) * (offline - online))
        eventually(lambda: crowd.told().total() >= done, PATIENCE, "some are collected")
        _cut(office, crowd)
        copying.result(PATIENCE)
        collected = time.monotonic()

        office.server.start()
        copying = crowd.copy(offline + 1, each)
        waiting = JOBS - _in_the_book(office)
        goal = _in_the_book(office) + dice.uniform(0.05, 0.3) * waiting
        eventually(lambda: _in_the_book(office) >= goal, PATIENCE, "it drains")
        _cut(office, crowd)
        goal = _in_the_book(office) + dice.uniform(0.05, 0.3) * waiting
        eventually(lambda: _in_the_book(office) >= goal, PATIENCE, "it drains again")
        office.server.kill()
        office.server.start()
        let_pass(dice.uniform(0.0, 4.0))
        _cut(office, crowd)
        copying.result(PATIENCE)
        office.shop.wait_until_drained(PATIENCE)
        print(f"collected in {collected - began:.1f} s, all in {time.monotonic() - began:.1f} s")

        wanted = {f"{worker.device}/{number}" for worker in crowd.workers for number in range(1, each + 1)}
        assert crowd.told().keys() == wanted
        assert_sound(office.shop.state_dir / "ledger.db")
        kept = _kept(office)
        assert kept.keys() == wanted
        assert max(kept.values()) == 1
        booked = _booked(office)
        twice = sorted(name for name, times in booked.items() if times > 1)
        assert not twice, f"{len(twice)} are booked twice: {twice[:5]}"
        doubtful = {row["document"]: row["id"] for row in office.shop.query("SELECT document, id FROM in_doubt")}
        print(
            f"{len(booked)} booked, {len(doubtful)} in doubt, {len(doubtful.keys() - booked.keys())} of them not there"
        )
        missing = wanted - booked.keys() - doubtful.keys()
        assert not missing, f"{len(missing)} are neither booked nor in doubt: {sorted(missing)[:5]}"
        assert len(doubtful) <= WINDOW * 4, "three cuts of Locum and one of the server"
        owners = {worker.device: user for worker, user in zip(crowd.workers, USERS, strict=True)}
        strangers = [
            (user, device)
            for user, device in office.server.query("SELECT user, device FROM jobs")
            if owners[device] != user
        ]
        assert strangers == []
        assert int(office.shop.outbox()["rejected"]) == 0

        for name, identifier in doubtful.items():
            how = "sent" if name in booked else "resend"
            answer = office.shop.ask("outbox-resolve", id=identifier, how=how, reason="looked it up")
            assert answer is not None
            assert answer["ok"], answer
        eventually(lambda: _booked(office) == Counter(wanted), 20, "every job is booked once")
