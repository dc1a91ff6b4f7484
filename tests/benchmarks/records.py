"""Accounting: kept on stable storage, drained, and what draining costs others. The server is a sink that counts."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from tests.benchmarks.bench import Bench, fill, take_away, wait_for
from tests.benchmarks.figures import Figure
from tests.peers.copier import Copier
from tests.peers.load import Load, logins, records
from tests.peers.locum import Locum
from tests.peers.proxies import FreeRadiusProxy
from tests.peers.sink import Sink

MANY = 100_000


def _until_buffering(proxy: FreeRadiusProxy) -> None:
    """Wait until FreeRADIUS has seen that its server is dead, and buffers."""
    copier = Copier(proxy.auth_port, proxy.acct_port, proxy.secret)
    wait_for(
        lambda: copier.job("warm-up", f"{time.monotonic_ns()}", wait=1.0, resend_every=0), 30, "FreeRADIUS buffers"
    )
    copier.close()


def keeping(bench: Bench) -> Sequence[Figure]:
    """Accounting kept while the server is away, 64 outstanding."""
    count = 30_000
    sink = bench.sink()
    locum = bench.locum(sink)
    take_away(sink, locum)
    mine = fill(locum, count)
    locum.stop()
    theirs = math.nan
    if bench.has_freeradius:
        proxy = bench.freeradius_proxy(sink, cleanup_delay=1)
        _until_buffering(proxy)
        theirs = Load(records(count, proxy.secret), proxy.acct_port, proxy.secret, within=20).run().rate
        proxy.stop()
    return [
        Figure(
            "accounting kept, 64 outstanding",
            "/s",
            mine,
            10_000,
            freeradius=theirs,
            note="Locum: on stable storage; FreeRADIUS: in the page cache",
        )
    ]


def _drain(bench: Bench, round_trip: float, count: int) -> tuple[float, dict[str, int]]:
    sink = bench.sink()
    locum = bench.locum(sink)
    take_away(sink, locum)
    fill(locum, count)
    again = bench.sink(ports=(sink.auth_port, sink.acct_port), delay=round_trip)
    wait_for(lambda: again.book()["distinct"] >= count, 60, "all is drained")
    book = again.book()
    locum.wait_until_drained(30)
    locum.stop()
    again.stop()
    return count / (book["last"] - book["first"]), book


def _freeradius_drain(bench: Bench) -> tuple[float, float]:
    """Records a second that FreeRADIUS's detail reader gets rid of, at 0 and at 50 ms, over four seconds each."""
    if not bench.has_freeradius:
        return math.nan, math.nan
    sink = bench.sink()
    proxy = bench.freeradius_proxy(sink, cleanup_delay=1)
    sink.stop()
    buffered = 10_000
    _until_buffering(proxy)
    Load(records(buffered, proxy.secret), proxy.acct_port, proxy.secret, within=20).run()
    again = bench.sink(ports=(sink.auth_port, sink.acct_port), delay=0.05)
    wait_for(lambda: again.book()["distinct"] >= 10, 60, "FreeRADIUS drains")

    def rate() -> float:
        began, before = time.monotonic(), again.book()["distinct"]
        wait_for(lambda: again.book()["distinct"] >= buffered or time.monotonic() > began + 4, 6, "4 s")
        return float(again.book()["distinct"] - before) / (time.monotonic() - began)

    far = rate()
    again.delay_answers(0.0)
    near = rate()
    proxy.stop()
    again.stop()
    return near, far


def draining(bench: Bench) -> Sequence[Figure]:
    """300 sessions drained, without and with 50 ms of round trip, in order per session."""
    figures = []
    peer = _freeradius_drain(bench)
    for round_trip, goal, theirs in ((0.0, 5000.0, peer[0]), (0.05, 4000.0, peer[1])):
        mine, book = _drain(bench, round_trip, 20_000)
        figures.append(
            Figure(
                f"draining 300 sessions, {round_trip * 1000:.0f} ms round trip",
                "/s",
                mine,
                goal,
                freeradius=theirs,
                note=f"copies {book['repeats']}, out of order {book['disorder']}",
            )
        )
    return figures


def _waiting(bench: Bench, sink: Sink) -> Locum:
    locum = bench.locum(sink)
    take_away(sink, locum)
    fill(locum, MANY, sessions=3000)
    return locum


def crowd(bench: Bench) -> Sequence[Figure]:
    """100,000 records waiting: memory; and logins while they drain."""
    sink = bench.sink()
    locum = _waiting(bench, sink)
    memory = locum.memory() / 1e6
    locum.kill()
    locum.start()
    after_restart = locum.memory() / 1e6
    again = bench.sink(ports=(sink.auth_port, sink.acct_port))
    wait_for(lambda: again.book()["distinct"] > 500, 20, "it drains")
    load = Load(logins(20_000, locum.secret), locum.auth_port, locum.secret, outstanding=4, rate=200, within=60).start()
    wait_for(lambda: again.book()["distinct"] >= MANY, 90, "all is drained")
    load.stop()
    outcome = load.join()
    peak = locum.memory() / 1e6
    return [
        Figure(
            "login p99 while 100,000 records drain",
            "ms",
            1e3 * outcome.percentile(0.99),
            25.0,
            lower=True,
            note=f"{outcome.answered} logins, {outcome.datagrams - outcome.sent} resent, p50 "
            f"{1e3 * outcome.percentile(0.5):.1f} ms",
        ),
        Figure(
            "memory with 100,000 records waiting",
            "MB",
            max(memory, after_restart),
            90.0,
            lower=True,
            note=f"after a restart {after_restart:.0f} MB, drained {peak:.0f} MB",
        ),
    ]
