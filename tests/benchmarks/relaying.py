"""Online: how many logins a second, and how much later each. The server is a sink that is faster than all of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tests.benchmarks.bench import Bench, one_core
from tests.benchmarks.figures import Figure
from tests.peers.load import Load, logins

LOGINS = 16_000
ROUNDS = 3


def rate(bench: Bench) -> Sequence[Figure]:
    """Relayed logins, 64 outstanding: the median of three rounds."""
    sink = bench.sink()
    told: dict[str, float] = {}
    for name, proxy in bench.proxies(sink):
        rounds = []
        for _ in range(ROUNDS):
            outcome = Load(logins(LOGINS, proxy.secret), proxy.auth_port, proxy.secret, within=20).run()
            if outcome.codes[2] != outcome.answered or outcome.forged:
                raise RuntimeError(f"{name}: {outcome.codes}, {outcome.forged} forged")
            rounds.append(outcome.rate)
        told[name] = statistics.median(rounds)
    return [
        Figure(
            "relayed logins, 64 outstanding",
            "/s",
            told["locum"],
            told.get("pyrad", 8000.0),
            freeradius=told.get("freeradius", float("nan")),
            pyrad=told.get("pyrad", float("nan")),
            note="aim: 8,000/s",
        )
    ]


def latency(bench: Bench) -> Sequence[Figure]:
    """Added latency of a relayed login, one outstanding, everything on one core."""
    sink = bench.sink()
    count = 4000
    with one_core(sink.process.pid):
        direct = Load(logins(count, sink.secret), sink.auth_port, sink.secret, outstanding=1, within=20).run()
    added: dict[str, tuple[float, float]] = {}
    for name, proxy in bench.proxies(sink):
        with one_core(sink.process.pid, proxy.process.pid):
            Load(logins(500, proxy.secret), proxy.auth_port, proxy.secret, outstanding=1, within=20).run()
            outcome = Load(logins(count, proxy.secret), proxy.auth_port, proxy.secret, outstanding=1, within=20).run()
        added[name] = tuple(
            1e6 * (outcome.percentile(share) - direct.percentile(share))  # type: ignore[assignment]
            for share in (0.5, 0.99)
        )
    nothing = (float("nan"), float("nan"))
    return [
        Figure(
            f"added latency of a login, {name}",
            "us",
            added["locum"][at],
            goal,
            lower=True,
            freeradius=added.get("freeradius", nothing)[at],
            pyrad=added.get("pyrad", nothing)[at],
            note="one outstanding, one core",
        )
        for at, (name, goal) in enumerate((("p50", 150.0), ("p99", 500.0)))
    ]
