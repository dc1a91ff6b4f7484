"""Draining the outbox into the PaperCut double over TLS with a private authority, near and far."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from tests.benchmarks.bench import Bench, wait_for, without_server
from tests.benchmarks.figures import Figure
from tests.peers.far import Far
from tests.peers.papercut_load import PapercutLoad
from tests.peers.simulated import TOKEN, SimulatedServer

RECORDS = 3_000
CARDS = 200
CONNECTIONS = 200
WINDOW = 32
FAR = 0.05


def _booked(double: SimulatedServer) -> int:
    return int(double.query("SELECT count(*) FROM jobs")[0][0])


def _calls(double: SimulatedServer) -> int:
    """How many calls it has answered since its last start; it says so when it ends."""
    found = re.findall(r"([0-9]+) calls", double.log.read_text())
    return int(found[-1]) if found else 0


def _bare(double: SimulatedServer, port: int) -> float:
    """Jobs a second that a client gets in over the same window and keeps nothing of."""
    client = PapercutLoad(port, str(double.certificate), WINDOW, TOKEN)
    try:
        return client.jobs(RECORDS)
    finally:
        client.stop()


def _drain(bench: Bench, round_trip: float) -> tuple[float, float, str]:
    """Records a second, from the first in the server's book to the last; a bare client's; what there is to say."""
    double = bench.double(CARDS)
    far = bench.ending(Far(double.tls_port, round_trip)) if round_trip else None
    shop = bench.printshop(double, port=far.port if far else None)
    without_server(double, shop)
    load = bench.terminals(shop.port, CONNECTIONS)
    load.logins(CONNECTIONS, cards=CARDS)
    done = load.jobs(RECORDS, outstanding=4)
    if set(done.statuses) != {0}:
        raise RuntimeError(f"not every job was stored: {done.statuses}")
    load.stop()
    used = shop.cpu_seconds()
    double.start()
    wait_for(lambda: _booked(double) >= RECORDS, 120, "all is in the server's book")
    used = shop.cpu_seconds() - used
    shop.wait_until_drained(30)
    times = double.query("SELECT min(received_at), max(received_at) FROM jobs")[0]
    first, last = (datetime.fromisoformat(each) for each in times)
    people = double.query("SELECT count(DISTINCT user) FROM jobs WHERE user LIKE 'user%'")[0][0]
    twice = double.query("SELECT count(*) FROM jobs_twice")[0][0]
    shop.stop()
    bare = _bare(double, far.port if far else double.tls_port)
    double.stop()
    more = _calls(double) - 2 * RECORDS
    note = f"{people} people, {twice} twice, {more} other calls; CPU a record {1e6 * used / RECORDS:.0f} us"
    return RECORDS / (last - first).total_seconds(), bare, note


def draining(bench: Bench) -> Sequence[Figure]:
    """3,000 records of 200 cards, at no and at 50 ms round trip."""
    figures = []
    for round_trip, goal in ((0.0, 500.0), (FAR, 0.8 * WINDOW / FAR)):
        mine, bare, note = _drain(bench, round_trip)
        figures.append(
            Figure(
                f"draining into PaperCut over TLS, {round_trip * 1000:.0f} ms",
                "/s",
                mine,
                goal,
                beside=bare,
                beside_is=f"bare client, {WINDOW} at once",
                note=note,
            )
        )
        if round_trip:
            # By arithmetic a window of 32 allows 640/s, if server and network cost nothing.
            share = f"the same, of what a window of {WINDOW} allows here"
            figures.append(Figure(share, "%", 100 * mine / bare, 80.0, note=f"by arithmetic {WINDOW / FAR:.0f}/s"))
    return figures
