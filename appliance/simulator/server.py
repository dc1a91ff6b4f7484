"""The simulated Application Server as a process: users, book, and a face for each dialect that it speaks.

A face listens, understands its dialect, and asks this for users and for keeping. What waits while one commit is under
way shares the next, so that a crowd of records costs few of them. Nothing is answered before it is on stable storage.
A new dialect is a new face; nothing here changes for it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from appliance.simulator.book import Book, Row
from appliance.simulator.users import Users

Then = Callable[[bool], None]
"""Called once the row is on stable storage (true), or once it is known that it will not be (false)."""

LOG_AGAIN_AFTER = 60.0


class Face(Protocol):
    """What the server looks like in one dialect."""

    def listen(self, server: ApplicationServer, reactor: Any) -> str:
        """Open the ports; gives where it listens, in words. Raises CannotListenError."""

    def summary(self) -> str:
        """What it did since its start, in words."""


class ApplicationServer:
    """Users and book, shared by all faces; to be used on the reactor's thread."""

    def __init__(self, reactor: Any, users: Users, book: Book) -> None:
        self.users = users
        self._book = book
        self._reactor = reactor
        self._pool = ThreadPool(1, 1, "book")
        self._waiting: list[tuple[Row, Then | None]] = []
        self._writing = False
        self._stopped = False
        self._complained: dict[str, float] = {}

    def start(self) -> None:
        self._pool.start()

    def keep(self, row: Row, then: Then | None = None) -> None:
        """Write a row down, after all that was given before."""
        self._waiting.append((row, then))
        if not self._writing and not self._stopped:
            self._write()

    def stop(self) -> None:
        """Finish what is being written and close the book. What was not written was not answered either."""
        self._stopped = True
        self._pool.stop()
        self._book.close()

    def complain(self, cause: str, text: str) -> None:
        """A line in the log, at most once a minute for each cause."""
        now = time.monotonic()
        if now - self._complained.get(cause, -LOG_AGAIN_AFTER) >= LOG_AGAIN_AFTER:
            self._complained[cause] = now
            say(text)

    def _write(self) -> None:
        self._writing = True
        batch, self._waiting = self._waiting, []
        writing = deferToThreadPool(self._reactor, self._pool, self._book.write, [row for row, _ in batch])
        writing.addCallbacks(self._written, self._not_written, (batch,), errbackArgs=(batch,))

    def _written(self, _: None, batch: list[tuple[Row, Then | None]]) -> None:
        for _row, then in batch:
            if then is not None:
                then(True)
        self._go_on()

    def _not_written(self, failure: Failure, batch: list[tuple[Row, Then | None]]) -> None:
        self.complain("book", f"the book cannot be written ({failure.getErrorMessage()}); nothing is answered")
        for _row, then in batch:
            if then is not None:
                then(False)
        self._go_on()

    def _go_on(self) -> None:
        self._writing = False
        if self._waiting and not self._stopped:
            self._write()


def now_text() -> str:
    """The time, ISO 8601, UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def say(text: str) -> None:
    """A line in the server's log, on standard error."""
    print(f"{datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def serve(users: Users, book: Book, faces: Sequence[Face]) -> int:
    """Run until SIGTERM or SIGINT; gives the exit status. Raises CannotListenError if a port cannot be had."""
    from twisted.internet import reactor

    server = ApplicationServer(reactor, users, book)
    try:
        places = [face.listen(server, reactor) for face in faces]
    except CannotListenError:
        book.close()
        raise
    server.start()
    say(f"the Application Server knows {len(users)} users and listens: {'; '.join(places)}")
    running: Any = reactor
    running.run()
    server.stop()
    say(f"ended: {'; '.join(face.summary() for face in faces)}")
    return 0
