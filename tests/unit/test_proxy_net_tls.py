"""TLS on streams: the other end is the standard library's ssl, so that nothing of Twisted judges Twisted."""

from __future__ import annotations

import hashlib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from proxy.commands import Close, Command, Connect, Send, Tls
from proxy.events import Closed, Connected, Event, Received
from proxy.net import streams
from tests.unit.stream_bench import Bench, Pair, Script, certificate, free_port

HERE = ("listen", 1)
THERE = ("hq", "stream", 0)

CA = certificate("Lab CA", ca=True)
OTHER_CA = certificate("Other CA", ca=True)
SERVER = certificate("server", CA, names=("server.lab", "127.0.0.1"))
COPIER = certificate("copier", CA, names=("copier",))


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


def listen(bench: Bench, flow: Script, tls: Tls) -> int:
    port = free_port()
    bench.driver.listen_stream(HERE, flow, "127.0.0.1", port, tls)
    bench.driver.open_for_devices(HERE)
    return port


def device(folder: Path, port: int, shows: Pair | None = None, trusts: Pair = CA, name: str = "server.lab") -> bytes:
    """Connect as a copier would, say hello; the answer."""
    context = ssl.create_default_context(cadata=trusts.certificate.decode())
    if shows is not None:
        context.load_cert_chain(*shows.files(folder, "copier"))
    with (
        socket.create_connection(("127.0.0.1", port), 3) as raw,
        context.wrap_socket(raw, server_hostname=name) as over,
    ):
        over.sendall(b"hello")
        return over.recv(100)


def serve(
    stack: ExitStack, folder: Path, shows: Pair, wants: Pair | None = None, oldest: ssl.TLSVersion | None = None
) -> tuple[socket.socket, ssl.SSLContext]:
    there = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    there.settimeout(3)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*shows.files(folder, "server"))
    if wants is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=wants.certificate.decode())
    if oldest is not None:
        context.maximum_version = oldest
    return there, context


def accept_and_echo(there: socket.socket, context: ssl.SSLContext) -> bytes:
    raw, _ = there.accept()
    with raw, suppress(OSError), context.wrap_socket(raw, server_side=True) as over:
        data = over.recv(100)
        over.sendall(data)
        return data
    return b""


def dial(bench: Bench, flow: Script, there: socket.socket, tls: Tls, timeout: float = 3.0) -> None:
    bench.driver.run([Connect(THERE, flow, "127.0.0.1", there.getsockname()[1], timeout, tls)])


def failed(bench: Bench, there: socket.socket, context: ssl.SSLContext, tls: Tls) -> Closed:
    """How a connection ends that must not come to be."""
    flow = Script()
    dial(bench, flow, there, tls)
    bench.meanwhile(lambda: accept_and_echo(there, context))
    (closed,) = bench.until(lambda: flow.of(Closed))
    return closed


def test_a_device_is_answered_over_tls_without_a_certificate_of_its_own(bench: Bench, tmp_path: Path) -> None:
    flow = Script(echo)
    port = listen(bench, flow, Tls(certificate=SERVER.certificate, key=SERVER.key))
    assert bench.meanwhile(lambda: device(tmp_path, port)) == b"hello"
    (connected,) = flow.of(Connected)
    assert connected.certificate == ""
    (closed,) = bench.until(lambda: flow.of(Closed))
    assert (closed.text, closed.refused) == ("the other side closed the connection", False)


def test_a_devices_certificate_is_told_by_its_fingerprint(bench: Bench, tmp_path: Path) -> None:
    flow = Script(echo)
    port = listen(bench, flow, Tls("", CA.certificate, SERVER.certificate, SERVER.key))
    assert bench.meanwhile(lambda: device(tmp_path, port, COPIER)) == b"hello"
    (connected,) = flow.of(Connected)
    der = ssl.PEM_cert_to_DER_cert(COPIER.certificate.decode())
    assert connected.certificate == hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize("shows", [None, certificate("stranger", OTHER_CA), certificate("old", CA, days=-1)])
def test_a_device_without_a_good_certificate_is_kept_out_and_counted(
    bench: Bench, tmp_path: Path, shows: Pair | None
) -> None:
    flow = Script(echo)
    port = listen(bench, flow, Tls("", CA.certificate, SERVER.certificate, SERVER.key))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        bench.meanwhile(lambda: device(tmp_path, port, shows))
    bench.until(lambda: bench.driver.losses() == {"no-tls-handshake": 1})
    assert flow.seen == []


def test_a_handshake_that_does_not_end_is_closed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HANDSHAKE", 0.1)
    flow = Script(echo)
    port = listen(bench, flow, Tls(certificate=SERVER.certificate, key=SERVER.key))
    with socket.create_connection(("127.0.0.1", port), 3) as slow, pytest.raises(ConnectionResetError):
        bench.meanwhile(lambda: slow.recv(100))
    assert bench.driver.losses() == {"no-tls-handshake": 1}
    assert flow.seen == []


def test_a_device_that_speaks_no_tls_is_no_bug(bench: Bench) -> None:
    flow = Script(echo)
    port = listen(bench, flow, Tls(certificate=SERVER.certificate, key=SERVER.key))
    with socket.create_connection(("127.0.0.1", port), 3) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        bench.meanwhile(lambda: plain.recv(100))
    bench.until(lambda: bench.driver.losses() == {"no-tls-handshake": 1})


def test_a_server_is_asked_over_tls_and_large_pieces_come_through(
    bench: Bench, stack: ExitStack, tmp_path: Path
) -> None:
    there, context = serve(stack, tmp_path, SERVER)
    flow = Script()
    dial(bench, flow, there, Tls("server.lab", CA.certificate))
    size = 700_000

    def work() -> int:
        raw, _ = there.accept()
        with context.wrap_socket(raw, server_side=True) as over:
            got = 0
            while got < size:
                got += len(over.recv(65536))
            over.sendall(bytes(size))
            return got

    def answer(event: Event) -> list[Command]:
        return [Send(THERE, bytes(size))] if isinstance(event, Connected) else []

    flow.answer = answer
    assert bench.meanwhile(work) == size
    bench.until(lambda: sum(len(event.data) for event in flow.of(Received)) == size)
    (connected,) = flow.of(Connected)
    assert connected.certificate == hashlib.sha256(ssl.PEM_cert_to_DER_cert(SERVER.certificate.decode())).hexdigest()


@pytest.mark.parametrize(
    ("name", "ca"),
    [
        ("", CA.certificate),
        ("127.0.0.1", CA.certificate),
        ("server.lab", OTHER_CA.certificate + b"\n" + CA.certificate),
    ],
    ids=["the address it was reached at", "an address", "several CAs in one file"],
)
def test_a_name_an_address_and_several_authorities(
    bench: Bench, stack: ExitStack, tmp_path: Path, name: str, ca: bytes
) -> None:
    there, context = serve(stack, tmp_path, SERVER)
    flow = Script(lambda event: [Send(THERE, b"hello")] if isinstance(event, Connected) else [])
    dial(bench, flow, there, Tls(name, ca))
    assert bench.meanwhile(lambda: accept_and_echo(there, context)) == b"hello"


def test_a_chain_is_followed_and_an_intermediate_authority_alone_is_trusted(
    bench: Bench, stack: ExitStack, tmp_path: Path
) -> None:
    middle = certificate("Middle CA", CA, ca=True)
    leaf = certificate("server", middle, names=("server.lab",))
    chained = Pair(leaf.certificate + middle.certificate, leaf.key)
    for shows, ca in ((chained, CA), (leaf, middle)):
        there, context = serve(stack, tmp_path, shows)
        flow = Script(lambda event: [Send(THERE, b"hello")] if isinstance(event, Connected) else [])
        dial(bench, flow, there, Tls("server.lab", ca.certificate))
        assert bench.meanwhile(lambda there=there, context=context: accept_and_echo(there, context)) == b"hello"
        bench.driver.run([Close(THERE, abort=True)])
    assert bench.driver.losses() == {}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("offered", [["ct"], ["h2", "http/1.1"]], ids="+".join)
def test_an_application_protocol_that_nobody_knows_is_ignored_and_none_selected(
    bench: Bench, offered: list[str], version: ssl.TLSVersion
) -> None:
    port = listen(bench, Script(echo), Tls(certificate=SERVER.certificate, key=SERVER.key))
    context = ssl.create_default_context(cadata=CA.certificate.decode())
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(offered)

    def offer() -> tuple[str | None, bytes]:
        with (
            socket.create_connection(("127.0.0.1", port), 3) as raw,
            context.wrap_socket(raw, server_hostname="server.lab") as over,
        ):
            over.sendall(b"hello")
            return over.selected_alpn_protocol(), over.recv(100)

    assert bench.meanwhile(offer) == (None, b"hello")
    assert bench.driver.losses() == {}


def test_our_own_chain_is_shown_to_devices(bench: Bench, tmp_path: Path) -> None:
    middle = certificate("Middle CA", CA, ca=True)
    leaf = certificate("server", middle, names=("server.lab",))
    port = listen(bench, Script(echo), Tls(certificate=leaf.certificate + middle.certificate, key=leaf.key))
    assert bench.meanwhile(lambda: device(tmp_path, port)) == b"hello"


@pytest.mark.parametrize(
    ("shows", "name", "words"),
    [
        (certificate("server", OTHER_CA, names=("server.lab",)), "server.lab", "not signed by the CA"),
        (certificate("server", names=("server.lab",)), "server.lab", "self-signed, and not the one"),
        (SERVER, "other.lab", "for another name than other.lab"),
        (certificate("server", CA, names=("10.1.1.1",)), "127.0.0.1", "for another name than 127.0.0.1"),
        (certificate("server.lab", CA), "server.lab", "no subjectAltName"),
        (certificate("server", CA, names=("server.lab",), days=-1), "server.lab", "has expired"),
    ],
    ids=["another CA", "self-signed", "another name", "another address", "no name", "expired"],
)
def test_why_a_servers_certificate_does_not_do_is_said(
    bench: Bench, stack: ExitStack, tmp_path: Path, shows: Pair, name: str, words: str
) -> None:
    there, context = serve(stack, tmp_path, shows)
    closed = failed(bench, there, context, Tls(name, CA.certificate))
    assert words in closed.text
    assert not closed.refused


def test_the_systems_authorities_are_asked_where_none_is_given(bench: Bench, stack: ExitStack, tmp_path: Path) -> None:
    there, context = serve(stack, tmp_path, SERVER)
    assert "not signed by the CA" in failed(bench, there, context, Tls("server.lab")).text


def test_a_server_that_wants_a_certificate_gets_ours(bench: Bench, stack: ExitStack, tmp_path: Path) -> None:
    there, context = serve(stack, tmp_path, SERVER, wants=CA)
    flow = Script(lambda event: [Send(THERE, b"hello")] if isinstance(event, Connected) else [])
    dial(bench, flow, there, Tls("server.lab", CA.certificate, COPIER.certificate, COPIER.key))
    assert bench.meanwhile(lambda: accept_and_echo(there, context)) == b"hello"


@pytest.mark.parametrize("oldest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_a_certificate_and_gets_none_says_so(
    bench: Bench, stack: ExitStack, tmp_path: Path, oldest: ssl.TLSVersion
) -> None:
    there, context = serve(stack, tmp_path, SERVER, wants=CA, oldest=oldest)
    assert "wants a client certificate" in failed(
        bench, there, context, Tls("server.lab", CA.certificate)
    ).text.replace("may want", "wants")


def test_a_server_without_tls_is_told_apart(bench: Bench, stack: ExitStack) -> None:
    there = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    there.settimeout(3)
    flow = Script()
    dial(bench, flow, there, Tls("server.lab", CA.certificate))

    def answer_in_http() -> None:
        raw, _ = there.accept()
        with raw:
            raw.recv(1000)
            raw.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            raw.recv(1000)

    bench.meanwhile(answer_in_http)
    (closed,) = bench.until(lambda: flow.of(Closed))
    assert closed.text == "the other side does not speak TLS on this port"


def test_a_server_that_never_answers_the_handshake_is_a_timeout(bench: Bench, stack: ExitStack) -> None:
    there = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    flow = Script()
    dial(bench, flow, there, Tls("server.lab", CA.certificate), timeout=0.2)
    (closed,) = bench.until(lambda: flow.of(Closed))
    assert (closed.text, closed.refused) == ("the TLS handshake did not end within 0.2 s", False)


def test_the_last_word_before_close_arrives(bench: Bench, tmp_path: Path) -> None:
    def refuse(event: Event) -> list[Command]:
        return [Send(event.channel, b"ERROR"), Close(event.channel)] if isinstance(event, Received) else []

    port = listen(bench, Script(refuse), Tls(certificate=SERVER.certificate, key=SERVER.key))
    assert bench.meanwhile(lambda: device(tmp_path, port)) == b"ERROR"


def test_a_key_that_does_not_belong_to_the_certificate_is_said_when_listening(bench: Bench) -> None:
    with pytest.raises(OSError, match="not made together"):
        bench.driver.listen_stream(HERE, Script(), "127.0.0.1", 0, Tls("", b"", SERVER.certificate, COPIER.key))


def test_a_key_that_does_not_belong_to_the_certificate_is_told_when_connecting(bench: Bench, stack: ExitStack) -> None:
    there = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    flow = Script()
    dial(bench, flow, there, Tls("server.lab", CA.certificate, SERVER.certificate, b"no key"))
    (closed,) = bench.until(lambda: flow.of(Closed))
    assert "cannot be used" in closed.text


def test_without_tls_nothing_of_openssl_is_imported() -> None:
    program = "import sys, proxy.net.driver, proxy.net.tls, proxy.net.codes\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert {name.partition(".")[0] for name in loaded.split()} & {"OpenSSL", "argon2"} == set()


def test_a_name_that_none_can_have_is_told(bench: Bench, stack: ExitStack) -> None:
    there = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    flow = Script()
    dial(bench, flow, there, Tls("a" * 64 + ".lab", CA.certificate))
    (closed,) = bench.until(lambda: flow.of(Closed))
    assert "no server can have the name" in closed.text
