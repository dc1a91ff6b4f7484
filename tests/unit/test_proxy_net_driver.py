"""The driver: commands become deeds in order, and nothing that depends on a commit is done before it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.commands import Close, Command, Keep, Open, Send, Tell
from proxy.events import Event, Kept, NotKept, Received, Ticked
from proxy.net.driver import TOLD_AT_ONCE, Driver
from storage.answers import Stored
from storage.errors import CannotStore
from storage.ledger import Ledger
from storage.records import AppLogLine, Keepable, Personal

WALL = 1_795_000_000_000


class Reactor:
    """A reactor that is worked by hand: readers are remembered, calls are done when `turn` says so."""

    def __init__(self) -> None:
        self.readers: list[Any] = []
        self.calls: list[Callable[[], object]] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers = [each for each in self.readers if each is not reader]

    def callFromThread(self, callable: Callable[..., object], *args: object) -> None:
        self.calls.append(lambda: callable(*args))

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> object:
        return None

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Store:
    """A ledger that can be told to fail."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.fail = False

    def commit(self, batch: Sequence[Keepable]) -> list[Any]:
        if self.fail:
            raise CannotStore("the disk is full")
        return self.ledger.commit(batch)


class Script:
    """A flow that answers events with what the test says, and remembers them."""

    def __init__(self, answer: Callable[[Event], list[Command]] | None = None) -> None:
        self.seen: list[Event] = []
        self._answer = answer

    def handle(self, event: Event) -> list[Command]:
        self.seen.append(event)
        return self._answer(event) if self._answer is not None else []


class Bench:
    def __init__(self, folder: Path) -> None:
        self.reactor = Reactor()
        self.ledger = Ledger.open(folder / "ledger.db", WALL)
        self.store = Store(self.ledger)
        self.told: list[Tell] = []
        self.driver = Driver(self.reactor, self.store, self.told.append)
        self.device = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.device.bind(("127.0.0.1", 0))
        self.device.settimeout(0.2)
        self.peer = ("127.0.0.1", self.device.getsockname()[1], "")
        self.driver.listen(("here",), Script(), "127.0.0.1", 0)

    def commit(self) -> None:
        """Let the writer write all it has, then tell the driver."""
        self.driver.writer.stop()
        self.reactor.turn()

    def arrived(self) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(self.device.recv(4096))
            except TimeoutError:
                return found

    def send(self, data: bytes) -> Send:
        return Send(("here",), data, self.peer)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.driver.close()
    made.device.close()
    made.ledger.close()


LINE = AppLogLine(WALL, "info", "kept")


def test_then_is_run_and_kept_is_told_only_after_the_commit(bench: Bench) -> None:
    flow = Script(lambda event: [bench.send(b"in answer to Kept")] if isinstance(event, Kept) else [])
    bench.driver.run([Keep(LINE, flow, "token", then=(bench.send(b"then"),)), bench.send(b"at once")])
    assert bench.arrived() == [b"at once"]
    assert flow.seen == []
    bench.driver.writer.start()
    bench.commit()
    assert bench.arrived() == [b"then", b"in answer to Kept"]
    (kept,) = flow.seen
    assert isinstance(kept, Kept)
    assert kept.token == "token"
    assert isinstance(kept.outcome, Stored)


def test_what_could_not_be_stored_is_told_and_its_then_is_not_run(bench: Bench) -> None:
    flow = Script()
    bench.store.fail = True
    bench.driver.run([Keep(LINE, flow, "token", then=(bench.send(b"then"),))])
    bench.driver.writer.start()
    bench.commit()
    (not_kept,) = flow.seen
    assert isinstance(not_kept, NotKept)
    assert not_kept.error == "the disk is full"
    assert bench.driver.losses() == {"not-stored": 1}
    assert bench.arrived() == []


def test_a_keep_without_a_token_tells_nobody(bench: Bench) -> None:
    flow = Script()
    bench.driver.run([Keep(LINE, flow)])
    bench.driver.writer.start()
    bench.commit()
    assert flow.seen == []


def test_a_flow_that_raises_does_not_stop_the_others(bench: Bench) -> None:
    def raises(event: Event) -> list[Command]:
        raise LookupError("a bug")

    bad, good = Script(raises), Script()
    bench.driver.flows[:] = [bad, good]
    bench.driver.tick()
    bench.driver.tick()
    assert bench.driver.bugs == 2
    assert len(good.seen) == 2
    assert all(isinstance(event, Ticked) for event in good.seen)


def test_of_many_flows_some_are_told_the_time_and_the_others_after_what_came_in(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    later: list[Callable[[], object]] = []
    monkeypatch.setattr(bench.reactor, "callLater", lambda delay, deed: later.append(deed))
    flows = [Script() for _ in range(2 * TOLD_AT_ONCE + 5)]
    bench.driver.flows[:] = flows
    bench.driver.tick()
    assert [len(flow.seen) for flow in flows] == [1] * TOLD_AT_ONCE + [0] * (TOLD_AT_ONCE + 5)
    bench.driver.tick()
    assert len(later) == 1, "one round after the other"
    gone = bench.driver.flows.pop()
    while later:
        later.pop()()
    assert {len(flow.seen) for flow in bench.driver.flows} == {1}
    assert gone not in bench.driver.flows
    assert flows[-1].seen == []
    bench.driver.tick()
    bench.driver.close()
    while later:
        later.pop()()
    assert flows[TOLD_AT_ONCE].seen[1:] == [], "nothing is told after the end"


def test_events_that_arise_while_commands_are_run_wait_their_turn(bench: Bench) -> None:
    order: list[str] = []
    second = Script(lambda event: order.append("second") or [])  # type: ignore[func-returns-value]

    def answer(event: Event) -> list[Command]:
        bench.driver.dispatch(second, event)
        order.append("first")
        return []

    bench.driver.flows[:] = [Script(answer)]
    bench.driver.tick()
    assert order == ["first", "second"]


def test_what_comes_in_reaches_the_flow_with_its_channel_and_peer(bench: Bench) -> None:
    flow = Script(lambda event: [Send(("there",), b"answer", event.peer)] if isinstance(event, Received) else [])
    bench.driver.listen(("there",), flow, "127.0.0.1", 0)
    bench.driver.open_for_devices(("there",))
    (port,) = bench.reactor.readers
    bench.device.sendto(b"hello", port._socket.getsockname())
    port.doRead()
    (received,) = flow.seen
    assert isinstance(received, Received)
    assert (received.channel, received.data, received.peer) == (("there",), b"hello", bench.peer)
    assert bench.arrived() == [b"answer"]


def test_a_port_is_not_read_before_it_is_opened(bench: Bench) -> None:
    assert bench.reactor.readers == []


def test_opening_sending_to_and_closing_a_server(bench: Bench) -> None:
    flow = Script()
    channel = ("hq", "127.0.0.1", "auth", 0)
    port = bench.peer[1]
    bench.driver.run([Open(channel, flow, "127.0.0.1", port), Send(channel, b"to the server")])
    data, source = bench.device.recvfrom(100)
    assert data == b"to the server"
    (reader,) = bench.reactor.readers
    bench.device.sendto(b"its answer", source)
    reader.doRead()
    (received,) = flow.seen
    assert isinstance(received, Received)
    assert (received.channel, received.data) == (channel, b"its answer")
    bench.driver.run([Close(channel), Send(channel, b"nobody")])
    assert bench.reactor.readers == []
    assert bench.arrived() == []


def test_what_is_sent_on_no_channel_is_nobodys(bench: Bench) -> None:
    bench.driver.run([Send(("gone",), b"x"), Send(("gone",), b"x", bench.peer), Close(("gone",))])
    assert bench.driver.bugs == 0
    assert bench.arrived() == []


def test_a_line_for_the_admin_is_told_and_kept(bench: Bench) -> None:
    bench.driver.run([Tell("warning", "kept", {"a": 1}), Tell("info", "not kept", keep=False)])
    bench.driver.writer.start()
    bench.commit()
    assert [tell.text for tell in bench.told] == ["kept", "not kept"]
    assert bench.ledger.head[0] == 1


def test_a_port_in_use_cannot_be_listened_on(bench: Bench) -> None:
    with pytest.raises(OSError, match="in use"):
        bench.driver.listen(("again",), Script(), "127.0.0.1", bench.peer[1])


def test_what_is_personal_is_kept_and_never_told_nor_alarmed(tmp_path: Path) -> None:
    told: list[Tell] = []
    alarmed: list[Tell] = []
    ledger = Ledger.open(tmp_path / "ledger.db", WALL)
    kept: list[Keepable] = []

    class Store:
        def commit(self, batch: Sequence[Keepable]) -> list[Any]:
            kept.extend(batch)
            return ledger.commit(batch)

    reactor = Reactor()
    driver = Driver(reactor, Store(), told.append, alarmed.append)
    someone = Personal(card="0A1B2C3D")
    driver.run([Tell("warning", "refused", {"device": "c1"}, personal=someone, alarm="refused"), Tell("info", "plain")])
    driver.writer.start()
    driver.writer.stop()
    assert [line.personal for line in kept if isinstance(line, AppLogLine)] == [someone, Personal()]
    assert [tell.text for tell in told] == ["refused", "plain"]
    assert [tell.text for tell in alarmed] == ["refused"]
    assert "0A1B2C3D" not in repr((told, alarmed))
    ledger.close()


def test_every_change_on_stable_storage_is_observed_with_the_seconds_it_took(tmp_path: Path) -> None:
    seen: list[tuple[Keepable, Any, float | None]] = []
    ledger = Ledger.open(tmp_path / "ledger.db", WALL)
    reactor = Reactor()
    driver = Driver(reactor, ledger, lambda tell: None, observe=lambda *what: seen.append(what))
    driver.run([Keep(LINE), Keep(LINE, wait=False)])
    driver.writer.start()
    driver.writer.stop()
    assert seen == []
    reactor.turn()
    (waited, outcome, took), (gathered, _, nothing) = seen
    assert (waited, gathered) == (LINE, LINE)
    assert isinstance(outcome, Stored)
    assert took is not None
    assert 0 < took < 5
    assert nothing is None
    ledger.close()
