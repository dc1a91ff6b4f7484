"""The one writer: a thread of its own, to which every change goes, in order.

What queues while one commit is under way shares the next (natural group commit): alone a change waits for its own fsync
only, in a crowd many share one. Changes that nobody waits for are gathered for some tens of milliseconds and go with
whatever comes next. Nothing is announced before it succeeded.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Protocol

from twisted.logger import Logger

from proxy.commands import Keep
from proxy.net.crashpoints import AFTER_COMMIT, BEFORE_COMMIT, reached
from storage.answers import Outcome
from storage.errors import StorageError
from storage.records import Keepable

log = Logger()

NICE = 5
"""How far the thread stands back (nice(2)): a login in hand goes before the writing down of those that were answered.
"""

GATHER = 0.1
MOST_GATHERED = 1024
LARGEST_BATCH = 1024

Result = Outcome | StorageError
_Asked = tuple[Keep, float]
_LOOK: tuple[()] = ()
Done = Callable[[Sequence[Keep], Sequence[Result], Sequence[float]], None]


class Store(Protocol):
    """What the thread writes to; see storage.ledger.Ledger. An empty batch changes nothing."""

    def commit(self, batch: Sequence[Keepable]) -> list[Result]: ...


class Reactor(Protocol):
    """The two things this needs of Twisted's reactor."""

    def callFromThread(self, callable: Callable[..., object], *args: object) -> None: ...

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> object: ...


class Writer:
    """`done` is called on the reactor's thread with what was asked and, for each, what became of it and the seconds
    from `keep` to stable storage.
    """

    def __init__(self, reactor: Reactor, store: Store, done: Done) -> None:
        self._reactor = reactor
        self._store = store
        self._done = done
        self._queue: SimpleQueue[_Asked | tuple[()] | None] = SimpleQueue()
        self._gathered: list[_Asked] = []
        self._gathering = False
        self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def keep(self, keep: Keep) -> None:
        """Write this down, after all that was given before."""
        asked = (keep, time.monotonic())
        if keep.wait:
            self._flush()
            self._queue.put(asked)
            return
        self._gathered.append(asked)
        if len(self._gathered) >= MOST_GATHERED:
            self._flush()
        elif not self._gathering:
            self._gathering = True
            self._reactor.callLater(GATHER, self._gather_over)

    def look(self) -> None:
        """Give the store an empty batch, on its thread, if it has nothing to do: how things stand with it may change
        though nobody writes.
        """
        if self._queue.empty():
            self._queue.put(_LOOK)

    def stop(self) -> None:
        """Write what is left and end the thread; to be called on the reactor's thread, at the very end."""
        self._flush()
        self._queue.put(None)
        self._thread.join()

    @property
    def waiting(self) -> int:
        """How many changes wait to be written."""
        return self._queue.qsize() + len(self._gathered)

    def _gather_over(self) -> None:
        self._gathering = False
        self._flush()

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        for asked in gathered:
            self._queue.put(asked)

    def _work(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while (first := self._queue.get()) is not None:
            taken, more = [first], True
            while more and len(taken) < LARGEST_BATCH and not self._queue.empty():
                asked = self._queue.get()
                more = asked is not None
                if asked is not None:
                    taken.append(asked)
            self._write([asked for asked in taken if asked])
            if not more:
                return

    def _write(self, asked: list[_Asked]) -> None:
        if not asked:
            self._commit([])
            return
        batch = [keep for keep, _ in asked]
        reached(BEFORE_COMMIT)
        results = self._commit(batch)
        reached(AFTER_COMMIT)
        stored = time.monotonic()
        self._reactor.callFromThread(self._done, batch, results, [stored - at for _, at in asked])

    def _commit(self, batch: list[Keep]) -> list[Result]:
        try:
            return self._store.commit([keep.change for keep in batch])
        except StorageError as error:
            return [error] * len(batch)
        except Exception as error:  # a bug there must not end the thread: every acknowledgement waits for it
            log.failure("a bug was met while storing; please report it")
            return [StorageError(f"a bug was met while storing: {type(error).__name__}")] * len(batch)
