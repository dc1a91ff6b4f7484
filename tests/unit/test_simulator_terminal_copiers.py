"""Copiers that speak the terminal dialect: they ask until they are answered, over as many connections as it takes."""

import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any
from zlib import crc32

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from appliance.simulator.terminal import TerminalCopier, TerminalTarget
from protocols.terminal.messages import QueryStatus, UnlockStatus, What
from tests.peers.ports import free_port
from tests.peers.signals import heeds_signals
from tests.peers.simulated import SimulatedServer
from tests.peers.skips import ROOT
from tests.peers.waiting import eventually

ANNA, NOBODY = "04A1C3F2", "7E57C0DE"
CLOSING = re.compile(
    r"(\d+) copiers, [\d.]+ s: logins (\d+) granted, (\d+) refused, (\d+) unanswered; "
    r"jobs (\d+) sent, (\d+) acknowledged, (\d+) pages; (\d+) requests sent again\n"
)

Story = Callable[[Any], Coroutine[Deferred[Any], Any, None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedServer]:
    running = SimulatedServer(tmp_path_factory.mktemp("server")).start()
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


def play(story: Story, within: float = 30.0) -> None:
    """Run a story on a reactor of its own."""
    reactor: Any = EPollReactor()
    ended: list[Any] = []
    reactor.callWhenRunning(
        lambda: Deferred.fromCoroutine(story(reactor)).addBoth(ended.append).addBoth(lambda _: reactor.stop())
    )
    late = reactor.callLater(within, reactor.stop)
    reactor.run(installSignalHandlers=False)
    assert ended, f"not within {within:g} s"
    late.cancel()
    if isinstance(ended[0], Failure):
        ended[0].raiseException()


def copiers(*more: str) -> list[str]:
    return [sys.executable, "-m", "appliance", "simulate", "copiers", *more]


def run(*more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(copiers(*more), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def figures(said: str) -> list[int]:
    match = CLOSING.fullmatch(said)
    assert match is not None, said
    return [int(each) for each in match.groups()]


def place(server: SimulatedServer) -> str:
    return f"{server.address}:{server.terminal_port}"


def test_the_closing_line_is_what_stands_in_the_servers_book(server: SimulatedServer) -> None:
    done = run("--terminal", place(server), "--count", "3", "--jobs", "50")
    assert (done.returncode, done.stderr) == (0, "")
    count, granted, refused, unanswered, sent, acknowledged, pages, again = figures(done.stdout)
    assert (count, unanswered, sent, acknowledged, again) == (3, 0, 50, 50, 0)
    booked = server.query(
        "SELECT count(*), sum(pages), count(DISTINCT device || job_number) FROM jobs WHERE via = 'terminal'"
    )
    assert booked == [(50, pages, 50)]
    logins = dict(server.query("SELECT outcome, count(*) FROM logins WHERE via = 'terminal' GROUP BY outcome"))
    assert (logins["granted"], logins.get("refused", 0)) == (granted, refused)
    assert run("--terminal", place(server), "--count", "1", "--jobs", "3").returncode == 0
    assert server.query("SELECT * FROM jobs_twice") == []


def test_through_kill_9_of_the_server_every_job_stands_there_once(tmp_path: Path) -> None:
    server = SimulatedServer(tmp_path).start()
    process = subprocess.Popen(
        copiers("--terminal", place(server), "--count", "4", "--jobs", "400"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for enough in (50, 150):
            eventually(lambda enough=enough: server.query("SELECT count(*) FROM jobs")[0][0] >= enough, 20)
            server.kill()
            server.start()
        said, _ = process.communicate(timeout=40)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    _, _, _, _, sent, acknowledged, pages, again = figures(said)
    assert (sent, acknowledged) == (400, 400)
    assert again > 0
    assert server.stop() == 0
    booked = server.query("SELECT count(*), count(DISTINCT device || ' ' || job_number), sum(pages) FROM jobs")
    assert booked == [(400, 400, pages)]


def test_terminals_speak_tls_and_trust_the_certificate_that_they_were_given(tmp_path: Path) -> None:
    server = SimulatedServer(tmp_path).secure("--terminal-tls").start()
    place = f"127.0.0.1:{server.terminal_port}"
    done = run("--terminal", place, "--tls-ca", str(server.certificate), "--count", "2", "--jobs", "6")
    assert server.stop() == 0
    assert done.returncode == 0, done.stderr
    assert figures(done.stdout)[4:6] == [6, 6]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "give either --terminal HOST:PORT or --radius HOST"),
        (["--terminal", "127.0.0.1"], "is no HOST:PORT; write it as 127.0.0.1:9790"),
        (["--terminal", "127.0.0.1:99999"], "is no HOST:PORT"),
        (["--terminal", "no such host:1"], "does not resolve"),
        (["--terminal", "127.0.0.1:1", "--tls-ca", "/nowhere/ca"], "--tls-ca /nowhere/ca: cannot be read"),
        (["--radius", "127.0.0.1"], "--radius needs --secret-file"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(more: list[str], words: str) -> None:
    done = run(*more)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert words in done.stderr


def test_one_copier_logs_in_works_asks_and_logs_out(server: SimulatedServer) -> None:
    async def story(reactor: Any) -> None:
        copier = TerminalCopier(reactor, "story-1", TerminalTarget(server.address, server.terminal_port))
        assert await copier.power_on()
        refused = await copier.log_in(NOBODY)
        assert refused is not None
        assert (refused.granted, refused.words, refused.balance) == (False, "This card is not known here", None)
        login = await copier.log_in(ANNA)
        assert login is not None
        assert (login.granted, login.user, login.permissions) == (True, "aberg", 31)
        session = await copier.begin(ANNA, login.marks)
        job = await copier.copy(session, "scan", 4, 1)
        assert (job.acknowledged, job.session) == (True, str(login.session))
        balance = await copier.query(What.BALANCE, session)
        assert balance is not None
        assert balance.status == QueryStatus.DONE
        unlocked = await copier.unlock("123456")
        assert unlocked is not None
        assert unlocked.status == UnlockStatus.NOT_OFFLINE
        assert await copier.end(session)
        assert await copier.ping() == 0
        assert (copier.sent_again, copier.connections, copier.errors) == (0, 1, [])
        copier.close()

    play(story)


def test_many_jobs_are_open_at_once_and_a_pulled_cable_costs_none(server: SimulatedServer) -> None:
    async def story(reactor: Any) -> None:
        copier = TerminalCopier(reactor, "story-2", TerminalTarget(server.address, server.terminal_port))
        login = await copier.log_in(ANNA)
        assert login is not None
        session = await copier.begin(ANNA, login.marks)
        working: list[Awaitable[Any]] = [
            Deferred.fromCoroutine(copier.copy(session, "copy", number)) for number in range(1, 41)
        ]
        copier.cut()
        jobs = await gatherResults(working)  # type: ignore[arg-type]
        assert all(job.acknowledged for job in jobs)
        assert (copier.connections, copier.sent_again) == (2, 40)
        copier.close()

    play(story)
    booked = server.query("SELECT count(*), count(DISTINCT job_number), sum(pages) FROM jobs WHERE device = 'story-2'")
    assert booked == [(40, 40, 820)]


def test_nobody_there_means_no_answer_to_a_swipe_and_patience_for_a_job() -> None:
    port = free_port()

    async def story(reactor: Any) -> None:
        copier = TerminalCopier(reactor, "story-3", TerminalTarget("127.0.0.1", port))
        assert await copier.log_in(ANNA, wait=0.3) is None
        job = Deferred.fromCoroutine(copier.copy(await copier.begin(ANNA, (b"\x01",)), "copy", 1))
        await deferLater(reactor, 0.3)
        assert not job.called
        copier.close()
        assert (await job).acknowledged is False

    play(story)


def test_a_job_that_cannot_be_stored_now_is_sent_again_later() -> None:
    """Against a server of the test's own: WELCOME, then JOB_ACK 3, then 0."""

    def framed(kind: int, sequence: int, payload: bytes) -> bytes:
        body = b"CT\x01" + struct.pack("!BIH", kind, sequence, len(payload)) + payload
        return body + struct.pack("!I", crc32(body))

    listener = socket.create_server(("127.0.0.1", 0))
    statuses: list[float] = []

    def serve() -> None:
        line, _ = listener.accept()
        with line:
            hello = line.recv(4096)
            line.sendall(framed(0x81, struct.unpack_from("!I", hello, 4)[0], b"\x01s" + bytes(11)))
            for status in (3, 0):
                job = line.recv(4096)
                statuses.append(time.monotonic())
                line.sendall(framed(0x84, struct.unpack_from("!I", job, 4)[0], job[18:26] + bytes([status])))
            # The copier is switched off like a copier: at once.
            with suppress(ConnectionResetError):
                line.recv(1)

    serving = Thread(target=serve)
    serving.start()

    async def story(reactor: Any) -> None:
        copier = TerminalCopier(reactor, "story-4", TerminalTarget("127.0.0.1", listener.getsockname()[1]))
        assert (await copier.copy(await copier.begin(ANNA, (b"\x01",)), "copy", 1)).acknowledged
        copier.close()

    play(story)
    serving.join(10)
    listener.close()
    assert statuses[1] - statuses[0] >= 0.9


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_at_work_they_say_how_far_they_came_and_end(
    server: SimulatedServer, number: signal.Signals
) -> None:
    before = server.query("SELECT count(*) FROM jobs")[0][0]
    process = subprocess.Popen(
        copiers("--terminal", place(server), "--count", "3", "--jobs", "1000000"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeds_signals,
    )
    try:
        eventually(lambda: server.query("SELECT count(*) FROM jobs")[0][0] > before + 20, 20)
        process.send_signal(number)
        said, wrong = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, wrong) == (1, "")
    assert figures(said)[4] >= 20
