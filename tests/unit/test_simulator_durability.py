"""What the simulated server answered stands in its book, also after kill -9; what it knew is known after a restart."""

from collections.abc import Callable
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path
from threading import Thread
from typing import Any
from xmlrpc.client import dumps

import pytest

from tests.peers.simulated import TOKEN, SimulatedServer

DETAILS = "server=device,printer=copier-1,time=20261122T101112,total-pages=2"
HEADER = "username,full_name,card,secondary_card,balance,restricted\n"


@pytest.fixture
def make(tmp_path: Path) -> Any:
    made: list[SimulatedServer] = []

    def start(*arguments: str) -> SimulatedServer:
        server = SimulatedServer(tmp_path, *arguments).start()
        made.append(server)
        return server

    yield start
    for server in made:
        server.kill()
        assert "Traceback" not in server.log.read_text()


def test_everything_that_was_answered_survives_kill_9(make: Callable[..., SimulatedServer]) -> None:
    server = make()
    api = server.api()
    api.addNewInternalUser(TOKEN, "newcomer", "", "New Comer", "n@example.org", "FACE01", "")
    api.setUserProperty(TOKEN, "newcomer", "secondary-card-number", "FACE02")
    api.processJob(TOKEN, f"user=newcomer,{DETAILS},comment=locum:r1")
    api.setUserAccountBalance(TOKEN, "aberg", 5.0, "set")
    api.setConfigValue(TOKEN, "locum.library", "claim")
    api.deleteExistingUser(TOKEN, "yfarah")
    server.kill()
    api = server.start().api()
    assert [api.lookUpUserNameByCardNo(TOKEN, card) for card in ("FACE01", "FACE02")] == ["newcomer", "newcomer"]
    names = ["full-name", "email", "balance", "print-stats.job-count", "print-stats.page-count"]
    assert api.getUserProperties(TOKEN, "newcomer", names) == ["New Comer", "n@example.org", "-0.20", "1", "2"]
    assert api.getUserProperty(TOKEN, "aberg", "balance") == "5.00"
    assert api.getConfigValue(TOKEN, "locum.library") == "claim"
    assert api.listPrinters(TOKEN, 0, 9) == ["device\\copier-1"]
    # Whoever stands in the users' file is there again: the file says who there is to be.
    assert api.isUserExists(TOKEN, "yfarah") is True


def test_it_dies_after_the_commit_and_before_the_answer(make: Callable[..., SimulatedServer]) -> None:
    server = make("--die-after-commit", "3")
    api = server.api()
    for number in range(2):
        api.processJob(TOKEN, f"user=aberg,{DETAILS},comment=locum:r{number}")
    with pytest.raises((RemoteDisconnected, ConnectionError)):
        api.processJob(TOKEN, f"user=aberg,{DETAILS},comment=locum:r2")
    server.wait_until_dead()
    assert server.query("SELECT record_id FROM jobs ORDER BY number") == [("r0",), ("r1",), ("r2",)]


def test_of_many_at_once_every_answered_job_is_in_the_book(make: Callable[..., SimulatedServer]) -> None:
    server = make("--die-after-commit", "200")
    answered: list[str] = []

    def work(worker: int) -> None:
        api = server.api()
        try:
            for number in range(100):
                api.processJob(TOKEN, f"user=aberg,{DETAILS},comment=locum:{worker}-{number}")
                answered.append(f"{worker}-{number}")
        except (OSError, RemoteDisconnected):
            return

    workers = [Thread(target=work, args=(worker,)) for worker in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    server.wait_until_dead()
    booked = [record for (record,) in server.query("SELECT record_id FROM jobs")]
    assert set(answered) <= set(booked)
    assert len(booked) == len(set(booked))
    # One job of each worker at most is in doubt.
    assert len(booked) - len(answered) <= len(workers)


def test_a_line_of_the_users_file_counts_when_it_changes(tmp_path: Path, make: Callable[..., SimulatedServer]) -> None:
    users = tmp_path / "users.csv"
    users.write_text(HEADER + "anna,Anna,A1,,10,no\nbob,Bob,B1,,10,no\n")
    server = make("--users", str(users))
    for name in ("anna", "bob"):
        server.api().processJob(TOKEN, f"user={name},{DETAILS}")
    assert server.stop() == 0
    users.write_text(HEADER + "anna,Anna,A1,,10,no\nbob,Bob,B2,A2,20,no\ncarl,Carl,B1,,1,no\n")
    api = server.start().api()
    balances = [api.getUserProperty(TOKEN, name, "balance") for name in ("anna", "bob", "carl")]
    assert balances == ["9.80", "20", "1"]
    assert [api.lookUpUserNameByCardNo(TOKEN, card) for card in ("A1", "B1", "A2")] == ["anna", "carl", "bob"]


def test_a_card_of_the_file_that_somebody_in_the_book_has_is_named(
    tmp_path: Path, make: Callable[..., SimulatedServer]
) -> None:
    users = tmp_path / "users.csv"
    users.write_text(HEADER + "anna,Anna,A1,,10,no\n")
    server = make("--users", str(users))
    server.api().addNewInternalUser(TOKEN, "eve", "", "", "", "B1", "")
    assert server.stop() == 0
    users.write_text(HEADER + "anna,Anna,A1,B1,10,no\n")
    with pytest.raises(AssertionError, match="card 'B1' belongs to eve in the book; change the file"):
        server.start()


def test_a_book_of_another_version_is_left_alone(tmp_path: Path) -> None:
    import sqlite3

    server = SimulatedServer(tmp_path)
    (tmp_path / "server").mkdir()
    with sqlite3.connect(tmp_path / "server" / "book.db") as book:
        book.execute("CREATE TABLE records (number INTEGER)")
    with pytest.raises(AssertionError, match="is no book"):
        server.start()


def test_a_book_that_cannot_be_written_means_no_answer_and_nothing_half_known(
    make: Callable[..., SimulatedServer],
) -> None:
    import sqlite3

    server = make()
    server.api().processJob(TOKEN, f"user=aberg,{DETAILS},comment=locum:r1")
    book = sqlite3.connect(server.home / "server" / "book.db", isolation_level=None)
    # Somebody holds the file for longer than the writer waits, and it cannot be written meanwhile.
    book.execute("BEGIN IMMEDIATE")
    line = HTTPConnection(server.address, server.xmlrpc_port, timeout=20)
    line.request("POST", "/rpc/api/xmlrpc", dumps((TOKEN, f"user=aberg,{DETAILS},comment=locum:r2"), "api.processJob"))
    with pytest.raises((RemoteDisconnected, ConnectionError)):
        line.getresponse()
    book.execute("ROLLBACK")
    book.close()
    assert server.api().getUserProperty(TOKEN, "aberg", "print-stats.job-count") == "1"
    server.api().processJob(TOKEN, f"user=aberg,{DETAILS},comment=locum:r2")
    assert server.query("SELECT record_id FROM jobs ORDER BY number") == [("r1",), ("r2",)]
