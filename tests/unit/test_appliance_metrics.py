"""The Prometheus endpoint, asked over real sockets and read by Prometheus' own parser."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.epollreactor import EPollReactor

from appliance import metrics
from appliance.metrics import Figures, Metrics
from appliance.rates import BOUNDS, Durations, Rates
from storage.answers import Repeat, Stored
from storage.records import NOBODY, AppLogLine, Counts, Delivery, Keepable, Login, Mode, OutboxState, Record

STATUS: dict[str, Any] = {
    "name": "library",
    "version": "0.2.0",
    "upstreams": [
        {
            "name": "hq",
            "state": "offline",
            "proven": True,
            "since": "2026-11-22T10:15:03.120Z",
            "outbox": {"waiting": 120, "sent": 1, "in_doubt": 2, "rejected": 3, "oldest": "2026-11-22T10:15:10.000Z"},
        },
        {
            "name": 'lab "b"',
            "state": "online",
            "proven": False,
            "since": None,
            "outbox": {"waiting": 0, "sent": 0, "in_doubt": 0, "rejected": 0, "oldest": None},
        },
    ],
    "devices": [
        {"id": "c1", "upstream": "hq", "offline": "offline", "drill": False, "sessions": 1},
        {"id": "c2", "upstream": "hq", "offline": "offline", "drill": False, "sessions": 2},
    ],
    "ledger": {"entries": 48213, "jobs": 20111, "head": "sha256:c9", "bytes": 61203968},
    "storage": {"error": None, "free_bytes": 84230365184, "total_bytes": None, "level": "enough"},
    "proxied": [{"device": "OLD-1", "asked": 912, "silent": True}],
    "traps": {"waiting": 3, "kept": 17},
    "dropped": {"unknown-client": 3},
}
OLDEST_AT = 1_795_342_510.0
JOB = Counts("copy", 3)


class Bench:
    """An endpoint on a reactor that turns in the test's thread while a peer asks in another."""

    def __init__(self) -> None:
        self.reactor: Any = EPollReactor()
        self.asked = 0
        self.rates = Rates()
        self.metrics = Metrics(self.reactor, self._read, self.rates)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.metrics.listen("127.0.0.1", self.port)

    def _read(self) -> dict[str, Any]:
        self.asked += 1
        return STATUS

    def until(self, condition: Callable[[], Any], within: float = 5.0) -> Any:
        deadline = time.monotonic() + within
        while not (answer := condition()):
            assert time.monotonic() < deadline, "it never came"
            self.reactor.iterate(0.01)
        return answer

    def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Status line and body."""
        came: list[bytes] = []

        def work() -> None:
            with socket.create_connection(("127.0.0.1", self.port), 3) as connection:
                connection.sendall(request)
                whole = b""
                while piece := connection.recv(65536):
                    whole += piece
                came.append(whole)

        threading.Thread(target=work, daemon=True).start()
        head, _, body = self.until(lambda: came)[0].partition(b"\r\n\r\n")
        assert b"\r\nContent-Length: " in head
        return head.split(b"\r\n")[0], body

    def figures(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        status, body = self.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status == b"HTTP/1.1 200 OK"
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.metrics.stop()
    made.reactor.removeAll()


def record(mode: Mode = Mode.OFFLINE, counts: Counts | None = JOB) -> Record:
    return Record(1, "radius", "hq", "c1", "10.0.0.1", "stop", "s", mode, "k", NOBODY, counts=counts)


def test_the_figures_of_status_can_be_scraped(bench: Bench) -> None:
    found = bench.figures()
    assert found["locum_build_info", (("version", "0.2.0"),)] == 1
    states = {
        key[1][0][1]: value
        for key, value in found.items()
        if key[0] == "locum_upstream_state" and ("upstream", "hq") in key[1]
    }
    assert states == {"online": 0, "grace": 0, "offline": 1, "recovering": 0}
    assert found["locum_upstream_proven", (("upstream", 'lab "b"'),)] == 0
    assert found["locum_upstream_since_timestamp_seconds", (("upstream", "hq"),)] == 1795342503.12
    assert found["locum_outbox_records", (("state", "in_doubt"), ("upstream", "hq"))] == 2
    assert found["locum_outbox_oldest_seconds", (("upstream", 'lab "b"'),)] == 0
    assert found["locum_devices", (("offline", "offline"),)] == 2
    assert found["locum_sessions", ()] == 3
    assert found["locum_ledger_entries", ()] == 48213
    assert found["locum_storage_free_bytes", ()] == 84230365184
    assert ("locum_storage_total_bytes", ()) not in found
    assert found["locum_storage_error", ()] == 0
    assert found["locum_dropped_total", (("reason", "unknown-client"),)] == 3
    old = (("device", "OLD-1"),)
    assert (found["locum_snmp_asked_total", old], found["locum_snmp_silent", old]) == (912, 1)
    assert (found["locum_traps_waiting", ()], found["locum_traps_kept_total", ()]) == (3, 17)
    assert found["process_resident_memory_bytes", ()] > 1e6


def test_the_oldest_record_is_told_by_its_age() -> None:
    figures = {each.name: each for each in Figures(lambda: STATUS, Rates(), lambda: OLDEST_AT + 600).collect()}
    ages = {sample.labels["upstream"]: sample.value for sample in figures["locum_outbox_oldest_seconds"].samples}
    assert ages == {"hq": 600, 'lab "b"': 0}


def test_what_is_stored_is_counted_once_and_by_kind(bench: Bench) -> None:
    stored, repeat = Stored(1, "id"), Repeat(1, "id")
    login = Login(1, "radius", "hq", "c1", "10.0.0.1", "card", "granted", "locum", "", Mode.OFFLINE, NOBODY)
    changes: list[tuple[Keepable, Any]] = [
        (record(), stored),
        (record(), repeat),
        (record(counts=None), stored),
        (record(Mode.ONLINE), stored),
        (login, stored),
        (Delivery(1, 1, "hq", "delivered", None, 1), stored),
        (Delivery(1, 2, "hq", "refused", OutboxState.REJECTED, 1), stored),
        (AppLogLine(1, "info", "x"), stored),
    ]
    for change, outcome in changes:
        bench.rates.observe(change, outcome, 0.0015)
    bench.rates.observe(AppLogLine(1, "info", "x"), stored, None)
    found = bench.figures()
    assert {key: value for key, value in found.items() if key[0] in ("locum_jobs_total", "locum_forwarded_total")} == {
        ("locum_jobs_total", (("mode", "offline"),)): 1,
        ("locum_jobs_total", (("mode", "online"),)): 1,
        ("locum_forwarded_total", (("outcome", "delivered"), ("upstream", "hq"))): 1,
        ("locum_forwarded_total", (("outcome", "refused"), ("upstream", "hq"))): 1,
    }
    assert found["locum_logins_total", (("decided_by", "locum"), ("outcome", "granted"))] == 1
    assert found["locum_commit_seconds_bucket", (("le", "0.001"),)] == 0
    assert found["locum_commit_seconds_bucket", (("le", "0.002"),)] == 8
    assert found["locum_commit_seconds_count", ()] == 8
    assert found["locum_commit_seconds_sum", ()] == pytest.approx(0.012)
    assert found["locum_login_seconds_count", (("decided_by", "locum"),)] == 1


def test_a_login_that_waited_for_no_storage_has_no_seconds(bench: Bench) -> None:
    bench.rates.observe_login(None, "server", "granted")
    bench.rates.observe_login(0.004, "locum", "granted")
    found = bench.figures()
    assert found["locum_login_seconds_bucket", (("decided_by", "locum"), ("le", "0.005"))] == 1
    assert ("locum_login_seconds_count", (("decided_by", "server"),)) not in found


def test_a_duration_on_a_bound_belongs_below_it_and_beyond_all_is_infinite() -> None:
    durations = Durations()
    durations.add(BOUNDS[0])
    durations.add(99)
    rows = durations.cumulative()
    assert rows[0] == (BOUNDS[0], 1)
    assert rows[-1] == (float("inf"), 2)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found"),
        (b"GET /metrics/x HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed"),
        (b"hello\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\n\n", b"HTTP/1.1 400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 9000, b"HTTP/1.1 431 Request Header Fields Too Large"),
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK"),
    ],
)
def test_what_else_is_asked_gets_its_status(bench: Bench, request_: bytes, status: bytes) -> None:
    assert bench.ask(request_)[0] == status


def test_head_gets_no_body(bench: Bench) -> None:
    assert bench.ask(b"HEAD /metrics HTTP/1.1\r\n\r\n") == (b"HTTP/1.1 200 OK", b"")


def test_who_says_nothing_is_closed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PATIENCE", 0.1)
    with socket.create_connection(("127.0.0.1", bench.port), 3) as slow:
        slow.setblocking(False)

        def ended() -> bool:
            try:
                return slow.recv(1) == b""
            except ConnectionResetError:
                return True
            except BlockingIOError:
                return False

        bench.until(ended)
    bench.until(lambda: bench.metrics.open == 0)


def test_many_who_say_nothing_do_not_pile_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_CONNECTIONS", 3)
    many = [socket.create_connection(("127.0.0.1", bench.port), 3) for _ in range(6)]
    bench.until(lambda: bench.metrics.open == 3)
    for each in many:
        each.close()
    bench.until(lambda: bench.metrics.open == 0)
    assert bench.ask(b"GET /metrics HTTP/1.1\r\n\r\n")[0] == b"HTTP/1.1 200 OK"


def test_the_ledger_is_read_once_a_second_at_most(bench: Bench) -> None:
    for _ in range(5):
        bench.figures()
    assert bench.asked == 1


def test_figures_that_cannot_be_read_are_an_error_for_the_asker_only(bench: Bench) -> None:
    def broken() -> dict[str, Any]:
        raise LookupError("a bug")

    bench.metrics._figures._read = broken
    assert bench.ask(b"GET /metrics HTTP/1.1\r\n\r\n")[0] == b"HTTP/1.1 500 Internal Server Error"
    bench.metrics._figures._read = lambda: STATUS
    assert bench.ask(b"GET /metrics HTTP/1.1\r\n\r\n")[0] == b"HTTP/1.1 200 OK"


def test_prometheus_client_is_loaded_only_where_metrics_are_wanted() -> None:
    program = "import sys, appliance.metrics, appliance.alerts, appliance.rates\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert {name.partition(".")[0] for name in loaded.split()} & {"prometheus_client", "OpenSSL"} == set()
