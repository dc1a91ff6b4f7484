"""The heartbeat beats only when reactor, writer and data path have gone round, and systemd is told so."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance.heartbeat import ASK_AGAIN, Heartbeat, Rounds
from appliance.keeper import Keeper
from appliance.notify import FEED_EVERY, Supervisor
from proxy.net.driver import Driver, this_moment
from storage.ledger import Ledger
from storage.records import Keepable
from storage.space import SpaceWatch
from tests.peers.waiting import eventually

NOW = 1_795_342_503_120


# --- what a beat is -----------------------------------------------------------------------------------------------


def test_a_beat_needs_the_writer_and_the_data_path() -> None:
    for writer, path, beats in ((False, False, False), (True, False, False), (False, True, False), (True, True, True)):
        heart = Heartbeat(0.0)
        assert heart.ticked(1.0)
        if writer:
            heart.writer_answered(1.01)
        if path:
            heart.path_answered(1.02)
        assert heart.beat() is beats


def test_an_answer_of_an_earlier_round_counts_for_nothing() -> None:
    heart = Heartbeat(0.0)
    assert heart.ticked(1.0)
    heart.writer_answered(1.01)
    heart.path_answered(1.01)
    assert heart.beat()
    assert not heart.beat()
    assert heart.ticked(1.05)
    heart.writer_answered(1.04)
    heart.path_answered(1.06)
    assert not heart.beat()


def test_rounds_begin_as_often_as_was_asked_for() -> None:
    heart, begun = Heartbeat(1.0), []
    for tick in range(100):
        at = 10.0 + tick / 20
        if heart.ticked(at):
            begun.append(at)
            heart.writer_answered(at)
            heart.path_answered(at)
            assert heart.beat()
    assert begun == [10.0, 11.0, 12.0, 13.0, 14.0]


def test_a_datagram_that_was_lost_is_sent_again() -> None:
    heart = Heartbeat(0.0)
    assert heart.ticked(1.0)
    assert not heart.ticked(1.0 + ASK_AGAIN / 2)
    assert heart.ticked(1.0 + ASK_AGAIN)
    heart.writer_answered(1.5)
    heart.path_answered(1.0 + ASK_AGAIN)
    assert heart.beat()


# --- the real round -----------------------------------------------------------------------------------------------


class Reactor:
    """A reactor that is worked by hand: `turn` reads what can be read."""

    def __init__(self) -> None:
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)

    def callFromThread(self, function: Callable[..., object], *arguments: object) -> None:
        raise AssertionError("an empty batch tells nobody")

    def callLater(self, delay: float, function: Callable[..., object], *arguments: object) -> None:
        raise AssertionError("nothing is gathered")

    def turn(self) -> None:
        for reader in select.select(self.readers, [], [], 0.01)[0]:
            reader.doRead()


class SlowKeeper(Keeper):
    """A keeper that stands still when told to, as one whose disk does."""

    def __init__(self, ledger: Ledger, watch: SpaceWatch) -> None:
        super().__init__(ledger, watch)
        self.go_on = threading.Event()
        self.go_on.set()

    def commit(self, batch: Sequence[Keepable]) -> list[Any]:
        self.go_on.wait()
        return list(super().commit(batch))


class Bench:
    def __init__(self, folder: Path) -> None:
        self.reactor = Reactor()
        self.ledger = Ledger.open(folder / "ledger.db", NOW)
        self.keeper = SlowKeeper(self.ledger, SpaceWatch(folder))
        self.driver = Driver(self.reactor, self.keeper, print)
        self.rounds = Rounds(self.reactor, self.driver, self.keeper, 0.0)
        self.rounds.open()
        self.driver.writer.start()

    def beats_within(self, seconds: float) -> bool:
        """Whether a beat comes; the reactor turns meanwhile."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.rounds.tick(this_moment()):
                return True
            self.reactor.turn()
        return False

    def close(self) -> None:
        self.keeper.go_on.set()
        self.rounds.close()
        self.driver.close()
        self.driver.writer.stop()
        self.ledger.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_a_round_leaves_nothing_in_the_ledger(bench: Bench) -> None:
    before = bench.ledger.head
    for _ in range(5):
        assert bench.beats_within(5.0)
    assert bench.ledger.head == before


def test_a_writer_that_hangs_stops_the_heart_until_it_goes_on(bench: Bench) -> None:
    assert bench.beats_within(5.0)
    bench.keeper.go_on.clear()
    bench.beats_within(0.2)  # one may be under way
    assert not bench.beats_within(0.3)
    assert bench.driver.writer.waiting <= 1
    bench.keeper.go_on.set()
    assert bench.beats_within(5.0)


def test_a_port_that_is_not_read_stops_the_heart(bench: Bench) -> None:
    assert bench.beats_within(5.0)
    kept, bench.reactor.readers = bench.reactor.readers, []
    bench.rounds.tick(this_moment())
    assert not bench.beats_within(0.3)
    bench.reactor.readers = kept
    assert bench.beats_within(5.0)


def test_a_datagram_of_somebody_else_is_no_heartbeat(bench: Bench) -> None:
    kept = bench.reactor.readers[0]
    bench.rounds.tick(this_moment())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger, socket.socket(fileno=kept.fileno()) as own:
        stranger.sendto(b"no token", own.getsockname())
        own.recvfrom(100)  # ours, which came first
        own.detach()
    bench.reactor.turn()
    eventually(lambda: bench.keeper.answered > float("-inf"), within=5.0, saying="the writer has answered")
    assert not bench.rounds.tick(this_moment())


# --- what systemd is told -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_systemd_is_told_by_the_socket_that_it_names(tmp_path: Path, abstract: bool) -> None:
    address = f"@{tmp_path}/notify" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{address[1:]}" if abstract else address)
        systemd.settimeout(5.0)
        supervisor = Supervisor(address)
        supervisor.ready()
        supervisor.reloading(12.5)
        for tick in range(45):
            supervisor.alive(20.0 + FEED_EVERY * tick / 20)
        supervisor.stopping()
        heard = [systemd.recv(200).decode() for _ in range(6)]
    assert heard == [
        "READY=1", "RELOADING=1\nMONOTONIC_USEC=12500000", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"
    ]  # fmt: skip


def test_without_systemd_nobody_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Supervisor().ready()
    Supervisor(str(tmp_path / "gone")).alive(1.0)
