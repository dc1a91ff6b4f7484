"""The simulated Application Server over real sockets, spoken to by the tests' own RADIUS."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import wire
from tests.peers.ports import LOOPBACK
from tests.peers.simulated import SimulatedServer
from tests.peers.skips import ROOT

ANNA, CARLA_TOO, DORA, NOBODY = "04A1C3F2", "88120045", "04A1C3F5", "7E57C0DE"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedServer]:
    running = SimulatedServer(tmp_path_factory.mktemp("server")).start()
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


def job(number: str, *, card: str = ANNA, name: str = "copier-1", delay: int = 0) -> bytes:
    return (
        wire.attribute(wire.STATUS_TYPE, wire.INTERIM)
        + wire.attribute(wire.USER_NAME, card)
        + wire.attribute(wire.NAS_IDENTIFIER, name)
        + wire.attribute(wire.SESSION_ID, "s-1")
        + wire.attribute(wire.DELAY_TIME, delay)
        + wire.vendor(wire.JOB_KIND, 2)
        + wire.vendor(wire.JOB_ID, number)
        + wire.vendor(wire.PAGES, 7)
        + wire.vendor(wire.RECORD_ID, f"record-{number}")
    )


@pytest.mark.parametrize(
    ("user", "kind", "words"),
    [
        (ANNA, "accept", "Welcome, Anna Berg"),
        (ANNA.lower(), "accept", "Welcome, Anna Berg"),
        (CARLA_TOO, "accept", "Welcome, Carla Diaz"),
        (DORA, "reject", "There is no credit left on your account"),
        (NOBODY, "reject", "This card is not known here"),
        ("", "reject", "This card is not known here"),
    ],
)
def test_a_card_is_let_in_if_its_owner_may_copy(server: SimulatedServer, user: str, kind: str, words: str) -> None:
    answer = server.copier().swipe(user)
    assert answer is not None
    assert (answer.kind, answer.words) == (kind, words)


def test_passwords_are_not_taken(server: SimulatedServer) -> None:
    answer = server.copier().swipe("aberg", password=b"autumn-leaves")
    assert answer is not None
    assert (answer.kind, answer.words) == ("reject", "Please use your card")


def test_proxy_states_come_back_in_order(server: SimulatedServer) -> None:
    states = [b"first", b"second", b"first"]
    extra = b"".join(wire.attribute(wire.PROXY_STATE, state) for state in states)
    copier = server.copier()
    for answer in (copier.swipe(ANNA, extra=extra), copier.account(wire.START, "s", user=ANNA, extra=extra)):
        assert answer is not None
        assert answer.packet.all(wire.PROXY_STATE) == states


def test_a_record_that_was_answered_stands_in_the_book(server: SimulatedServer) -> None:
    copier = server.copier("copier-book")
    request = wire.accounting_request(server.secret, 1, job("000001", card=CARLA_TOO, name="copier-book", delay=90))
    assert copier.acct.exchange(request, server.secret, 3.0, None) is not None
    rows = server.query(
        "SELECT event, user, card, device, session, job_number, kind, pages, record_id, delay FROM records "
        "WHERE device = 'copier-book'"
    )
    assert rows == [
        ("interim", "cdiaz", CARLA_TOO, "copier-book", "s-1", "000001", "print", 7, "record-000001", 90),
    ]


def test_a_record_that_is_no_job_and_a_card_that_is_nobodys_are_kept_too(server: SimulatedServer) -> None:
    copier = server.copier("copier-other")
    assert copier.account(wire.ACCOUNTING_ON) is not None
    assert copier.account(wire.START, "s-2", user=NOBODY) is not None
    assert server.query(
        "SELECT event, user, card, session, job_number, pages FROM records "
        "WHERE device = 'copier-other' ORDER BY number"
    ) == [("on", "", "", "", None, None), ("start", "", NOBODY, "s-2", None, None)]


def test_a_record_that_comes_again_is_visible_and_the_same_datagram_is_only_answered_again(
    server: SimulatedServer,
) -> None:
    copier = server.copier("copier-twice")
    first = wire.accounting_request(server.secret, 1, job("000001", name="copier-twice"))
    rebuilt = wire.accounting_request(server.secret, 2, job("000001", name="copier-twice", delay=6))
    for request in (first, first, rebuilt):
        assert copier.acct.exchange(request, server.secret, 3.0, None) is not None
    assert server.query("SELECT times FROM jobs_twice WHERE device = 'copier-twice'") == [(2,)]


def test_what_is_not_authentic_or_not_readable_gets_no_answer_and_leaves_no_trace(server: SimulatedServer) -> None:
    stranger = server.copier("stranger", secret=b"another secret")
    assert stranger.swipe(ANNA, wait=0.3) is None
    assert stranger.account(wire.START, "s", user=ANNA, wait=0.3) is None
    copier = server.copier("stranger")
    assert copier.swipe(ANNA, wait=0.3, sign=False) is None
    swapped = wire.accounting_request(server.secret, 9, job("000009", name="stranger"))
    for line, datagram in (
        (copier.auth, swapped),
        (copier.acct, wire.access_request(server.secret, 9, wire.attribute(wire.USER_NAME, ANNA))),
        (copier.acct, b"\x04\x00\x00\x10"),
        (copier.auth, bytes(5000)),
        (copier.acct, swapped[:-3]),
    ):
        assert line.exchange(datagram, server.secret, 0.1, None) is None
    assert copier.swipe(ANNA) is not None
    assert server.query("SELECT count(*) FROM records WHERE device = 'stranger'") == [(0,)]
    assert "wrong secret, or the packet was changed" in server.log.read_text()


def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    server = SimulatedServer(tmp_path).start()
    assert server.copier().job("s-1", "000001")
    server.kill()
    assert server.query("SELECT job_number FROM records") == [("000001",)]
    server.start()
    assert server.copier().job("s-1", "000002")
    assert server.stop() == 0
    assert server.query("SELECT job_number FROM records ORDER BY number") == [("000001",), ("000002",)]
    assert "1 records" in server.log.read_text()


def test_it_serves_ipv6(tmp_path: Path) -> None:
    server = SimulatedServer(tmp_path, bind=LOOPBACK[6]).start()
    answer = server.copier().swipe(ANNA)
    assert server.stop() == 0
    assert answer is not None
    assert answer.kind == "accept"


def said(server: SimulatedServer) -> str:
    """What a server says that cannot start: one line, and status 2."""
    done = subprocess.run(server.command(), cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    return done.stderr


def test_a_second_server_on_the_same_directory_is_refused(server: SimulatedServer) -> None:
    assert "another server runs on it" in said(SimulatedServer(server.home))


def test_a_port_in_use_is_named(server: SimulatedServer, tmp_path: Path) -> None:
    other = SimulatedServer(tmp_path)
    other.acct_port = server.acct_port
    assert f"port {server.acct_port} (UDP): Address already in use; give another port" in said(other)


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "--bind nonsense: is no IPv4 or IPv6 address" in said(SimulatedServer(tmp_path, bind="nonsense"))


def test_a_secret_that_all_may_read_is_refused(tmp_path: Path) -> None:
    server = SimulatedServer(tmp_path)
    server.secret_file.chmod(0o644)
    assert "is open to everybody; run: chmod o-rwx" in said(server)
    server.secret_file.chmod(0o600)
    server.secret_file.write_bytes(b"\n")
    assert "is empty" in said(server)
    server.secret_file.unlink()
    assert "cannot be read (No such file" in said(server)


def test_a_mistake_in_the_users_is_named_with_its_line(tmp_path: Path) -> None:
    users = tmp_path / "users.csv"
    users.write_text("username,full_name,card,secondary_card,balance,restricted\na,A,1,,0,no\nb,B,1,,0,no\n")
    server = SimulatedServer(tmp_path / "server", "--users", str(users))
    assert f"{users} line 3: card '1' stands in line 2 too" in said(server)


def test_a_book_that_is_none_is_left_as_it_is(tmp_path: Path) -> None:
    server = SimulatedServer(tmp_path)
    book = tmp_path / "server" / "book.db"
    book.parent.mkdir()
    book.write_bytes(b"this is no SQLite file, and it is somebody's own" * 100)
    before = book.read_bytes()
    assert "is no book" in said(server)
    assert book.read_bytes() == before
