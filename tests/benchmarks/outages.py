"""How soon people are let in when the server dies, and how soon the server decides again when it is back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure
from tests.peers.copier import Copier

ROUNDS = 3
GIVE_UP = 12.0
CARDS = {"0A1B2C3D": "the server's word"}
AGGRESSIVE = {"answer_timeout": "1s"}


def _first_accept(copier: Copier, within: float, *, same_packet: bool) -> tuple[float, int]:
    """Seconds until an Accept, and Rejects on the way. A client that does not resend asks anew after 5 s."""
    began, rejects = time.monotonic(), 0
    while (left := began + within - time.monotonic()) > 0:
        answer = copier.swipe(
            "0A1B2C3D", wait=left if same_packet else min(left, 5.0), resend_every=1.0 if same_packet else None
        )
        if answer is not None and answer.kind == "accept":
            return time.monotonic() - began, rejects
        rejects += answer is not None
    return math.inf, rejects


def _measure(
    bench: Bench, make: Callable[[Any], Any], cut: str, *, same_packet: bool, rounds: int
) -> tuple[float, int]:
    """The worst of some rounds, and all Rejects."""
    server = bench.server(cards=CARDS)
    worst, rejects = 0.0, 0
    for _ in range(rounds):
        proxy = make(server)
        copier = Copier(proxy.auth_port, proxy.acct_port, proxy.secret)
        if copier.swipe("0A1B2C3D") is None:
            raise RuntimeError("no answer while the server is up")
        if cut == "kill":
            server.kill()
        else:
            server.black_hole()
        seconds, refused = _first_accept(copier, GIVE_UP, same_packet=same_packet)
        worst, rejects = max(worst, seconds), rejects + refused
        copier.close()
        proxy.stop()
        if cut == "kill":
            server.start()
        else:
            server.resume()
    server.stop()
    return worst, rejects


def first_accept(bench: Bench) -> Sequence[Figure]:
    """First offline Accept with `delay = 0`, `answer_timeout = 1s`; FreeRADIUS with its timers at their least."""
    if not bench.has_freeradius:
        return []
    figures, rejected = [], 0
    cases = (
        ("kill -9", "kill", False),
        ("kill -9, same packet each second", "kill", True),
        ("black hole", "hole", False),
        ("black hole, same packet each second", "hole", True),
    )
    for name, cut, same in cases:
        mine, rejects = _measure(
            bench, lambda server: bench.locum(server, upstream=AGGRESSIVE), cut, same_packet=same, rounds=ROUNDS
        )
        theirs, _ = _measure(
            bench, lambda server: bench.freeradius_proxy(server, eager=True), cut, same_packet=same, rounds=1
        )
        rejected += rejects
        figures.append(
            Figure(
                f"first offline Accept: {name}",
                "s",
                mine,
                1.5,
                lower=True,
                freeradius=theirs,
                note=f"worst of {ROUNDS}; given up after {GIVE_UP:g} s",
            )
        )
    return [*figures, Figure("Rejects on the way", "", rejected, 1, lower=True)]


def _until_relayed(copier: Copier, within: float) -> float:
    began = time.monotonic()
    while time.monotonic() - began < within:
        answer = copier.swipe("0A1B2C3D", wait=2.0)
        if answer is not None and answer.words == CARDS["0A1B2C3D"]:
            return time.monotonic() - began
    return math.inf


def back(bench: Bench) -> Sequence[Figure]:
    """From the server's return to the first login that it decides again."""
    if not bench.has_freeradius:
        return []
    server = bench.server(cards=CARDS)
    times: dict[str, float] = {}
    for name, make in (("locum", lambda: bench.locum(server)), ("freeradius", lambda: bench.freeradius_proxy(server))):
        proxy: Any = make()
        copier = Copier(proxy.auth_port, proxy.acct_port, proxy.secret)
        worst = 0.0
        for _ in range(ROUNDS if name == "locum" else 1):
            server.kill()
            seconds, _ = _first_accept(copier, GIVE_UP, same_packet=False)
            server.start()
            worst = max(worst, _until_relayed(copier, 25.0) if seconds < GIVE_UP else math.nan)
        times[name] = worst
        copier.close()
        proxy.stop()
    return [
        Figure(
            "the next login is relayed after the server's return",
            "s",
            times["locum"],
            3.0,
            lower=True,
            freeradius=times["freeradius"],
            note=f"worst of {ROUNDS}",
        )
    ]
