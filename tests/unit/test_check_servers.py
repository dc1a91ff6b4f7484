"""`locum check` asks servers of the dialects papercut and terminal: each way in which that fails is told apart."""

import socket
import ssl
import threading
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from appliance.check import Finding, Level, certificates, outward, servers, settings
from appliance.config import Config
from appliance.init.certificate import self_signed
from appliance.state_dir import keep_unlock_hash
from protocols.terminal.frames import Decoder, Frame
from protocols.terminal.messages import Error, Hello, Welcome, decode, encode
from tests.peers.ports import free_port
from tests.unit.configs import loaded

TOKEN = "a token that nobody guesses"
Answer = Callable[[str, tuple[Any, ...]], Any]


def papercut_answers(method: str, arguments: tuple[Any, ...]) -> Any:
    if arguments[0] != TOKEN:
        return xmlrpc.client.Fault(0, "java.lang.SecurityException: Invalid authentication token")
    answers = {"api.getTotalUsers": 1200, "api.getConfigValue": "visitor", "api.isUserExists": True}
    return answers[method]


class Handler(BaseHTTPRequestHandler):
    answer: Answer
    status = 200

    def do_POST(self) -> None:
        arguments, method = xmlrpc.client.loads(self.rfile.read(int(self.headers["Content-Length"])))
        value = type(self).answer(str(method), arguments)
        if isinstance(value, bytes):
            body = value
        elif isinstance(value, xmlrpc.client.Fault):
            body = xmlrpc.client.dumps(value).encode()
        else:
            body = xmlrpc.client.dumps((value,), methodresponse=True).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def papercut(
    answer: Answer = papercut_answers, status: int = 200, tls: tuple[Path, Path] | None = None
) -> Iterator[int]:
    """A PaperCut server on one port."""
    made = type("Made", (Handler,), {"answer": staticmethod(answer), "status": status})
    server = ThreadingHTTPServer(("127.0.0.1", 0), made)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *about: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def config_for(folder: Path, port: int, scheme: str = "http", more: str = "", token: str = TOKEN) -> Config:
    return loaded(
        folder,
        f"""[appliance]
state_dir = "state"
[[upstream]]
name = "print"
dialect = "papercut"
url = "{scheme}://127.0.0.1:{port}"
token = "{token}"
time_zone = "Europe/Berlin"
answer_timeout = "300ms"
{more}
[[listen]]
dialect = "terminal"
bind = "127.0.0.1"
port = {free_port()}
upstream = "print"
""",
    )


def first(config: Config) -> Finding:
    return next(servers.findings(config))


def test_a_papercut_server_that_takes_us_is_ok(tmp_path: Path) -> None:
    with papercut() as port:
        answered, zone, unknown = servers.findings(config_for(tmp_path, port))
    assert [each.level for each in (answered, zone, unknown)] == [Level.OK] * 3
    assert answered.what == f"upstream print, http://127.0.0.1:{port}"
    assert "takes address and token, has 1,200 users" in answered.text
    assert zone.text.startswith("is taken to be Europe/Berlin: it should be ")
    assert unknown.text == "jobs of cards that nobody has are logged against visitor"


def test_an_unknown_user_that_would_be_created_is_warned_of(tmp_path: Path) -> None:
    def nobody(method: str, arguments: tuple[Any, ...]) -> Any:
        return {"api.getTotalUsers": 3, "api.getConfigValue": "", "api.isUserExists": False}[method]

    with papercut(nobody) as port:
        *_, unknown = servers.findings(config_for(tmp_path, port))
    assert unknown.level is Level.WARNING
    assert unknown.text.startswith("unknown does not exist and would be created")


def test_a_refused_token_and_a_refused_address_are_told_apart(tmp_path: Path) -> None:
    with papercut() as port:
        (finding,) = servers.findings(config_for(tmp_path, port, token="another token of this length"))
    assert finding.level is Level.ERROR
    assert finding.text.startswith('the token is refused ("java.lang.SecurityException: Invalid authentication token")')

    def gate(method: str, arguments: tuple[Any, ...]) -> Any:
        return xmlrpc.client.Fault(0, "java.lang.RuntimeException: Connections from host 127.0.0.1\nare unauthorized")

    with papercut(gate) as port:
        text = first(config_for(tmp_path, port)).text
    assert text.startswith("this machine's address is refused (")
    assert text.endswith("add it to auth.webservices.allowed-addresses at the server")


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b"<!DOCTYPE html><html></html>", 200, "answers with a web page instead of XML-RPC; correct the path of url"),
        (b"<?xml version='1.0'?><methodResponse><params>", 200, "answers with what is no XML-RPC"),
        (b"", 200, "answers with what is no XML-RPC"),
        (b"x" * (2 << 20), 200, "answers with more than 1 MB"),
        ("many", 200, "answers api.getTotalUsers with no number"),
        (b"", 404, "answers with HTTP 404 Not Found; there is no /rpc/api/xmlrpc; correct the path of url"),
        (b"", 500, "answers with HTTP 500 Internal Server Error; look into the server's log"),
        (b"", 403, "answers with HTTP 403 Forbidden; a proxy or a gate stands before it"),
        (b"", 302, "answers with HTTP 302 Found; it leads elsewhere"),
    ],
)
def test_what_is_no_answer_is_said_for_what_it_is(tmp_path: Path, answer: Any, status: int, said: str) -> None:
    with papercut(lambda method, arguments: answer, status) as port:
        finding = first(config_for(tmp_path, port))
    assert finding.level is Level.ERROR
    assert finding.text.startswith(said)


def test_a_certificate_is_judged_as_the_service_will(tmp_path: Path) -> None:
    certificate, key = self_signed("test", "127.0.0.1")
    (tmp_path / "own.crt").write_bytes(certificate)
    (tmp_path / "own.key").write_bytes(key)
    with papercut(tls=(tmp_path / "own.crt", tmp_path / "own.key")) as port:
        stranger = first(config_for(tmp_path, port, "https"))
        trusted = first(config_for(tmp_path, port, "https", 'ca_file = "own.crt"'))
        no_tls = first(config_for(tmp_path, port))
    assert stranger.text.startswith("its certificate is not accepted (self-signed certificate")
    assert stranger.text.endswith("name the authority that signed it as ca_file")
    assert trusted.level is Level.OK, trusted
    assert no_tls.level is Level.ERROR
    with papercut() as port:
        assert first(config_for(tmp_path, port, "https")).text.startswith("does not speak TLS as Locum does")


def test_nobody_there_and_silence_are_told_apart(tmp_path: Path) -> None:
    assert first(config_for(tmp_path, free_port())).text.startswith("refuses: no server listens there")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = first(config_for(tmp_path, silent.getsockname()[1])).text
    assert text == "gave no answer in 1 s; the server is away, or a firewall is between"


# --- terminal -----------------------------------------------------------------------------------------------------


@contextmanager
def terminal_server(answer: Callable[[Hello, int], bytes], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Takes one connection after another, and gives each the answer to its HELLO."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    accepted, _ = listening.accept()
                    with suppress(OSError), accepted:
                        peer = accepted if context is None else context.wrap_socket(accepted, server_side=True)
                        decoder = Decoder()
                        decoder.receive_data(peer.recv(4096))
                        frame = decoder.next_event()
                        if isinstance(frame, Frame):
                            hello = decode(frame)
                            assert isinstance(hello, Hello)
                            peer.sendall(answer(hello, frame.sequence))
                        peer.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def terminal_config(folder: Path, port: int, tls: str = "") -> Config:
    return loaded(
        folder,
        f"""[appliance]
name = "library"
state_dir = "state"
[[upstream]]
name = "lab"
dialect = "terminal"
address = "127.0.0.1"
port = {port}
{tls}
[[listen]]
dialect = "terminal"
bind = "127.0.0.1"
port = {free_port()}
upstream = "lab"
""",
    )


def test_a_terminal_server_is_greeted_under_a_name_of_its_own(tmp_path: Path) -> None:
    heard: list[str] = []

    def welcome(hello: Hello, sequence: int) -> bytes:
        heard.append(hello.device_id)
        return encode(Welcome("lab\x1b server", 30, 0, 0), sequence)

    with terminal_server(welcome) as port:
        (finding,) = servers.findings(terminal_config(tmp_path, port))
    assert finding.level is Level.OK
    assert finding.text.startswith('"lab? server" said WELCOME in ')
    assert finding.text.endswith("in the clear")
    assert heard == ["library-check"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda hello, sequence: encode(Error(2, "no such version"), 0), 'answers with ERROR 2 ("no such version")'),
        (lambda hello, sequence: b"HTTP/1.1 400 Bad Request\r\n", "is there, but does not speak the terminal dialect"),
        (lambda hello, sequence: b"", "is there, but does not speak the terminal dialect"),
        (lambda hello, sequence: encode(hello, sequence), "answers HELLO with something else than WELCOME"),
    ],
)
def test_what_is_no_welcome_is_an_error(tmp_path: Path, answer: Callable[[Hello, int], bytes], said: str) -> None:
    with terminal_server(answer) as port:
        finding = first(terminal_config(tmp_path, port))
    assert finding.level is Level.ERROR
    assert finding.text.startswith(said)


def test_a_terminal_server_over_tls_may_ask_for_our_certificate(tmp_path: Path) -> None:
    certificate, key = self_signed("test", "127.0.0.1")
    (tmp_path / "own.crt").write_bytes(certificate)
    (tmp_path / "own.key").write_bytes(key)
    (tmp_path / "own.key").chmod(0o600)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.crt", tmp_path / "own.key")

    with terminal_server(lambda hello, sequence: encode(Welcome("lab", 30, 0, 0), sequence), context) as port:
        tls = 'tls = { ca_file = "own.crt", certificate_file = "own.crt", key_file = "own.key" }'
        assert first(terminal_config(tmp_path, port, tls)).text.endswith("over TLS")
        assert "its certificate is not accepted" in first(terminal_config(tmp_path, port, "tls = {}")).text


# --- what is judged without asking a server -----------------------------------------------------------------------


def test_education_without_a_code_is_warned_of(tmp_path: Path) -> None:
    config = config_for(tmp_path, 9191, more='[[device]]\nid = "a"\noffline = { environment = "education" }')
    config.state_dir.mkdir(mode=0o700)
    finding = next(each for each in settings.findings(config) if each.what == "unlock code")
    assert finding.level is Level.WARNING
    assert "nobody can be let in until you run: locum unlock-code set" in finding.text
    keep_unlock_hash(config.state_dir, "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA")
    assert "unlock code" in {each.what for each in settings.findings(config) if each.level is Level.OK}
    (config.state_dir / "unlock-code").chmod(0o644)
    finding = next(each for each in settings.findings(config) if each.what == "unlock code")
    assert (finding.level, "run 'chmod 600" in finding.text) == (Level.ERROR, True)


@pytest.mark.parametrize(
    ("more", "level", "said"),
    [
        ("", Level.WARNING, "all limits are off"),
        ("[offline]\nmax_pages_per_card = 100\nmax_outage_hours = 24", Level.OK, "at most 100 pages a card, 24 hours"),
        ('[[device]]\nid = "a"\noffline = { max_pages_per_card = 1 }', Level.OK, "are set for some devices only"),
    ],
)
def test_limits_are_told_in_one_line(tmp_path: Path, more: str, level: Level, said: str) -> None:
    findings = [each for each in settings.findings(config_for(tmp_path, 9191, more=more)) if said in each.text]
    assert [each.level for each in findings] == [level]


def test_what_crosses_the_network_in_the_clear_is_warned_of(tmp_path: Path) -> None:
    text = (config_for(tmp_path, 9191).path).read_text()
    config = loaded(tmp_path, text.replace("127.0.0.1", "0.0.0.0").replace("http://0.0.0.0", "http://10.0.0.5"))
    said = " ".join(each.text for each in settings.findings(config) if each.level is Level.WARNING)
    assert "the token crosses the network in the clear" in said
    assert "cards and unlock codes cross the network in the clear" in said


def test_a_pin_that_no_listener_asks_for_is_warned_of(tmp_path: Path) -> None:
    config = config_for(tmp_path, 9191, more=f'[[device]]\nid = "a"\ncertificate_sha256 = "{"0" * 64}"')
    assert [each.level for each in settings.findings(config) if each.what == "device a"] == [Level.WARNING]


def test_a_certificate_that_runs_out_is_seen_before_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    from appliance.init import certificate as maker

    levels = []
    for days in (400, 20, -1):
        monkeypatch.setattr(maker, "LIFE", timedelta(days=days, hours=1) if days > 0 else timedelta(minutes=-10))
        (tmp_path / "ca.pem").write_bytes(self_signed("test", "127.0.0.1")[0])
        (finding,) = certificates.findings(config_for(tmp_path, 9192, "https", 'ca_file = "ca.pem"'))
        levels.append(finding.level)
    assert levels == [Level.OK, Level.WARNING, Level.ERROR]


def test_what_leaves_the_box_is_tried(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        more = (
            f'[alerts]\nsyslog = ["tcp://127.0.0.1:{port}", "tcp://127.0.0.1:{free_port()}", "udp://nobody.invalid"]\n'
            f"[metrics]\nport = {port}"
        )
        findings = list(outward.findings(config_for(tmp_path, 9191, more=more), running=None))
    assert [each.level for each in findings] == [Level.OK, Level.WARNING, Level.ERROR, Level.ERROR]
    assert findings[0].text == "takes connections"
    assert findings[3].what == f"metrics 127.0.0.1:{port}"
    assert "is in use by another program" in findings[3].text
