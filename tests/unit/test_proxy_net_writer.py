"""The writer: a real thread on a real ledger; order, grouping, failure, and the end."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from proxy.commands import Keep
from proxy.net.writer import LARGEST_BATCH, MOST_GATHERED, Result, Writer
from storage.answers import Stored
from storage.errors import CannotStore, StorageError
from storage.ledger import Ledger
from storage.records import AppLogLine, Keepable

WALL = 1_795_000_000_000


class Hand:
    """The two things the writer needs of a reactor, worked by the test's own thread."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.later: list[Callable[[], object]] = []

    def callFromThread(self, callable: Callable[..., object], *args: object) -> None:
        self.calls.put(lambda: callable(*args))

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> object:
        self.later.append(lambda: callable(*args))
        return None

    def run(self, most: float = 5.0) -> None:
        """Wait for one call from the thread and do it."""
        self.calls.get(timeout=most)()

    def run_all(self) -> None:
        while True:
            try:
                self.calls.get_nowait()()
            except Empty:
                return


class Gate:
    """A ledger behind a gate, so that a test decides when a commit goes on; notes the batches."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.batches: list[int] = []
        self.open = threading.Event()
        self.waiting = threading.Event()
        self.fail = False

    def commit(self, batch: Sequence[Keepable]) -> list[Result]:
        self.batches.append(len(batch))
        self.waiting.set()
        assert self.open.wait(10)
        if self.fail:
            raise CannotStore("the disk is full")
        return self.ledger.commit(batch)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger.open(folder / "ledger.db", WALL)
        self.gate = Gate(self.ledger)
        self.hand = Hand()
        self.done: list[tuple[Keep, Result]] = []
        self.writer = Writer(self.hand, self.gate, self._done)
        self.writer.start()

    def _done(self, batch: Sequence[Keep], results: Sequence[Result], seconds: Sequence[float]) -> None:
        assert all(took > 0 for took in seconds)
        self.done += zip(batch, results, strict=True)

    def texts(self) -> list[str]:
        with closing(sqlite3.connect(self.ledger.path)) as connection:
            return [text for (text,) in connection.execute("SELECT text FROM app_log ORDER BY seq")]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.gate.open.set()
    made.writer.stop()
    made.ledger.close()


def line(text: object, *, wait: bool = True, **more: Any) -> Keep:
    return Keep(AppLogLine(WALL, "info", str(text)), wait=wait, **more)


def test_what_queues_while_a_commit_is_under_way_shares_the_next(bench: Bench) -> None:
    bench.writer.keep(line("first"))
    assert bench.gate.waiting.wait(5)
    for number in range(20):
        bench.writer.keep(line(number))
    bench.gate.open.set()
    bench.hand.run()
    bench.hand.run()
    assert bench.gate.batches == [1, 20]
    assert bench.texts() == ["first", *map(str, range(20))]


def test_nothing_is_announced_before_it_is_on_stable_storage(bench: Bench) -> None:
    bench.writer.keep(line("first"))
    assert bench.gate.waiting.wait(5)
    bench.hand.run_all()
    assert bench.done == []
    bench.gate.open.set()
    bench.hand.run()
    ((_, result),) = bench.done
    assert isinstance(result, Stored)
    assert bench.texts() == ["first"]


def test_changes_nobody_waits_for_go_with_the_next_that_somebody_does_and_before_it(bench: Bench) -> None:
    bench.gate.open.set()
    for number in range(3):
        bench.writer.keep(line(number, wait=False))
    assert bench.gate.batches == []
    assert bench.writer.waiting == 3
    bench.writer.keep(line("waited for"))
    while len(bench.done) < 4:
        bench.hand.run()
    assert bench.texts() == ["0", "1", "2", "waited for"]


def test_alone_they_are_written_when_gathering_is_over(bench: Bench) -> None:
    bench.gate.open.set()
    for number in range(3):
        bench.writer.keep(line(number, wait=False))
    (gathering_is_over,) = bench.hand.later
    gathering_is_over()
    while len(bench.done) < 3:
        bench.hand.run()
    assert bench.texts() == ["0", "1", "2"]


def test_a_crowd_of_them_does_not_wait_to_be_gathered(bench: Bench) -> None:
    bench.gate.open.set()
    for number in range(MOST_GATHERED):
        bench.writer.keep(line(number, wait=False))
    while len(bench.done) < MOST_GATHERED:
        bench.hand.run()
    assert len(bench.texts()) == MOST_GATHERED


def test_a_batch_has_an_upper_end(bench: Bench) -> None:
    bench.writer.keep(line("first"))
    assert bench.gate.waiting.wait(5)
    for number in range(LARGEST_BATCH + 10):
        bench.writer.keep(line(number))
    bench.gate.open.set()
    while len(bench.done) < LARGEST_BATCH + 11:
        bench.hand.run()
    assert bench.gate.batches == [1, LARGEST_BATCH, 10]


def test_a_batch_that_fails_is_announced_as_failed_and_the_next_goes_on(bench: Bench) -> None:
    bench.gate.fail = True
    bench.gate.open.set()
    bench.writer.keep(line("lost"))
    bench.hand.run()
    ((_, result),) = bench.done
    assert isinstance(result, StorageError)
    bench.gate.fail = False
    bench.writer.keep(line("kept"))
    bench.hand.run()
    assert isinstance(bench.done[1][1], Stored)
    assert bench.texts() == ["kept"]


def test_stop_writes_all_that_was_asked_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.gate.open.set()
    for number in range(50):
        bench.writer.keep(line(number, wait=number % 2 == 0))
    bench.writer.stop()
    assert bench.texts() == [str(number) for number in range(50)]
    bench.hand.run_all()
    assert len(bench.done) == 50
    bench.ledger.close()


def test_a_look_is_an_empty_batch_that_nobody_is_told_of(bench: Bench) -> None:
    bench.gate.open.set()
    bench.writer.look()
    assert bench.gate.waiting.wait(5)
    bench.writer.keep(line("first"))
    bench.hand.run()
    assert bench.gate.batches == [0, 1]
    assert len(bench.done) == 1


def test_a_look_adds_nothing_to_a_writer_that_has_something_to_do(bench: Bench) -> None:
    bench.writer.keep(line("first"))
    assert bench.gate.waiting.wait(5)
    bench.writer.keep(line("second"))
    for _ in range(3):
        bench.writer.look()
    assert bench.writer.waiting == 1
    bench.gate.open.set()
    bench.hand.run()
    bench.hand.run()
    assert bench.gate.batches == [1, 1]
