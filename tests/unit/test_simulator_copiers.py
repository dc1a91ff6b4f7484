"""`locum simulate copiers`: they ask until they are answered, and their closing line is what the server has."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import wire
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.simulated import SimulatedServer
from tests.peers.skips import ROOT

CLOSING = re.compile(
    r"(\d+) copiers, [\d.]+ s: logins (\d+) granted, (\d+) refused, (\d+) unanswered; "
    r"jobs (\d+) sent, (\d+) acknowledged, (\d+) pages; (\d+) datagrams sent again\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedServer]:
    running = SimulatedServer(tmp_path_factory.mktemp("server")).start()
    yield running
    assert running.stop() == 0


def command(server: SimulatedServer, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "appliance", "simulate", "copiers", "--radius", server.address),
        *("--auth-port", str(server.auth_port), "--accounting-port", str(server.acct_port)),
        *("--secret-file", str(server.secret_file), *more),
    ]


def run(server: SimulatedServer, *more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(server, *more), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_closing_line_is_what_stands_in_the_servers_book(server: SimulatedServer) -> None:
    done = run(server, "--count", "3", "--jobs", "50")
    figures = CLOSING.fullmatch(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert figures is not None, done.stdout
    copiers, granted, refused, unanswered, sent, acknowledged, pages, again = map(int, figures.groups())
    assert (copiers, unanswered, sent, acknowledged, again) == (3, 0, 50, 50, 0)
    book = server.query("SELECT count(*), sum(pages), count(DISTINCT device || job_number) FROM records WHERE pages")
    assert book == [(50, pages, 50)]
    logins = dict(server.query("SELECT outcome, count(*) FROM logins GROUP BY outcome"))
    assert (logins["granted"], logins.get("refused", 0)) == (granted, refused)
    events = dict(server.query("SELECT event, count(*) FROM records GROUP BY event"))
    assert (events["on"], events["start"], events["stop"]) == (3, granted, granted)


def test_a_second_run_brings_no_job_number_again(server: SimulatedServer) -> None:
    assert run(server, "--count", "1", "--jobs", "3").returncode == 0
    assert server.query("SELECT * FROM jobs_twice") == []


def test_the_rate_is_kept(server: SimulatedServer) -> None:
    done = run(server, "--count", "4", "--jobs", "20", "--rate", "20")
    seconds = re.search(r"([\d.]+) s:", done.stdout)
    assert done.returncode == 0
    assert seconds is not None
    assert float(seconds[1]) >= 0.9


def test_where_nobody_is_let_in_the_copiers_give_up_with_status_1(server: SimulatedServer, tmp_path: Path) -> None:
    users = tmp_path / "users.csv"
    users.write_text("username,full_name,card,secondary_card,balance,restricted\nx,X,FFFF,,0,no\n")
    done = run(server, "--count", "2", "--jobs", "5", "--users", str(users))
    figures = CLOSING.fullmatch(done.stdout)
    assert done.returncode == 1
    assert figures is not None
    assert figures.groups()[1:6] == ("0", "2", "0", "0", "0")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--radius", "no such host"], "does not resolve"),
        (["--users", "/nowhere/users.csv"], "/nowhere/users.csv: cannot be read"),
        (["--secret-file", "/nowhere/secret"], "/nowhere/secret: cannot be read"),
        (["--count", "0"], "--count"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(server: SimulatedServer, more: list[str], words: str) -> None:
    done = run(server, *more)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert words in done.stderr


def test_a_record_is_sent_again_until_it_is_acknowledged_with_the_right_delay(tmp_path: Path) -> None:
    server = SimulatedServer(tmp_path)
    server.acct_port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind((LOOPBACK[4], server.acct_port))
        deaf.settimeout(15)
        process = subprocess.Popen(command(server, "--count", "1", "--jobs", "1"), cwd=ROOT)
        try:
            first, peer = deaf.recvfrom(4096)
            deaf.sendto(wire.response(wire.ACCOUNTING_RESPONSE, first, b"", b"not the secret"), peer)
            again = deaf.recv(4096)
            while (last := deaf.recv(4096)) == first:
                pass
            deaf.sendto(wire.response(wire.ACCOUNTING_RESPONSE, last, b"", server.secret), peer)
        finally:
            process.kill()
            process.wait()
    assert again == first
    before, after = wire.take_apart(first), wire.take_apart(last)
    assert (before.number(wire.STATUS_TYPE), after.number(wire.STATUS_TYPE)) == (wire.ACCOUNTING_ON, wire.ACCOUNTING_ON)
    assert (before.number(wire.DELAY_TIME), after.number(wire.DELAY_TIME)) in ((0, 5), (0, 6))
    assert before.identifier != after.identifier
    assert before.number(wire.EVENT_TIMESTAMP) == after.number(wire.EVENT_TIMESTAMP)
