"""The simulated server's HTTP under a client that does not behave, and the switches that make it misbehave itself."""

import gzip
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from xml.parsers.expat import ExpatError
from xmlrpc.client import Fault, dumps

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.simulator.xmlrpc import NotACall, read_call
from tests.peers.simulated import TOKEN, SimulatedServer

PATH = "/rpc/api/xmlrpc"
CALL = dumps((TOKEN,), "api.getTotalUsers").encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedServer]:
    running = SimulatedServer(tmp_path_factory.mktemp("server")).start()
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture
def switched(server: SimulatedServer) -> Iterator[SimulatedServer]:
    yield server
    server.switch()


def request(body: bytes = CALL, head: bytes = b"") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (PATH.encode(), head, len(body), body)


def talk(server: SimulatedServer, data: bytes, until: bytes = b"", *, cut: int = 0) -> bytes:
    """Send bytes, in pieces of `cut`, and read until these bytes have come or the connection ends."""
    got = b""
    with socket.create_connection((server.address, server.xmlrpc_port), timeout=10) as line:
        with suppress(ConnectionError):
            for at in range(0, len(data), cut or len(data)):
                line.sendall(data[at : at + (cut or len(data))])
        with suppress(ConnectionError):
            while not until or got.count(until) < data.count(b"POST"):
                piece = line.recv(1 << 16)
                if not piece:
                    break
                got += piece
    return got


def test_requests_may_follow_each_other_without_waiting_and_are_answered_in_order(server: SimulatedServer) -> None:
    calls = [dumps((TOKEN, name), "api.isUserExists").encode() for name in ("aberg", "nobody", "bnowak")]
    got = talk(server, b"".join(map(request, calls)), b"</methodResponse>")
    assert [part[:1] for part in got.split(b"<boolean>")[1:]] == [b"1", b"0", b"1"]


def test_a_request_may_come_byte_by_byte_and_in_chunks(server: SimulatedServer) -> None:
    assert b"<int>24</int>" in talk(server, request(), b"</methodResponse>", cut=1)
    chunked = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % PATH.encode()
    chunks = b"".join(b"1\r\n%c\r\n" % octet for octet in CALL) + b"0\r\n\r\n"
    assert b"<int>24</int>" in talk(server, chunked + chunks, b"</methodResponse>")


def test_an_old_client_gets_its_answer_and_the_end_of_the_connection(server: SimulatedServer) -> None:
    old = b"POST %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (PATH.encode(), len(CALL), CALL)
    assert b"<int>24</int>" in talk(server, old)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n\r\nnonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
        b"CT\x01\x01\x00\x00\x00\x01\x00\x00\r\n\r\n",
        b"BREW / HTCPCP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
    ],
    ids=["words", "tls", "terminal", "protocol", "length", "header"],
)
def test_what_is_no_http_is_hung_up_on(server: SimulatedServer, data: bytes) -> None:
    got = talk(server, data)
    assert got == b"" or got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 ", b"HTTP/1.1 505 "))
    assert server.api().getTotalUsers(TOKEN) == 24


@pytest.mark.parametrize("head", [b"Content-Length: 10485760\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_ten_megabytes_are_refused_before_they_are_read(server: SimulatedServer, head: bytes) -> None:
    start = b"POST %s HTTP/1.1\r\nHost: x\r\n%b\r\n" % (PATH.encode(), head)
    body = b"" if b"Length" in head else b"".join(b"100000\r\n%b\r\n" % (b"x" * 0x100000) for _ in range(10))
    got = talk(server, start + body)
    # Whoever still sends when the connection ends may lose the answer with it.
    assert got.startswith(b"HTTP/1.1 413 ") or (body and not got)


def test_gzip_that_grows_beyond_the_limit_is_a_fault(server: SimulatedServer) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    got = talk(server, request(bomb, b"Content-Encoding: gzip\r\n"), b"</methodResponse>")
    assert b"cut short or too long" in got


BAD_CALLS = {
    "empty": b"",
    "text": b"hello",
    "half": CALL[: len(CALL) // 2],
    "html": b"<html><body>hello</body></html>",
    "answer": b"<methodResponse><params><param><value>1</value></param></params></methodResponse>",
    "number": CALL.replace(b"<string>lab-token</string>", b"<int>many</int>"),
    "entities": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + CALL.replace(b"lab-token", b"&b;"),
    "utf-16": '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x []><methodCall/>'.encode("utf-16"),
    "latin": CALL.replace(b"lab-token", b"\xff\xfe"),
    "struct": CALL.replace(b"<string>lab-token</string>", b"<struct><member><value>1</value></member></struct>"),
    "array": CALL.replace(b"<string>lab-token</string>", b"</array>"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_what_is_no_call_is_a_fault(server: SimulatedServer, name: str) -> None:
    got = talk(server, request(BAD_CALLS[name]), b"</methodResponse>")
    assert got.startswith(b"HTTP/1.1 200 ")
    assert b"java.io.IOException: the request cannot be read" in got


@given(st.binary() | st.text(alphabet="<>/valuemethodCnAMErsti1 ").map(str.encode))
@settings(max_examples=300)
def test_any_bytes_are_a_call_or_none(body: bytes) -> None:
    with suppress(NotACall):
        read_call(body)


@given(st.integers(0, len(CALL) - 1), st.binary(max_size=3))
@settings(max_examples=300)
def test_a_call_that_was_changed_is_a_call_or_none(at: int, put: bytes) -> None:
    with suppress(NotACall):
        read_call(CALL[:at] + put + CALL[at + 1 :])


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", PATH, 405), ("POST", "/", 405), ("GET", "/x", 404), ("HEAD", "/", 200)]
)
def test_other_places_and_methods_are_told_apart(server: SimulatedServer, method: str, path: str, status: int) -> None:
    line = HTTPConnection(server.address, server.xmlrpc_port, timeout=5)
    line.request(method, path)
    assert line.getresponse().status == status
    line.close()


# --- switches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "status"), [("html", 200), ("500", 500), ("503", 503)])
def test_another_answer_comes_and_the_call_is_not_done(switched: SimulatedServer, answer: str, status: int) -> None:
    switched.switch(answer=answer)
    body = dumps((TOKEN, f"switched-{answer}", "yes"), "api.setConfigValue").encode()
    line = HTTPConnection(switched.address, switched.xmlrpc_port, timeout=5)
    line.request("POST", PATH, body)
    came = line.getresponse()
    assert (came.status, b"<h1>Sign in</h1>" in came.read()) == (status, True)
    switched.switch()
    assert switched.api().getConfigValue(TOKEN, f"switched-{answer}") == ""


def test_half_an_answer_comes_and_the_call_is_done(switched: SimulatedServer) -> None:
    switched.switch(answer="half-xml", only="api.setConfigValue")
    with pytest.raises(ExpatError):
        switched.api().setConfigValue(TOKEN, "half", "done")
    assert switched.api().getConfigValue(TOKEN, "half") == "done"


def test_a_huge_answer_comes(switched: SimulatedServer) -> None:
    switched.switch(answer="huge")
    assert len(switched.api().getTotalUsers(TOKEN)) > 10 << 20


def test_no_answer_comes_and_others_are_served(switched: SimulatedServer) -> None:
    switched.switch(answer="never", only="api.getTotalUsers")
    with socket.create_connection((switched.address, switched.xmlrpc_port), timeout=0.3) as line:
        line.sendall(request())
        with pytest.raises(TimeoutError):
            line.recv(1)
    assert switched.api().isUserExists(TOKEN, "aberg") is True


def test_an_answer_comes_late(switched: SimulatedServer) -> None:
    switched.switch(answer_late=0.4)
    began = time.monotonic()
    assert switched.api().getTotalUsers(TOKEN) == 24
    assert time.monotonic() - began >= 0.4


def test_every_address_is_refused(switched: SimulatedServer) -> None:
    switched.switch(refuse_address=True)
    with pytest.raises(Fault, match=r"SecurityException: calls from 127\.0\.0\.1 are not allowed"):
        switched.api().getTotalUsers(TOKEN)


def test_a_file_of_switches_that_is_wrong_changes_nothing(tmp_path: Path) -> None:
    server = SimulatedServer(tmp_path, "--answer-late", "0.01").start()
    try:
        server.switch(refuse_address=True)
        with pytest.raises(Fault, match="not allowed"):
            server.api().getTotalUsers(TOKEN)
        server.switch(answer="sometimes")
        with pytest.raises(Fault, match="not allowed"):
            server.api().getTotalUsers(TOKEN)
        (server.home / "server" / "switches.json").unlink()
        assert server.api().getTotalUsers(TOKEN) == 24
    finally:
        assert server.stop() == 0
    assert "the switches stay as they were" in server.log.read_text()
