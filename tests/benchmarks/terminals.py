"""Terminals: jobs and logins while the server is away, and what Locum adds to a relayed request beside HAProxy."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from storage.ledger import Ledger
from storage.records import Counts, Login, Mode, Personal, Record
from tests.benchmarks.bench import Bench, one_core, without_server
from tests.benchmarks.figures import Figure
from tests.peers.haproxy import HaProxy
from tests.peers.skips import program
from tests.peers.terminal import GRANTED, STORED, frame, job
from tests.peers.terminal_echo import EchoServer
from tests.peers.terminal_load import Answered, TerminalLoad

CONNECTIONS = 500
CARDS = 200
JOBS = 40_000
LOGINS = 2_000
LOGINS_A_SECOND = 200
RELAYED = 3_000
ROUNDS = 3


def _record(at: int, number: int) -> Record:
    """What Locum makes of a job of `TerminalLoad`."""
    device, card = f"alone-{number % CONNECTIONS:04d}", f"{0xCA000000 + number % CARDS:08X}"
    raw = frame(4, number, job(1 << 63, number, pages=3, started=at, ended=at, document="minutes of March"))
    key = number.to_bytes(8)
    return Record(
        *(at, "terminal", "hq", device, "127.0.0.1", "job", f"{1 << 63:016x}", Mode.OFFLINE, f"card:{card}"),
        Personal(card=card, document="minutes of March", raw=raw),
        str(number),
        Counts("copy", 3, 0, 1, 1, False, "A4"),
        at,
        at,
        device,
        (key, key * 4),
        for_ever=True,
    )


def _storage_alone(folder: Path, group: int, count: int) -> float:
    """Records a second that the ledger keeps in commits of `group`, with nothing else to do."""
    folder.mkdir(mode=0o700)
    now = int(time.time() * 1000)
    ledger = Ledger.open(folder / "ledger.db", now)
    try:
        batches = [[_record(now, at) for at in range(start, start + group)] for start in range(0, count, group)]
        began = time.perf_counter()
        for batch in batches:
            ledger.commit(batch)
        return len(batches) * group / (time.perf_counter() - began)
    finally:
        ledger.close()


def _login_alone(folder: Path, count: int = 1_000) -> float:
    """Seconds (median) that the ledger needs to keep one login, with nothing else to do."""
    folder.mkdir(mode=0o700)
    now = int(time.time() * 1000)
    ledger = Ledger.open(folder / "ledger.db", now)
    took = []
    try:
        for number in range(count):
            login = Login(
                *(now, "terminal", "hq", f"alone-{number % CONNECTIONS:04d}", "127.0.0.1", "card", "granted", "locum"),
                *("any card", Mode.OFFLINE, Personal(card=f"{0xCA000000 + number % CARDS:08X}")),
                session=f"{(1 << 63) + number:016x}",
                expires_at=now + 86_400_000,
            )
            began = time.perf_counter()
            ledger.commit([login])
            took.append(time.perf_counter() - began)
            time.sleep(0.001)
        return statistics.median(took)
    finally:
        ledger.close()


def _syncs(file: Path, seconds: float = 1.0) -> float:
    """fdatasync(2) a second, each after 16 KiB appended."""
    number = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        done, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds:
            os.write(number, bytes(16384))
            os.fdatasync(number)
            done += 1
        return done / (time.perf_counter() - began)
    finally:
        os.close(number)


def _all(answered: Answered, status: int) -> Answered:
    if set(answered.statuses) != {status}:
        raise RuntimeError(f"other answers than {status}: {answered.statuses}")
    return answered


def jobs(bench: Bench) -> Sequence[Figure]:
    """Jobs acknowledged on stable storage, one outstanding on each of 500 connections, the PaperCut server dead."""
    double = bench.double(CARDS)
    shop = bench.printshop(double)
    without_server(double, shop)
    load = bench.terminals(shop.port, CONNECTIONS)
    _all(load.logins(CONNECTIONS, cards=CARDS), GRANTED)
    _all(load.jobs(CONNECTIONS * 4), STORED)
    used = shop.cpu_seconds()
    done = _all(load.jobs(JOBS), STORED)
    used = shop.cpu_seconds() - used
    (kept,) = shop.query("SELECT count(*) AS number FROM jobs")
    if kept["number"] < JOBS:
        raise RuntimeError(f"{JOBS} jobs were acknowledged, {kept['number']} are in the ledger")
    load.stop()
    shop.stop()
    alone = _storage_alone(bench.folder / "alone", CONNECTIONS, JOBS)
    syncs = _syncs(bench.folder / "synced")
    return [
        Figure(
            f"terminal jobs kept, {CONNECTIONS} connections",
            "/s",
            done.rate,
            5_000,
            beside=alone,
            beside_is="storage alone",
            note=f"p50 {done.p50 * 1e3:.0f} ms, p99 {done.p99 * 1e3:.0f} ms; CPU a job {1e6 * used / JOBS:.0f} us; "
            f"fdatasync alone {syncs:,.0f}/s",
        )
    ]


def logins(bench: Bench) -> Sequence[Figure]:
    """Offline logins at a modest rate with 500 connections open, everything on one core."""
    double = bench.double(CARDS)
    shop = bench.printshop(double)
    without_server(double, shop)
    load = bench.terminals(shop.port, CONNECTIONS)
    assert shop.process is not None
    with one_core(shop.process.pid, load.process.pid):
        _all(load.logins(CONNECTIONS, cards=CARDS, rate=LOGINS_A_SECOND), GRANTED)
        done = _all(load.logins(LOGINS, cards=CARDS, rate=LOGINS_A_SECOND), GRANTED)
        unstored = load.queries(LOGINS // 4, rate=LOGINS_A_SECOND)
    load.stop()
    shop.stop()
    alone = _login_alone(bench.folder / "alone")
    syncs = _syncs(bench.folder / "synced")
    return [
        Figure(
            f"offline login, {CONNECTIONS} connections, p50",
            "ms",
            1e3 * done.p50,
            1.0,
            lower=True,
            beside=1e3 * alone,
            beside_is="a commit alone",
            note=f"{LOGINS_A_SECOND}/s, one core; QUERY, which stores nothing, {1e3 * unstored.p50:.2f} ms; "
            f"fdatasync alone {1e3 / syncs:.2f} ms",
        ),
        Figure(f"offline login, {CONNECTIONS} connections, p99", "ms", 1e3 * done.p99, lower=True),
    ]


def _each(port: int, *processes: int, bench: Bench) -> dict[str, Answered]:
    """Requests of one terminal, one outstanding, everything on one core; of some rounds the one with the best p50."""
    asked: dict[str, Callable[[TerminalLoad, int], Answered]] = {
        "LOGIN": lambda load, count: load.logins(count, cards=CARDS),
        "QUERY": TerminalLoad.queries,
    }
    load = bench.terminals(port, 1)
    best: dict[str, Answered] = {}
    with one_core(load.process.pid, *processes):
        for name, ask in asked.items():
            ask(load, 300)
            best[name] = min((_all(ask(load, RELAYED), 0) for _ in range(ROUNDS)), key=lambda each: each.p50)
    load.stop()
    return best


def relaying(bench: Bench) -> Sequence[Figure]:
    """Added latency of a relayed request, beside HAProxy in TCP mode."""
    if program("haproxy") is None:
        print("terminal-relay: HAProxy is not installed (Debian: apt-get install haproxy); Locum alone", flush=True)
    echo = bench.ending(EchoServer())
    direct = _each(echo.port, echo.process.pid, bench=bench)
    beside: dict[str, Answered] = {}
    if program("haproxy") is not None:
        proxy = bench.ending(HaProxy(bench.folder / "haproxy", echo.port))
        beside = _each(proxy.port, echo.process.pid, proxy.process.pid, bench=bench)
        proxy.stop()
    shop = bench.before_terminal(echo.port)
    assert shop.process is not None
    mine = _each(shop.port, echo.process.pid, shop.process.pid, bench=bench)
    shop.stop()
    figures = []
    for name in direct:
        for share in ("p50", "p99"):

            def added(to: dict[str, Answered], name: str = name, share: str = share) -> float:
                return 1e6 * float(getattr(to[name], share) - getattr(direct[name], share))

            theirs = added(beside) if beside else math.nan
            figures.append(
                Figure(
                    f"added latency of a relayed {name}, {share}",
                    "us",
                    added(mine),
                    10 * theirs if beside and share == "p50" else None,
                    lower=True,
                    beside=theirs,
                    beside_is="HAProxy" if beside else "",
                    note=f"one outstanding, one core; direct {1e6 * getattr(direct[name], share):.0f} us",
                )
            )
    return figures
