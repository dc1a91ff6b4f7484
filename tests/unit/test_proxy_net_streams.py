"""Streams: real sockets on the loopback, a real reactor that the test turns."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from proxy.commands import Close, Command, Connect, Send
from proxy.events import Closed, Connected, Event, Received
from proxy.net import listening, stream, streams
from proxy.net.crashpoints import AFTER_SEND, BEFORE_SEND
from tests.unit.stream_bench import Bench, Script, free_port

HERE = ("listen", 1)
THERE = ("hq", "stream", 0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def echo(event: Event) -> list[Command]:
    return [Send(event.channel, event.data)] if isinstance(event, Received) else []


def listen(bench: Bench, flow: Script, address: str = "127.0.0.1") -> int:
    port = free_port(socket.AF_INET6 if ":" in address else socket.AF_INET)
    bench.driver.listen_stream(HERE, flow, address, port)
    bench.driver.open_for_devices(HERE)
    return port


def device(stack: ExitStack, port: int, address: str = "127.0.0.1") -> socket.socket:
    made = stack.enter_context(socket.create_connection((address, port), 3))
    made.settimeout(3)
    return made


def server(stack: ExitStack, address: str = "127.0.0.1") -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    stack.enter_context(made)
    made.settimeout(3)
    made.bind((address, 0))
    made.listen(8)
    return made


def connect(bench: Bench, flow: Script, port: int, address: str = "127.0.0.1", timeout: float = 2.0) -> None:
    bench.driver.run([Connect(THERE, flow, address, port, timeout)])


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_device_connects_is_heard_is_answered_and_leaves(bench: Bench, stack: ExitStack, address: str) -> None:
    flow = Script(echo)
    port = listen(bench, flow, address)
    copier = device(stack, port, address)
    copier.sendall(b"hello")
    assert bench.meanwhile(lambda: copier.recv(100)) == b"hello"
    copier.close()
    bench.until(lambda: flow.of(Closed))
    connected, received, closed = flow.seen
    assert isinstance(connected, Connected)
    assert connected.channel == (*HERE, 1)
    assert connected.peer[0] == connected.peer[2] == address
    assert connected.certificate == ""
    assert isinstance(received, Received)
    assert (received.channel, received.peer, received.data) == (connected.channel, connected.peer, b"hello")
    assert isinstance(closed, Closed)
    assert (closed.text, closed.refused) == ("the other side closed the connection", False)


def test_connections_are_numbered_and_each_has_its_own_channel(bench: Bench, stack: ExitStack) -> None:
    flow = Script(echo)
    port = listen(bench, flow)
    copiers = [device(stack, port) for _ in range(3)]
    bench.until(lambda: len(flow.of(Connected)) == 3)
    assert [event.channel for event in flow.of(Connected)] == [(*HERE, number) for number in (1, 2, 3)]
    for number, copier in enumerate(copiers):
        copier.sendall(b"from %d" % number)
    for number, copier in enumerate(copiers):
        assert bench.meanwhile(lambda copier=copier: copier.recv(100)) == b"from %d" % number


def test_a_port_is_bound_at_once_and_accepts_only_when_opened(bench: Bench, stack: ExitStack) -> None:
    flow, port = Script(echo), free_port()
    bench.driver.listen_stream(HERE, flow, "127.0.0.1", port)
    copier = device(stack, port)
    copier.sendall(b"early")
    bench.turn()
    assert flow.seen == []
    bench.driver.open_for_devices(HERE)
    assert bench.meanwhile(lambda: copier.recv(100)) == b"early"


def test_a_port_in_use_is_an_error_that_says_so(bench: Bench, stack: ExitStack) -> None:
    port = server(stack).getsockname()[1]
    with pytest.raises(OSError, match="in use") as caught:
        bench.driver.listen_stream(HERE, Script(), "127.0.0.1", port)
    assert caught.value.errno == errno.EADDRINUSE


def test_a_port_that_was_given_up_can_be_bound_again_in_the_same_breath(bench: Bench, stack: ExitStack) -> None:
    flow = Script(echo)
    port = listen(bench, flow)
    copier = device(stack, port)
    bench.until(lambda: flow.of(Connected))
    bench.driver.stop_listening(HERE)
    bench.driver.listen_stream(HERE, Script(echo), "127.0.0.1", port)
    bench.driver.open_for_devices(HERE)
    assert bench.meanwhile(lambda: copier.recv(100)) == b""
    assert flow.of(Closed) == []
    again = device(stack, port)
    again.sendall(b"again")
    assert bench.meanwhile(lambda: again.recv(100)) == b"again"


def test_what_is_sent_before_close_arrives_even_if_the_device_goes_on_talking(bench: Bench, stack: ExitStack) -> None:
    word = b"ERROR" * 20_000

    def refuse(event: Event) -> list[Command]:
        return [Send(event.channel, word), Close(event.channel)] if isinstance(event, Received) else []

    flow = Script(refuse)
    copier = device(stack, listen(bench, flow))

    def talk() -> bytes:
        copier.sendall(b"x" * 100_000)
        came = b""
        while piece := copier.recv(65536):
            came += piece
        return came

    assert bench.meanwhile(talk) == word
    assert len(flow.of(Received)) == 1
    copier.close()
    bench.turn(0.05)
    assert flow.of(Closed) == []


def test_abort_resets_the_connection(bench: Bench, stack: ExitStack) -> None:
    def reset(event: Event) -> list[Command]:
        return [Close(event.channel, abort=True)] if isinstance(event, Received) else []

    copier = device(stack, listen(bench, Script(reset)))
    copier.sendall(b"x")
    with pytest.raises(ConnectionResetError):
        bench.meanwhile(lambda: copier.recv(100))


def test_a_peer_that_never_closes_is_aborted_a_while_after_close(
    bench: Bench, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "FLUSH", 0.1)
    flow = Script(lambda event: [Close(event.channel)] if isinstance(event, Received) else [])
    copier = device(stack, listen(bench, flow))
    copier.sendall(b"x")
    assert bench.meanwhile(lambda: copier.recv(100)) == b""
    bench.turn(0.2)
    with pytest.raises(ConnectionError):
        copier.sendall(b"still there?")


def test_a_reset_is_told_as_refused(bench: Bench, stack: ExitStack) -> None:
    flow = Script()
    copier = device(stack, listen(bench, flow))
    bench.until(lambda: flow.of(Connected))
    copier.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    copier.close()
    (closed,) = bench.until(lambda: flow.of(Closed))
    assert (closed.text, closed.refused) == ("the connection was reset", True)


def test_who_does_not_read_is_not_read_from_and_is_cut_off_past_a_mebibyte(bench: Bench, stack: ExitStack) -> None:
    flow = Script()
    copier = device(stack, listen(bench, flow))
    (connected,) = bench.until(lambda: flow.of(Connected))
    bench.driver.run([Send(connected.channel, bytes(6 << 20))])
    bench.turn(0.05)
    copier.sendall(b"not read")
    bench.turn(0.05)
    assert flow.of(Received) == []
    assert bench.driver.losses() == {}
    bench.driver.run([Send(connected.channel, b"one more")])
    (closed,) = bench.until(lambda: flow.of(Closed))
    assert (closed.text, closed.refused) == ("the other side does not read what it is sent", False)
    assert bench.driver.losses() == {"not-read": 1}


def test_who_reads_again_is_read_from_again(bench: Bench, stack: ExitStack) -> None:
    flow = Script()
    copier = device(stack, listen(bench, flow))
    (connected,) = bench.until(lambda: flow.of(Connected))
    size = 6 << 20
    bench.driver.run([Send(connected.channel, bytes(size))])
    bench.turn(0.05)
    copier.sendall(b"asked meanwhile")

    def read_all() -> int:
        left = size
        while left:
            left -= len(copier.recv(1 << 20))
        return left

    assert bench.meanwhile(read_all) == 0
    (received,) = bench.until(lambda: flow.of(Received))
    assert received.data == b"asked meanwhile"


def test_connections_beyond_the_limit_are_closed_and_counted(
    bench: Bench, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "MOST_OF_ONE", 2)
    flow = Script(echo)
    port = listen(bench, flow)
    first, _second, third = (device(stack, port) for _ in range(3))
    assert bench.meanwhile(lambda: third.recv(100)) == b""
    assert bench.driver.losses() == {"too-many-connections": 1}
    first.close()
    bench.until(lambda: flow.of(Closed))
    fourth = device(stack, port)
    fourth.sendall(b"room again")
    assert bench.meanwhile(lambda: fourth.recv(100)) == b"room again"


def test_who_has_too_many_connections_is_told_once_a_minute(
    bench: Bench, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "MOST_OF_ONE", 1)
    port = listen(bench, Script())
    kept = device(stack, port)

    def turned_away(number: int) -> None:
        over = device(stack, port)
        assert bench.meanwhile(lambda: over.recv(100)) == b""
        assert bench.driver.losses() == {"too-many-connections": number}

    turned_away(1)
    turned_away(2)
    (tell,) = bench.told
    assert tell.text == "1 connections of 127.0.0.1 are open; more of it are turned away"
    assert (tell.level, tell.context["client"]) == ("warning", "127.0.0.1")
    monkeypatch.setattr(streams, "SAY_AGAIN", 0.0)
    turned_away(3)
    assert len(bench.told) == 2
    kept.close()


def test_no_connection_waits_for_small_pieces_and_all_are_watched_over(bench: Bench, stack: ExitStack) -> None:
    flow = Script()
    device(stack, listen(bench, flow))
    there = server(stack)
    connect(bench, flow, there.getsockname()[1])
    bench.until(lambda: len(flow.of(Connected)) == 2)
    for each in bench.driver._streams._streams.values():
        raw = each.transport.getHandle()  # type: ignore[union-attr]
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_server_is_connected_to_asked_and_heard(bench: Bench, stack: ExitStack, address: str) -> None:
    flow = Script()
    there = server(stack, address)
    port = there.getsockname()[1]
    connect(bench, flow, port, address)
    (connected,) = bench.until(lambda: flow.of(Connected))
    assert (connected.channel, connected.peer) == (THERE, (address, port, address))
    connection, _ = there.accept()
    stack.enter_context(connection)
    bench.driver.run([Send(THERE, b"one "), Send(THERE, b"question")])
    bench.turn(0.02)
    assert connection.recv(100) == b"one question"
    connection.sendall(b"its answer")
    (received,) = bench.until(lambda: flow.of(Received))
    assert (received.channel, received.data) == (THERE, b"its answer")
    connection.close()
    (closed,) = bench.until(lambda: flow.of(Closed))
    assert (closed.channel, closed.refused) == (THERE, False)


def test_where_nobody_listens_it_is_refused(bench: Bench) -> None:
    flow = Script()
    connect(bench, flow, free_port())
    (closed,) = bench.until(lambda: flow.seen)
    assert isinstance(closed, Closed)
    assert (closed.channel, closed.text, closed.refused) == (THERE, "connection refused", True)


def test_silence_is_a_timeout_and_no_refusal(bench: Bench, stack: ExitStack) -> None:
    full = server(stack)
    full.listen(0)
    port = full.getsockname()[1]
    for _ in range(3):  # what the kernel's queue holds; the next is not answered
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(("127.0.0.1", port))
    flow = Script()
    connect(bench, flow, port, timeout=0.2)
    (closed,) = bench.until(lambda: flow.seen)
    assert isinstance(closed, Closed)
    assert (closed.text, closed.refused) == ("no answer in 0.2 s", False)


def test_closing_what_is_not_yet_connected_tells_nobody(bench: Bench, stack: ExitStack) -> None:
    flow = Script()
    there = server(stack)
    bench.driver.run([Connect(THERE, flow, "127.0.0.1", there.getsockname()[1], 2.0), Close(THERE), Send(THERE, b"x")])
    bench.turn(0.05)
    assert flow.seen == []


def test_a_channel_can_be_connected_anew_at_once(bench: Bench, stack: ExitStack) -> None:
    flow = Script()
    first, second = server(stack), server(stack)
    connect(bench, flow, first.getsockname()[1])
    bench.until(lambda: flow.of(Connected))
    bench.driver.run([Close(THERE), Connect(THERE, flow, "127.0.0.1", second.getsockname()[1], 2.0)])
    bench.until(lambda: len(flow.of(Connected)) == 2)
    bench.driver.run([Send(THERE, b"to the second")])
    bench.turn(0.02)
    connection, _ = second.accept()
    stack.enter_context(connection)
    assert connection.recv(100) == b"to the second"
    assert flow.of(Closed) == []


def test_a_flow_that_raises_costs_no_other_connection(bench: Bench, stack: ExitStack) -> None:
    def answer(event: Event) -> list[Command]:
        if isinstance(event, Received) and event.data == b"bad":
            raise LookupError("a bug")
        return echo(event)

    port = listen(bench, Script(answer))
    bad, good = device(stack, port), device(stack, port)
    bad.sendall(b"bad")
    bench.turn(0.05)
    good.sendall(b"good")
    assert bench.meanwhile(lambda: good.recv(100)) == b"good"
    assert bench.driver.losses() == {"met-a-bug": 1}


@pytest.mark.parametrize(("step", "came"), [(BEFORE_SEND, b""), (AFTER_SEND, b"answer")])
def test_a_kill_before_or_after_a_send_finds_it_unsent_or_sent(stack: ExitStack, step: int, came: bytes) -> None:
    there = server(stack)
    program = f"""
import tempfile
from pathlib import Path
from proxy.commands import Connect, Send
from proxy.events import Connected
from tests.unit.stream_bench import Bench, Script
flow = Script(lambda event: [Send(("x",), b"answer")] if isinstance(event, Connected) else [])
bench = Bench(Path(tempfile.mkdtemp()))
bench.driver.run([Connect(("x",), flow, "127.0.0.1", {there.getsockname()[1]}, 3.0)])
bench.turn(3)
"""
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "LOCUM_CRASH_AT": str(step)})
    there.settimeout(10)
    connection, _ = there.accept()
    stack.enter_context(connection)
    connection.settimeout(10)
    data = b""
    with suppress(ConnectionError):
        while piece := connection.recv(100):
            data += piece
    assert data == came
    assert process.wait(10) == -signal.SIGKILL
