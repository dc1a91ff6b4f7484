"""The simulated Application Server as a process: one state, one book, and a face for each dialect that it speaks.

A face listens, understands its dialect, changes the state and asks for an answer to be given. What waits while one
commit is under way shares the next, so that a crowd of jobs costs few of them. Nothing is answered before everything
that happened until then is on stable storage. A new dialect is a new face; nothing here changes for it.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from appliance.simulator.book import Book
from appliance.simulator.rows import LoggedJob, Row
from appliance.simulator.state import State, now_text
from appliance.simulator.switches import SwitchBoard, Switches

__all__ = ["ApplicationServer", "Face", "Then", "now_text", "say", "serve"]

Then = Callable[[bool], None]
"""Called once all is on stable storage (true), or once it is known that it will not be (false)."""

LOG_AGAIN_AFTER = 60.0


class Face(Protocol):
    """What the server looks like in one dialect."""

    def listen(self, server: ApplicationServer, reactor: Any) -> str:
        """Open the ports; gives where it listens, in words. Raises CannotListenError."""

    def summary(self) -> str:
        """What it did since its start, in words."""


class ApplicationServer:
    """State and book, shared by all faces; to be used on the reactor's thread."""

    def __init__(self, reactor: Any, state: State, book: Book, switches: Switches) -> None:
        self.state = state
        self.book = book
        self.reactor = reactor
        self._switches = SwitchBoard(switches, book.directory, lambda text: self.complain("switches", text))
        self._pool = ThreadPool(1, 1, "book")
        self._waiting: list[Then] = []
        self._writing = False
        self._stopped = False
        self._complained: dict[str, float] = {}
        self._committed_jobs = 0

    @property
    def switches(self) -> Switches:
        """The switches for tests, as they are now."""
        return self._switches.now()

    def start(self) -> None:
        """Begin to write."""
        self._pool.start()
        self.settle()

    def settle(self, then: Then = lambda _: None) -> None:
        """Call `then` once everything that was changed until now is on stable storage."""
        if not self._writing and not self.state.changes:
            then(True)
            return
        self._waiting.append(then)
        if not self._writing and not self._stopped:
            self._write()

    def stop(self) -> None:
        """Finish what is being written and close the book. What was not written was not answered either."""
        self._stopped = True
        self._pool.stop()
        self.book.close()

    def complain(self, cause: str, text: str) -> None:
        """A line in the log, at most once a minute for each cause."""
        now = time.monotonic()
        if now - self._complained.get(cause, -LOG_AGAIN_AFTER) >= LOG_AGAIN_AFTER:
            self._complained[cause] = now
            say(text)

    def _write(self) -> None:
        self._writing = True
        batch, self._waiting = self._waiting, []
        rows = self.state.take_changes()
        writing = deferToThreadPool(self.reactor, self._pool, self.book.write, rows)
        writing.addCallbacks(self._written, self._not_written, (rows, batch), errbackArgs=(batch,))

    def _written(self, _: None, rows: Sequence[Row], batch: list[Then]) -> None:
        self.state.taken_over = True
        self._maybe_die(rows)
        for then in batch:
            then(True)
        self._go_on()

    def _not_written(self, failure: Failure, batch: list[Then]) -> None:
        self.complain("book", f"the book cannot be written ({failure.getErrorMessage()}); nothing is answered")
        # What came meanwhile rests on what was not written: it goes the same way. The next request tries again.
        batch += self._waiting
        self._waiting = []
        self._writing = False
        try:
            self.state.reload()
        except sqlite3.Error as error:
            say(f"the book cannot be read either ({error}); the server ends")
            self.reactor.stop()
            return
        for then in batch:
            then(False)

    def _go_on(self) -> None:
        self._writing = False
        while self._waiting and not self.state.changes:
            # Who came meanwhile and changed nothing waited only for what has just been written.
            batch, self._waiting = self._waiting, []
            for then in batch:
                then(True)
        if self.state.changes and not self._writing and not self._stopped:
            self._write()

    def _maybe_die(self, rows: Sequence[Row]) -> None:
        self._committed_jobs += sum(isinstance(row, LoggedJob) and row.via != "radius" for row in rows)
        after = self.switches.die_after_commit
        if 0 < after <= self._committed_jobs:
            os.kill(os.getpid(), signal.SIGKILL)


def say(text: str) -> None:
    """A line in the server's log, on standard error."""
    print(f"{datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def serve(state: State, book: Book, faces: Sequence[Face], switches: Switches) -> int:
    """Run until SIGTERM or SIGINT; gives the exit status. Raises CannotListenError if a port cannot be had."""
    from twisted.internet import reactor

    running: Any = reactor
    server = ApplicationServer(running, state, book, switches)
    try:
        places = [face.listen(server, running) for face in faces]
    except CannotListenError:
        book.close()
        raise
    server.start()
    say(f"the Application Server knows {len(state.accounts)} users and listens: {'; '.join(places)}")
    running.run()
    server.stop()
    say(f"ended: {'; '.join(face.summary() for face in faces)}")
    return 0
