"""The simulated server's terminal face over real sockets, spoken to by a client written from the document alone."""

import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tests.peers.simulated import TOKEN, SimulatedServer
from tests.peers.waiting import eventually

ANNA, CARLA, CARLA_TOO, DORA, NOBODY = "04A1C3F2", "04A1C3F4", "88120045", "04A1C3F5", "7E57C0DE"
HELLO, LOGIN, UNLOCK, JOB, LOGOUT, PING, QUERY, RECORD = range(1, 9)
ERROR = 0xFF
NO_BALANCE = -(1 << 63)
FORWARDER = 1 << 15


def text(value: str) -> bytes:
    octets = value.encode()
    return bytes([len(octets)]) + octets


def frame(kind: int, sequence: int, payload: bytes = b"", *, magic: bytes = b"CT", version: int = 1) -> bytes:
    body = magic + struct.pack("!BBIH", version, kind, sequence, len(payload)) + payload
    return body + struct.pack("!I", crc32(body))


def job(session: int, number: int, *, kind: int = 1, pages: int = 5, document: str = "x") -> bytes:
    numbers = struct.pack("!QQBQQIIIHH", session, number, kind, 1_794_000_000_000, 0, pages, 2, 3, 1, 1)
    return numbers + text("A4") + text(document) + text("")


def record(number: int, card: str, *, device: str = "copier-1", pages: int = 5, session: int = 1 << 63) -> bytes:
    head = uuid.UUID(int=number).bytes + text(device) + text(card) + text("somebody") + struct.pack("!Q", 1)
    return head + job(session, number, pages=pages)


class Terminal:
    """One connection; `said` is a reply's type, sequence and payload."""

    def __init__(self, server: SimulatedServer, device: str = "copier-1", capabilities: int = 15, hello: bool = True):
        self.line = socket.create_connection((server.address, server.terminal_port), timeout=10)
        self._held = b""
        self._sequence = 0
        if hello:
            payload = text(device) + text("m") + text("1") + struct.pack("!H", capabilities)
            self.welcome = self.ask(HELLO, payload)

    def send(self, kind: int, payload: bytes = b"") -> int:
        self._sequence += 1
        self.line.sendall(frame(kind, self._sequence, payload))
        return self._sequence

    def said(self) -> tuple[int, int, bytes]:
        header = self._read(10)
        magic, version, kind, sequence, length = struct.unpack("!2sBBIH", header)
        payload = self._read(length)
        assert (magic, version) == (b"CT", 1)
        assert struct.unpack("!I", self._read(4))[0] == crc32(header + payload)
        return kind, sequence, payload

    def ask(self, kind: int, payload: bytes = b"") -> bytes:
        sequence = self.send(kind, payload)
        answered, of, said = self.said()
        assert (answered, of) == (kind | 0x80, sequence), (answered, said)
        return said

    def log_in(self, card: str, method: int = 1) -> tuple[int, int, str, str, int, int]:
        said = self.ask(LOGIN, bytes([method]) + text(card) + text(""))
        status, session = struct.unpack_from("!BQ", said)
        user, at = said[10 : 10 + said[9]].decode(), 10 + said[9]
        words, at = said[at + 1 : at + 1 + said[at]].decode(), at + 1 + said[at]
        return (status, session, user, words, *struct.unpack_from("!qH", said, at))

    def job(self, payload: bytes) -> int:
        return self.ask(JOB, payload)[8]

    def record(self, payload: bytes) -> tuple[int, str]:
        said = self.ask(RECORD, payload)
        assert said[:16] == payload[:16]
        return said[24], said[26:].decode()

    def is_closed(self) -> bool:
        with suppress(ConnectionResetError):
            return self.line.recv(1) == b""
        return True

    def _read(self, count: int) -> bytes:
        while len(self._held) < count:
            piece = self.line.recv(65536)
            if not piece:
                raise EOFError
            self._held += piece
        taken, self._held = self._held[:count], self._held[count:]
        return taken


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedServer]:
    running = SimulatedServer(tmp_path_factory.mktemp("server")).start()
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture
def terminal(server: SimulatedServer) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def connect(device: str = "copier-1", **how: Any) -> Terminal:
        made.append(Terminal(server, device, **how))
        return made[-1]

    yield connect
    for each in made:
        each.line.close()


def test_hello_is_welcomed_with_the_servers_time_and_online(terminal: Callable[..., Terminal]) -> None:
    welcome = terminal().welcome
    heartbeat, server_time, state = struct.unpack("!HQB", welcome[1 + welcome[0] :])
    assert (heartbeat, state) == (30, 0)
    assert abs(server_time / 1000 - time.time()) < 60


def test_a_card_is_let_in_with_balance_and_permissions(terminal: Callable[..., Terminal]) -> None:
    status, session, user, words, balance, permissions = terminal("copier-login").log_in(CARLA_TOO.lower())
    assert (status, user, words, balance, permissions) == (0, "cdiaz", "Welcome, Carla Diaz", 2500, 31)
    assert 0 < session < 1 << 63


@pytest.mark.parametrize(
    ("card", "method", "words"),
    [
        (DORA, 1, "There is no credit left on your account"),
        (NOBODY, 1, "This card is not known here"),
        ("", 1, "This card is not known here"),
        ("aberg", 2, "Please use your card"),
        ("1", 200, "Please use your card"),
    ],
)
def test_others_are_refused_in_words(terminal: Callable[..., Terminal], card: str, method: int, words: str) -> None:
    assert terminal().log_in(card, method) == (1, 0, "", words, NO_BALANCE, 0)


def test_a_job_is_logged_for_ever_under_its_device_and_number(
    server: SimulatedServer, terminal: Callable[..., Terminal]
) -> None:
    copier = terminal("copier-jobs")
    session = copier.log_in(ANNA)[1]
    assert [copier.job(job(session, 7)) for _ in range(2)] == [0, 1]
    assert copier.ask(LOGOUT, struct.pack("!Q", session)) == struct.pack("!Q", session)
    again = terminal("copier-jobs")
    another = again.log_in(CARLA)[1]
    # The session is no part of what makes a job the same.
    assert [again.job(job(each, 7)) for each in (session, another, 0)] == [1, 1, 1]
    assert again.job(job(session, 8)) == 0
    assert server.query(
        "SELECT via, user, card, job_number, kind, pages, color_pages, document, time, cost, conflict FROM jobs "
        "WHERE device = 'copier-jobs' ORDER BY number"
    ) == [
        ("terminal", "aberg", ANNA, number, "copy", 5, 2, "x", "2026-11-06T21:20:00.000Z", "0.50", 0)
        for number in ("7", "8")
    ]


def test_another_job_under_a_known_number_is_a_conflict_and_is_stored_once(
    server: SimulatedServer, terminal: Callable[..., Terminal]
) -> None:
    copier = terminal("copier-conflict")
    session = copier.log_in(ANNA)[1]
    statuses = [copier.job(job(session, 1, pages=pages)) for pages in (5, 6, 6, 5)]
    assert statuses == [0, 0, 1, 1]
    rows = server.query("SELECT pages, conflict FROM jobs WHERE device = 'copier-conflict' ORDER BY number")
    assert rows == [(5, 0), (6, 1)]
    assert server.query("SELECT * FROM jobs_twice WHERE device = 'copier-conflict'") == []


def test_a_job_of_no_session_or_of_an_unknown_kind_is_refused(
    server: SimulatedServer, terminal: Callable[..., Terminal]
) -> None:
    copier, other = terminal("copier-refused"), terminal("copier-other")
    session, others = copier.log_in(ANNA)[1], other.log_in(ANNA)[1]
    assert [copier.job(payload) for payload in (job(1, 1), job(others, 2), job(session, 3, kind=9))] == [2, 2, 2]
    assert server.query("SELECT * FROM jobs WHERE device = 'copier-refused'") == []


def test_a_record_is_logged_against_the_cards_owner_and_its_answer_names_him(
    server: SimulatedServer, terminal: Callable[..., Terminal]
) -> None:
    locum = terminal("library", capabilities=FORWARDER)
    assert [locum.record(record(1, CARLA_TOO, device="copier-r")) for _ in range(2)] == [(0, "cdiaz"), (1, "cdiaz")]
    assert server.query("SELECT device, user, card, record_id, comment FROM jobs WHERE device = 'copier-r'") == [
        ("copier-r", "cdiaz", CARLA_TOO, str(uuid.UUID(int=1)), f"locum:{uuid.UUID(int=1)}")
    ]


def test_job_and_record_have_one_key(terminal: Callable[..., Terminal]) -> None:
    copier, locum = terminal("copier-key"), terminal("library", capabilities=FORWARDER)
    session = copier.log_in(ANNA)[1]
    assert copier.job(job(session, 11)) == 0
    assert locum.record(record(11, CARLA, device="copier-key")) == (1, "aberg")
    assert locum.record(record(12, ANNA, device="copier-key")) == (0, "aberg")
    assert copier.job(job(session, 12)) == 1


def test_nobodys_card_is_logged_against_the_unknown_account_with_a_warning(
    server: SimulatedServer, terminal: Callable[..., Terminal]
) -> None:
    locum = terminal("library", capabilities=FORWARDER)
    assert locum.record(record(21, NOBODY, device="copier-u")) == (0, "unknown")
    assert server.api().isUserExists(TOKEN, "unknown") is True
    server.api().setConfigValue(TOKEN, "ext-device.unknown-offline-username", "strangers")
    assert locum.record(record(22, NOBODY, device="copier-u")) == (0, "strangers")
    warned = server.query("SELECT message FROM app_log WHERE level = 'warning' AND message LIKE '%copier-u%'")
    assert [message.partition(" of copier-u")[0] for (message,) in warned] == [
        f"Nobody has the card of job {number}" for number in (21, 22)
    ]


def test_only_one_that_hands_on_may_send_records(terminal: Callable[..., Terminal]) -> None:
    assert terminal("copier-1").record(record(31, ANNA, device="copier-x")) == (2, "")


def test_what_a_person_may_ask(server: SimulatedServer, terminal: Callable[..., Terminal]) -> None:
    copier = terminal("copier-query")
    server.api().addNewInternalUser(TOKEN, "asker", "", "", "", "A5CE", "")
    session = copier.log_in("A5CE")[1]

    def query(what: int, session: int, argument: str = "") -> bytes:
        return copier.ask(QUERY, struct.pack("!BQ", what, session) + text(argument))

    assert query(1, session) == b"\x00\x01" + text("0.00")
    assert [query(what, session) for what in (2, 3)] == [b"\x00\x00"] * 2
    assert query(4, session, "A5CF") == b"\x00\x01" + text("asker")
    assert server.api().lookUpUserNameByCardNo(TOKEN, "a5cf") == "asker"
    refused = [query(4, session, ANNA), query(4, session), query(1, session + 1), query(77, session)]
    assert refused == [b"\x01\x00"] * 4


def test_there_is_nothing_to_unlock_and_a_ping_says_online(terminal: Callable[..., Terminal]) -> None:
    copier = terminal()
    assert copier.ask(UNLOCK, b"\x01" + text("0000")) == b"\x03\x00\x00"
    assert copier.ask(PING) == b"\x00"
    assert copier.ask(LOGOUT, struct.pack("!Q", 99)) == struct.pack("!Q", 99)


def test_many_requests_may_be_open_at_once_and_be_cut_anywhere(terminal: Callable[..., Terminal]) -> None:
    copier = terminal("copier-many")
    session = copier.log_in(ANNA)[1]
    frames = b"".join(frame(JOB, 100 + number, job(session, number)) for number in range(50))
    for at in range(0, len(frames), 7):
        copier.line.sendall(frames[at : at + 7])
    answers = sorted(copier.said() for _ in range(50))
    assert answers == [(0x84, 100 + number, struct.pack("!QB", number, 0)) for number in range(50)]


@pytest.mark.parametrize(
    ("sent", "code", "sequence", "closed"),
    [
        (frame(PING, 9, magic=b"XT"), 1, 0, True),
        (frame(PING, 9, version=2), 2, 0, True),
        (frame(PING, 9)[:-1] + b"\x00", 3, 0, True),
        (b"CT\x01" + struct.pack("!BIH", PING, 9, 5000), 5, 0, True),
        (frame(PING, 9, b"x"), 5, 9, True),
        (frame(LOGIN, 9, b"\x01\x05ab"), 5, 9, True),
        (frame(0x42, 9), 4, 9, False),
        (frame(0x7F, 9), 4, 9, False),
        (frame(0x86, 9, b"\x00"), 4, 9, False),
    ],
    ids=["magic", "version", "checksum", "length", "trailing", "cut", "type", "reserved", "reply"],
)
def test_wrong_frames_are_answered_as_the_dialect_says(
    terminal: Callable[..., Terminal], sent: bytes, code: int, sequence: int, closed: bool
) -> None:
    copier = terminal("copier-wrong")
    copier.line.sendall(sent)
    kind, of, payload = copier.said()
    assert (kind, of, payload[0]) == (ERROR, sequence, code)
    if closed:
        assert copier.is_closed()
    else:
        assert copier.ask(PING) == b"\x00"


@pytest.mark.parametrize("kind", [PING, JOB, 0x42])
def test_hello_comes_first(terminal: Callable[..., Terminal], kind: int) -> None:
    copier = terminal(hello=False)
    copier.line.sendall(frame(kind, 3))
    answered, _, payload = copier.said()
    assert (answered, payload[0]) == (ERROR, 6)
    assert copier.is_closed()


def test_a_second_connection_of_a_device_ends_the_older(
    server: SimulatedServer, terminal: Callable[..., Terminal]
) -> None:
    older = terminal("copier-second")
    newer = terminal("copier-second")
    assert older.is_closed()
    assert newer.ask(PING) == b"\x00"
    assert "copier-second connected anew; its older connection is closed" in server.log.read_text()


def test_answers_come_late_when_they_are_switched_so(
    server: SimulatedServer, terminal: Callable[..., Terminal]
) -> None:
    copier = terminal("copier-late")
    server.switch(answer_late=0.3)
    began = time.monotonic()
    copier.ask(PING)
    server.switch()
    assert time.monotonic() - began >= 0.3


def test_no_answer_comes_when_it_is_switched_so(server: SimulatedServer, terminal: Callable[..., Terminal]) -> None:
    copier = terminal("copier-never")
    server.switch(answer="never", only="terminal")
    copier.send(PING)
    copier.line.settimeout(0.3)
    with pytest.raises(TimeoutError):
        copier.said()
    assert server.api().isUserExists(TOKEN, "aberg") is True
    server.switch()
    assert copier.ask(PING) == b"\x00"


def test_sessions_and_jobs_are_known_after_kill_9(tmp_path: Path) -> None:
    server = SimulatedServer(tmp_path).start()
    copier = Terminal(server, "copier-1")
    session = copier.log_in(ANNA)[1]
    assert copier.job(job(session, 1)) == 0
    server.kill()
    server.start()
    copier = Terminal(server, "copier-1")
    assert [copier.job(job(session, number)) for number in (1, 2)] == [1, 0]
    assert copier.log_in(ANNA)[1] > session
    server.kill()
    assert server.query("SELECT job_number, user FROM jobs") == [("1", "aberg"), ("2", "aberg")]


def test_it_dies_after_a_record_was_committed_and_before_it_is_answered(tmp_path: Path) -> None:
    server = SimulatedServer(tmp_path, "--die-after-commit", "1").start()
    locum = Terminal(server, "library", FORWARDER)
    with pytest.raises((EOFError, ConnectionError)):
        locum.record(record(1, ANNA))
    server.wait_until_dead()
    assert server.query("SELECT job_number FROM jobs") == [("1",)]


def test_what_cannot_be_stored_now_is_to_be_sent_again(tmp_path: Path) -> None:
    import sqlite3

    server = SimulatedServer(tmp_path).start()
    copier = Terminal(server)
    session = copier.log_in(ANNA)[1]
    book = sqlite3.connect(server.home / "server" / "book.db", isolation_level=None)
    book.execute("BEGIN IMMEDIATE")
    copier.line.settimeout(20)
    later = copier.job(job(session, 1))
    book.execute("ROLLBACK")
    book.close()
    assert [later, copier.job(job(session, 1)), copier.job(job(session, 1))] == [3, 0, 1]
    assert server.stop() == 0


def test_the_page_shows_who_is_connected(server: SimulatedServer, terminal: Callable[..., Terminal]) -> None:
    import urllib.request

    def page() -> str:
        with urllib.request.urlopen(server.url.replace("/rpc/api/xmlrpc", "/"), timeout=5) as answer:
            return str(answer.read(), "utf-8")

    copier = terminal("copier-on-the-page")
    assert "<td>copier-on-the-page</td><td>127.0.0.1</td><td>m</td>" in page()
    copier.line.close()
    eventually(lambda: "copier-on-the-page" not in page(), saying="it is gone from the page")
