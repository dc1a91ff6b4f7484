"""The Prometheus endpoint: `GET /metrics` answers with the figures of `locum status` and what `Rates` has counted.

HTTP/1.1 as far as a scraper needs it (RFC 9112): one request a connection, GET and HEAD, no body read.
prometheus_client writes the text and is imported only where [metrics] is configured. There is no TLS and no password:
bind it to an address that only the scraper reaches.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from appliance.log import Events
from appliance.rates import Durations, Rates
from proxy.net.listening import Listener

PATIENCE = 10.0
LONGEST_REQUEST = 8192
MOST_CONNECTIONS = 32
GOOD_FOR = 1.0
"""Seconds for which an answer is given again: whoever asks more often must not cost the devices their time."""
STATES = ("online", "grace", "offline", "recovering")
RECORDS = ("waiting", "sent", "in_doubt", "rejected")

events = Events("metrics")


class Figures:
    """A collector of prometheus_client: `read` gives the object of `locum status --json`."""

    def __init__(self, read: Callable[[], dict[str, Any]], rates: Rates, now: Callable[[], float] = time.time) -> None:
        self._read = read
        self._rates = rates
        self._now = now

    def collect(self) -> Iterator[Any]:
        status = self._read()
        yield from self._of_upstreams(status["upstreams"])
        yield from self._of_the_box(status)
        yield from self._of_rates()

    def _of_upstreams(self, upstreams: list[dict[str, Any]]) -> Iterator[Any]:
        state = _gauge("upstream_state", "1 for the state that the upstream is in, else 0.", "upstream", "state")
        since = _gauge("upstream_since_timestamp_seconds", "When the upstream came into its state.", "upstream")
        proven = _gauge("upstream_proven", "1 if the upstream has ever answered authentically.", "upstream")
        records = _gauge("outbox_records", "Records on their way to the upstream, by state.", "upstream", "state")
        oldest = _gauge("outbox_oldest_seconds", "Age of the oldest record that waits, 0 if none does.", "upstream")
        for each in upstreams:
            name, outbox = each["name"], each["outbox"]
            for known in STATES:
                state.add_metric([name, known], float(each["state"] == known))
            since.add_metric([name], _seconds(each["since"]))
            proven.add_metric([name], float(each["proven"]))
            for known in RECORDS:
                records.add_metric([name, known], outbox[known])
            began = _seconds(outbox["oldest"])
            oldest.add_metric([name], max(0.0, self._now() - began) if began else 0.0)
        yield from (state, since, proven, records, oldest)

    def _of_the_box(self, status: dict[str, Any]) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily

        build = _gauge("build_info", "Always 1; the version is the label.", "version")
        build.add_metric([status["version"]], 1)
        devices = _gauge("devices", "Devices that were ever heard, by how they stand now.", "offline")
        for known, count in Counter(each["offline"] for each in status["devices"]).items():
            devices.add_metric([known], count)
        dropped = CounterMetricFamily(
            "locum_dropped", "What was dropped since the start, by reason.", labels=["reason"]
        )
        for reason, count in status["dropped"].items():
            dropped.add_metric([reason], count)
        yield from (build, devices, dropped)
        yield from self._of_snmp(status["proxied"], status["traps"])
        ledger, storage = status["ledger"], status["storage"]
        for name, text, value in (
            ("sessions", "Sessions that Locum knows to be open.", sum(each["sessions"] for each in status["devices"])),
            ("ledger_entries", "Entries in the ledger.", ledger["entries"]),
            ("ledger_jobs", "Jobs in the ledger.", ledger["jobs"]),
            ("ledger_bytes", "Size of the ledger's file.", ledger["bytes"]),
            ("storage_free_bytes", "Free space where the ledger is.", storage["free_bytes"]),
            ("storage_total_bytes", "All space where the ledger is.", storage["total_bytes"]),
            ("storage_error", "1 if the ledger cannot be written now.", float(storage["error"] is not None)),
        ):
            if value is not None:
                figure = _gauge(name, text)
                figure.add_metric([], value)
                yield figure

    def _of_snmp(self, proxied: list[dict[str, Any]], traps: dict[str, int] | None) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily

        if proxied:
            asked = CounterMetricFamily(
                "locum_snmp_asked", "Questions to the SNMP proxy, by copier.", labels=["device"]
            )
            silent = _gauge("snmp_silent", "1 if the copier behind the SNMP proxy does not answer.", "device")
            for each in proxied:
                asked.add_metric([each["device"]], each["asked"])
                silent.add_metric([each["device"]], float(each["silent"]))
            yield from (asked, silent)
        if traps is not None:
            waiting = _gauge("traps_waiting", "Traps that wait for their server.")
            waiting.add_metric([], traps["waiting"])
            kept = CounterMetricFamily("locum_traps_kept", "Traps kept since the start.")
            kept.add_metric([], traps["kept"])
            yield from (waiting, kept)

    def _of_rates(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        rates = self._rates
        logins = CounterMetricFamily(
            "locum_logins", "Logins since the start, by who decided and how.", labels=["decided_by", "outcome"]
        )
        for (decided_by, outcome), count in rates.logins.items():
            logins.add_metric([decided_by, outcome], count)
        jobs = CounterMetricFamily("locum_jobs", "Jobs stored since the start, by mode.", labels=["mode"])
        for mode, count in rates.jobs.items():
            jobs.add_metric([mode], count)
        forwarded = CounterMetricFamily(
            "locum_forwarded", "Tries to forward a record since the start.", labels=["upstream", "outcome"]
        )
        for (upstream, outcome), count in rates.forwarded.items():
            forwarded.add_metric([upstream, outcome], count)
        commits = HistogramMetricFamily(
            "locum_commit_seconds", "Seconds that whoever waited for it waited for stable storage."
        )
        commits.add_metric([], _buckets(rates.commits), rates.commits.total)
        yield from (logins, jobs, forwarded, commits)
        if rates.login_seconds:
            durations = HistogramMetricFamily(
                "locum_login_seconds", "Seconds from the decision on a login to its answer.", labels=["decided_by"]
            )
            for decided_by, took in rates.login_seconds.items():
                durations.add_metric([decided_by], _buckets(took), took.total)
            yield durations


def _gauge(name: str, text: str, *labels: str) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"locum_{name}", text, labels=labels)


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    return [("+Inf" if bound == float("inf") else str(bound), count) for bound, count in durations.cumulative()]


def _seconds(instant: str | None) -> float:
    """An instant of `locum status` as seconds since 1970, 0 for none."""
    return datetime.fromisoformat(instant).timestamp() if instant else 0.0


class Metrics:
    """`read` gives the object of `locum status --json`; it is called on the reactor's thread, at most once a second."""

    def __init__(self, reactor: Any, read: Callable[[], dict[str, Any]], rates: Rates) -> None:
        from prometheus_client import CollectorRegistry, ProcessCollector

        self.open = 0
        self._reactor = reactor
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._figures: Any = Figures(read, rates)
        self._listener: Listener | None = None
        self._text = b""
        self._written: float | None = None

    def listen(self, bind: str, port: int) -> None:
        """Answer on this address. Raises OSError if it cannot be bound."""
        self._listener = Listener(self._reactor, bind, port, self._accepted, lambda address, text: None)
        self._listener.start()

    def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def text(self) -> bytes:
        """The figures in Prometheus' text format, at most a second old."""
        from prometheus_client import generate_latest

        now = time.monotonic()
        if self._written is None or now - self._written >= GOOD_FOR:
            if self._written is None:
                self._registry.register(self._figures)
            self._text, self._written = generate_latest(self._registry), now
        return self._text

    def gone(self, number: int) -> None:
        """A connection has ended."""
        self.open -= 1
        if self._listener is not None:
            self._listener.left(number)

    def _accepted(self, number: int, connection: Any) -> None:
        if self.open >= MOST_CONNECTIONS:
            if self._listener is not None:
                self._listener.left(number)
            return
        self.open += 1
        asker = _Asker(self._reactor, self, number)
        try:
            self._reactor.adoptStreamConnection(connection.fileno(), connection.family, _One(asker))
        except OSError:
            self.gone(number)


class _One:
    """The factory of a single connection."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Protocol:
        return self._protocol


class _Asker(Protocol):
    """One connection: reads a request, answers it, closes."""

    def __init__(self, reactor: Any, metrics: Metrics, number: int) -> None:
        self._reactor = reactor
        self._metrics = metrics
        self._number = number
        self._read = b""
        self._answered = False
        self._patience: Any = None

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self._patience = self._reactor.callLater(PATIENCE, transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._patience.active():
            self._patience.cancel()
        self._metrics.gone(self._number)

    def dataReceived(self, data: bytes) -> None:
        if self._answered:
            return
        self._read += data
        if b"\r\n\r\n" in self._read or b"\n\n" in self._read:
            self._request(self._read.split(b"\n", 1)[0].rstrip(b"\r").split(b" "))
        elif len(self._read) > LONGEST_REQUEST:
            self._answer(b"431 Request Header Fields Too Large")

    def _request(self, line: list[bytes]) -> None:
        if len(line) != 3 or not line[2].startswith(b"HTTP/1."):
            self._answer(b"400 Bad Request")
        elif line[1].partition(b"?")[0] != b"/metrics":
            self._answer(b"404 Not Found", b"the figures are at /metrics\n")
        elif line[0] not in (b"GET", b"HEAD"):
            self._answer(b"405 Method Not Allowed", more=b"Allow: GET, HEAD\r\n")
        else:
            self._figures(line[0] == b"HEAD")

    def _figures(self, only_head: bool) -> None:
        try:
            text = self._metrics.text()
        except Exception as error:  # a bug in one answer must not cost the asker an answer
            events.failure("the figures met a bug; please report it", error)
            self._answer(b"500 Internal Server Error")
            return
        self._answer(b"200 OK", text, b"", b"text/plain; version=0.0.4; charset=utf-8", only_head)

    def _answer(
        self,
        status: bytes,
        body: bytes = b"",
        more: bytes = b"",
        kind: bytes = b"text/plain; charset=utf-8",
        only_head: bool = False,
    ) -> None:
        self._answered = True
        self._read = b""
        head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%bConnection: close\r\n\r\n"
        transport: Any = self.transport
        with suppress(AttributeError):
            transport.write(head % (status, kind, len(body), more) + (b"" if only_head else body))
            transport.loseWriteConnection()
