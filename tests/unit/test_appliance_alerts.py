"""Alarms by syslog: the receivers are sockets of the test, and what they get is read as the RFCs write it."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.epollreactor import EPollReactor

from appliance import alerts
from appliance.alerts import Alerts, message
from appliance.config.values import SyslogTarget
from proxy.commands import Tell
from storage.records import Personal

SYSLOG = re.compile(
    rb"<(?P<pri>\d{1,3})>1 (?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) "
    rb"(?P<proc>[!-~]{1,128}) (?P<id>[!-~]{1,32}) \[(?P<sd>[!#-<>-\\^-~]{1,32})"
    rb'(?P<params>(?: [!#-<>-\\^-~]{1,32}="(?:[^"\\\]]|\\["\\\]])*")*)\] (?P<text>.*)',
    re.DOTALL,
)
PARAM = re.compile(r' ([^=]+)="((?:[^"\\\]]|\\["\\\]])*)"')


@dataclass
class Read:
    """A message as RFC 5424 section 6 has it."""

    priority: int
    at: str
    host: str
    app: str
    process: str
    kind: str
    sd: str
    text: str
    context: dict[str, str] = field(default_factory=dict)


def read(line: bytes) -> Read:
    found = SYSLOG.fullmatch(line)
    assert found is not None, line
    params = PARAM.findall(found["params"].decode())
    context = {key: re.sub(r'\\(["\\\]])', r"\1", value) for key, value in params}
    plain = [found[name].decode() for name in ("at", "host", "app", "proc", "id", "sd", "text")]
    return Read(int(found["pri"]), *plain, context)


def frames(stream: bytes) -> list[bytes]:
    """Octet counting, RFC 6587 section 3.4.1."""
    found = []
    while stream:
        length, _, rest = stream.partition(b" ")
        assert re.fullmatch(rb"[1-9]\d*", length), stream[:20]
        if len(rest) < int(length):
            break
        found.append(rest[: int(length)])
        stream = rest[int(length) :]
    return found


class Turned:
    """A real reactor that the test turns."""

    def __init__(self) -> None:
        self.reactor: Any = EPollReactor()

    def until(self, condition: Callable[[], Any], within: float = 5.0) -> Any:
        deadline = time.monotonic() + within
        while not (answer := condition()):
            assert time.monotonic() < deadline, "it never came"
            self.reactor.iterate(0.01)
        return answer


@pytest.fixture
def turned(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> Turned:
    monkeypatch.setattr(alerts, "EVERY", 0.02)
    monkeypatch.setattr(alerts, "FIRST_PAUSE", 0.02)
    made = Turned()

    def end() -> None:
        made.reactor.iterate(0.02)
        made.reactor.removeAll()
        if made.reactor.threadpool is not None:
            made.reactor.threadpool.stop()

    stack.callback(end)
    return made


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def sends(turned: Turned, stack: ExitStack, kind: Any, port: int, host: str = "127.0.0.1") -> Alerts:
    made = Alerts(turned.reactor, [SyslogTarget(kind, host, port)], "library")
    stack.callback(made.stop)
    return made


def udp(stack: ExitStack) -> tuple[socket.socket, int]:
    port = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    port.bind(("127.0.0.1", 0))
    port.setblocking(False)
    return port, port.getsockname()[1]


class Server:
    """A syslog server over TCP, without blocking."""

    def __init__(self, stack: ExitStack, port: int = 0) -> None:
        self._stack = stack
        self.listening = stack.enter_context(socket.create_server(("127.0.0.1", port)))
        self.listening.setblocking(False)
        self.port = self.listening.getsockname()[1]
        self.taken: list[socket.socket] = []
        self.streams: list[bytes] = []

    def look(self) -> list[bytes]:
        """All messages that came, over all connections."""
        try:
            connection, _ = self.listening.accept()
            connection.setblocking(False)
            self.taken.append(self._stack.enter_context(connection))
            self.streams.append(b"")
        except BlockingIOError:
            pass
        for number, connection in enumerate(self.taken):
            try:
                self.streams[number] += connection.recv(1 << 16) if connection.fileno() >= 0 else b""
            except BlockingIOError:
                continue
        return [each for stream in self.streams for each in frames(stream)]


OUTAGE = Tell("error", "hq is offline", {"upstream": "hq", "cause": 'no answer in 3 s [a "cause"] \\'}, alarm="outage")


def test_a_message_has_every_field_of_the_standard() -> None:
    said = read(message(OUTAGE, "library", "box.example", 42, 1_795_000_000.1234))
    assert said == Read(
        16 * 8 + 3,
        "2026-11-18T11:06:40.123Z",
        "box.example",
        "locum",
        "42",
        "outage",
        "locum@32473",
        "hq is offline",
        {"appliance": "library", "upstream": "hq", "cause": 'no answer in 3 s [a "cause"] \\'},
    )


@pytest.mark.parametrize(("level", "severity"), [("error", 3), ("warning", 4), ("info", 6), ("odd", 5)])
def test_the_level_is_the_severity_of_facility_local0(level: str, severity: int) -> None:
    assert read(message(Tell(level, "x", alarm="unlock"), "a", "h", 1, 0)).priority == 128 + severity


def test_what_is_personal_never_leaves() -> None:
    tell = Tell(
        "warning", "refused", {"device": "c1"}, personal=Personal(card="0A1B2C3D", user="mary"), alarm="refused"
    )
    line = message(tell, "library", "h", 1, 0)
    assert b"0A1B2C3D" not in line
    assert b"mary" not in line


@given(st.text(), st.dictionaries(st.text(), st.text() | st.integers(), max_size=60), st.text(), st.text(), st.text())
def test_any_words_make_a_message_that_can_be_read(
    text: str, context: dict[str, str | int], appliance: str, host: str, kind: str
) -> None:
    line = message(Tell("info", text, context, alarm=kind), appliance, host, 1, 0)
    assert len(line) <= 2048
    assert not re.search(rb"[\x00-\x1f\x7f]", line)
    read(line)


def test_a_long_text_is_cut_between_characters() -> None:
    line = message(Tell("info", "ü" * 5000, alarm="disk"), "a", "h", 1, 0)
    assert 2047 <= len(line) <= 2048
    assert set(read(line).text) == {"ü"}


def test_over_udp_each_alarm_is_a_datagram(turned: Turned, stack: ExitStack) -> None:
    port, number = udp(stack)
    alarms = sends(turned, stack, "udp", number)
    alarms.send(OUTAGE)
    alarms.send(Tell("info", "hq is back", alarm="recovery"))
    assert [read(port.recv(4096)).kind for _ in range(2)] == ["outage", "recovery"]
    assert alarms.dropped == 0


def test_over_tcp_messages_are_counted_and_share_a_connection(turned: Turned, stack: ExitStack) -> None:
    server = Server(stack)
    alarms = sends(turned, stack, "tcp", server.port)
    for text in ("one", "two\nlines", "drei: ü"):
        alarms.send(Tell("warning", text, alarm="unproven"))
    said = turned.until(lambda: len(found := server.look()) == 3 and found)
    assert [read(line).text for line in said] == ["one", "two\N{REPLACEMENT CHARACTER}lines", "drei: ü"]
    assert len(server.taken) == 1


def test_what_waits_for_a_server_that_is_away_is_sent_when_it_is_back(turned: Turned, stack: ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        number = probe.getsockname()[1]
    alarms = sends(turned, stack, "tcp", number)
    alarms.send(OUTAGE)
    turned.until(lambda: alarms._targets[0]._ill)
    alarms.send(Tell("info", "hq is back", alarm="recovery"))
    server = Server(stack, number)
    said = turned.until(lambda: len(found := server.look()) == 2 and found)
    assert [read(line).kind for line in said] == ["outage", "recovery"]
    turned.until(lambda: not alarms._targets[0]._ill)


def test_a_lost_connection_is_made_anew_and_what_it_may_have_lost_is_sent_again(
    turned: Turned, stack: ExitStack
) -> None:
    server = Server(stack)
    alarms = sends(turned, stack, "tcp", server.port)
    alarms.send(Tell("info", "first", alarm="unlock"))
    turned.until(lambda: server.look())
    turned.until(lambda: not alarms._targets[0]._unconfirmed)  # type: ignore[attr-defined]
    server.taken[0].close()
    alarms.send(Tell("info", "second", alarm="unlock"))
    said = turned.until(lambda: len(found := server.look()) == 2 and found)
    assert [read(line).text for line in said] == ["first", "second"]
    assert len(server.taken) == 2


def test_a_server_that_reads_nothing_costs_the_oldest_beyond_a_thousand(turned: Turned, stack: ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        number = probe.getsockname()[1]
    alarms = sends(turned, stack, "tcp", number)
    for each in range(1005):
        alarms.send(Tell("info", f"alarm {each}", alarm="disk"))
    assert alarms.dropped == 5
    server = Server(stack, number)
    said = turned.until(lambda: len(found := server.look()) == 1000 and found)
    assert [read(line).text for line in (said[0], said[-1])] == ["alarm 5", "alarm 1004"]


def test_a_name_is_resolved_off_the_reactors_thread_and_alarms_wait_for_it(turned: Turned, stack: ExitStack) -> None:
    port, number = udp(stack)
    alarms = sends(turned, stack, "udp", number, "localhost")
    turned.reactor.getThreadPool().start()
    alarms._targets[0].addresses = []
    alarms.send(OUTAGE)
    assert len(alarms._targets[0]._waiting) == 1

    def came() -> bytes:
        alarms._targets[0].addresses = [each for each in alarms._targets[0].addresses if "." in each]
        try:
            return port.recv(4096)
        except BlockingIOError:
            return b""

    assert read(turned.until(came)).kind == "outage"


def test_no_target_no_timer(turned: Turned) -> None:
    alarms = Alerts(turned.reactor, [], "library")
    alarms.send(OUTAGE)
    alarms.stop()
    assert alarms.dropped == 0


def test_a_bug_in_an_alarm_is_counted_and_goes_no_further(turned: Turned, stack: ExitStack) -> None:
    alarms = sends(turned, stack, "udp", 9)
    alarms.send(Tell("info", None, alarm="disk"))  # type: ignore[arg-type]
    assert alarms.dropped == 1
