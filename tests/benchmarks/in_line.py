"""In line, in network namespaces: what Locum adds to what is diverted, and what its rules add to all else.

A plain bridge is what `locum inline down` leaves, between the same namespaces in the same minute; the two take turns.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.benchmarks.bench import Bench, one_core
from tests.benchmarks.figures import Figure
from tests.e2e.in_line import ACCT, AUTH, SECRET, InLine, login_goes_on
from tests.peers.appliance import table
from tests.peers.callers import Called, Callers
from tests.peers.haproxy import HaProxy
from tests.peers.load import Load, logins
from tests.peers.netns import ROUTER, SERVER, SERVER6, Wire, wire, with_router
from tests.peers.newcomers import newcomers
from tests.peers.pouring import Basin, Pouring
from tests.peers.sink import Sink
from tests.peers.skips import program
from tests.peers.terminal_echo import EchoServer
from tests.peers.waiting import eventually

TERMINALS, RAW = 9790, 9100
LOGINS = 1_500
ROUNDS = 5
CALLS = 3_000
AT_ONCE = 32
TURNS = 10
POURED = 0.25
"""Seconds at a time; of three times, the one in the middle counts."""
STARTS = 3
KILLS = 3
WATCHED = 1.6
"""Seconds after a kill: longer than the kernel believes the last heartbeat."""


class Office(InLine):
    """Servers that do nothing behind it, for RADIUS and for terminals, over IPv4 and IPv6."""

    def __init__(self, bench: Bench, line: Wire) -> None:
        terminals = ""
        for name, bind, address in (("four", "0.0.0.0", SERVER), ("six", "::", SERVER6)):
            keys = {"name": name, "dialect": "terminal", "address": address, "port": TERMINALS}
            terminals += table("[[upstream]]", keys)
            terminals += table("[[listen]]", {"dialect": "terminal", "bind": bind, "port": TERMINALS, "upstream": name})
        super().__init__(line, bench.folder, probe_interval="10s", offline="1m", more=terminals)
        with line.inside(line.server):
            self.sinks = [bench.ending(Sink(SECRET, ports=(AUTH, ACCT), address=at)) for at in (SERVER, SERVER6)]
            self.echoes = [bench.ending(EchoServer(at, TERMINALS)) for at in (SERVER, SERVER6)]

    def plain(self) -> None:
        """A plain bridge; Locum goes on running."""
        self.run_locum("inline", "down")

    def again(self) -> None:
        """From a plain bridge into the line."""
        self.run_locum("inline", "up")
        self.wait_until_diverting()

    def without_locum(self) -> None:
        """A plain bridge, and Locum does not run."""
        self.plain()
        self.locum.stop()

    def with_locum(self) -> None:
        self.locum.stop()
        self.run_locum("inline", "up")
        self.start_locum()
        self.wait_until_diverting()
        eventually(self._rests, 10, "Locum has nothing left to do")

    def _rests(self) -> bool:
        """It has used less than a tenth of a processor for some time."""
        before, began = self.locum.cpu_seconds(), time.monotonic()
        eventually(lambda: time.monotonic() > began + 0.3, 1)
        return self.locum.cpu_seconds() - before < 0.03

    @contextmanager
    def as_copier(self) -> Iterator[None]:
        with self.line.inside(self.line.copier):
            yield


def _office(bench: Bench) -> Office | None:
    """In line and at work; None, with a printed reason, where that cannot be."""
    missing = [name for name in ("ip", "nft", "ping", "freeradius") if program(name) is None]
    if os.geteuid() != 0 or missing:
        print(f"in line: needs root and {', '.join(missing) or 'network namespaces'}; left out", flush=True)
        return None
    made = Office(bench, bench.endings.enter_context(wire()))
    bench.endings.callback(made.locum.kill)
    made.up()
    made.start_locum()
    made.wait_until_diverting()
    made.login()
    made.locum.wait_until_proven()
    return made


def _logins(office: Office, count: int) -> Load:
    packets = logins(count, SECRET.encode())
    with office.as_copier():
        return Load(packets, AUTH, SECRET.encode(), outstanding=1, address=SERVER, within=20)


def latency(bench: Bench) -> Sequence[Figure]:
    """A login of a diverted flow, one outstanding, everything on one core, in turns with a plain bridge."""
    office = _office(bench)
    if office is None:
        return []
    assert office.locum.process is not None
    everyone = [office.locum.process.pid, *(sink.process.pid for sink in office.sinks)]
    took: dict[str, list[tuple[float, float]]] = {"plain": [], "in line": []}
    for _ in range(ROUNDS):
        for name, change in (("plain", office.plain), ("in line", office.again)):
            change()
            with one_core(*everyone):
                _logins(office, 200).run()
                outcome = _logins(office, LOGINS).run()
            if outcome.codes[2] != LOGINS or outcome.datagrams != LOGINS:
                raise RuntimeError(f"{name}: {outcome.codes}, {outcome.datagrams} datagrams")
            took[name].append((outcome.percentile(0.5), outcome.percentile(0.99)))
    sql = "SELECT count(*) AS number FROM logins"
    eventually(lambda: office.locum.query(sql)[0]["number"] >= ROUNDS * LOGINS, 5, "they are all in the ledger")
    figures = []
    for at, (share, goal) in enumerate((("p50", 250.0), ("p99", None))):
        mine, plain = (1e6 * statistics.median(each[at] for each in took[name]) for name in ("in line", "plain"))
        figures.append(
            Figure(
                f"added latency of a diverted login, {share}",
                "us",
                mine - plain,
                goal,
                lower=True,
                note=f"one outstanding, one core; plain bridge {plain:.0f} us, in line {mine:.0f} us",
            )
        )
    return [*figures, Figure("memory in line", "MB", office.locum.memory() / 1e6, lower=True)]


def _calls(line: Wire, address: str, port: int) -> list[Called]:
    """Rounds of calls from the copier; none of them uses a port that a connection before it had lately."""
    line.run(line.copier, ["sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535"])
    with line.inside(line.copier):
        callers = Callers(address, port)
    try:
        callers.call(CALLS // 10, AT_ONCE)
        return [callers.call(CALLS, AT_ONCE) for _ in range(ROUNDS)]
    finally:
        callers.stop()


def _rate(calls: Sequence[Called]) -> float:
    return statistics.median(each.rate for each in calls)


def _haproxy_between(bench: Bench) -> float:
    """Calls a second by HAProxy on the appliance's own address, as an ordinary proxy between two subnets."""
    if program("haproxy") is None:
        print("in-line-calls: HAProxy is not installed (Debian: apt-get install haproxy)", flush=True)
        return math.nan
    with wire() as line, ExitStack() as endings:
        with_router(line)
        with line.inside(line.server):
            echo = EchoServer(line.server_at[0], TERMINALS)
            endings.callback(echo.stop)
        with line.inside(line.appliance):
            proxy = HaProxy(bench.folder / "haproxy", TERMINALS, address=ROUTER[0][0], server=line.server_at[0])
            endings.callback(proxy.stop)
        return _rate(_calls(line, ROUTER[0][0], proxy.port))


def calls(bench: Bench) -> Sequence[Figure]:
    """New diverted TCP connections a second: terminals that connect, say HELLO, hear WELCOME and hang up."""
    office = _office(bench)
    if office is None:
        return []
    used = office.locum.cpu_seconds()
    mine = _calls(office.line, SERVER, TERMINALS)
    used = office.locum.cpu_seconds() - used
    office.plain()
    plain = _rate(_calls(office.line, SERVER, TERMINALS))
    office.locum.kill()
    return [
        Figure(
            "new diverted TCP connections",
            "/s",
            _rate(mine),
            2_000,
            beside=_haproxy_between(bench),
            beside_is="HAProxy, routed",
            note=f"{AT_ONCE} at once, all on {os.cpu_count()} cores; plain bridge {plain:,.0f}/s; "
            f"p50 {1e3 * statistics.median(each.p50 for each in mine):.1f} ms; "
            f"CPU a connection {1e6 * used / (CALLS * (ROUNDS + 0.1)):.0f} us",
        )
    ]


def _frames_in(line: Wire) -> int:
    """Frames that have come to the server's interface."""
    with line.inside(line.server):
        for row in Path("/proc/thread-self/net/dev").read_text().splitlines():
            name, _, counts = row.partition(":")
            if name.strip() == "s0":
                return int(counts.split()[1])
    raise RuntimeError("the server has no interface s0")


def beside(bench: Bench) -> Sequence[Figure]:
    """What is not diverted, at the rate of a plain bridge: a print job over port 9100, and small datagrams."""
    office = _office(bench)
    if office is None:
        return []
    line = office.line
    with line.inside(line.server):
        bench.ending(Basin(SERVER, RAW))
    with line.inside(line.copier):
        pouring = bench.ending(Pouring(SERVER, RAW))

    def datagrams() -> float:
        before, began = _frames_in(line), time.perf_counter()
        pouring.datagrams(POURED)
        return (_frames_in(line) - before) / (time.perf_counter() - began)

    measured: dict[str, Callable[[], float]] = {
        "TCP": lambda: float(pouring.octets(POURED)) / 1e6,
        "datagrams of 64 octets": datagrams,
    }
    rates: dict[tuple[str, str], list[float]] = {(name, way): [] for name in measured for way in ("plain", "in line")}
    for turn in range(TURNS):
        ways = [("plain", office.without_locum), ("in line", office.with_locum)]
        for way, change in ways if turn % 2 else reversed(ways):
            change()
            for name, measure in measured.items():
                rates[name, way].append(statistics.median(measure() for _ in range(3)))
    figures = []
    for name, unit in zip(measured, ("MB/s", "/s"), strict=True):
        mine, plain = rates[name, "in line"], rates[name, "plain"]
        shares = sorted(100 * ours / theirs for ours, theirs in zip(mine, plain, strict=True))
        figures.append(
            Figure(
                f"undiverted {name}, of a plain bridge's rate",
                "%",
                statistics.median(shares),
                97.0,
                note=f"{statistics.median(mine):,.0f} {unit}, plain bridge {statistics.median(plain):,.0f} {unit}; "
                f"{TURNS} turns, {shares[0]:.0f} to {shares[-1]:.0f} %; no wire's limit",
            )
        )
    return figures


def _first_taken(office: Office, since: int) -> str:
    """The card of the first login that is Locum's, after an entry of the ledger; "" while there is none."""
    sql = "SELECT card FROM logins JOIN personal USING (seq) WHERE seq > ? ORDER BY seq LIMIT 1"
    return next((str(row["card"]) for row in office.locum.query(sql, since)), "")


def start(bench: Bench) -> Sequence[Figure]:
    """From the start of the process to the first login that it takes, somebody logging in every 10 ms."""
    office = _office(bench)
    if office is None:
        return []
    took = []
    for _ in range(STARTS):
        office.locum.stop()
        (before,) = office.locum.query("SELECT max(seq) AS seq FROM logins")
        with login_goes_on(office, every=0.01) as knocking:
            eventually(knocking.answered, 5, "the server answers")
            began = time.monotonic()
            with office.line.inside(office.line.appliance):
                office.locum.launch()
            card = eventually(partial(_first_taken, office, before["seq"]), 10, "a login is Locum's")
        took.append(next(each.began for each in knocking.logins if each.card == card) - began)
    return [
        Figure("start to diverting", "s", max(took), 2.0, lower=True, note=f"worst of {STARTS}; a login each 10 ms")
    ]


def _without(office: Office, v6: bool, happens: Callable[[], object]) -> tuple[float, float]:
    """Seconds from what happens until whoever is new has an answer at once: by UDP, by TCP."""
    address = office.line.server_at[v6]
    ways = (((address, AUTH), SECRET.encode()), ((address, TERMINALS), b""))
    with ExitStack() as endings:
        coming = [endings.enter_context(newcomers(office.line, to, secret=secret)) for to, secret in ways]
        began = time.monotonic()
        eventually(lambda: all(each.served_again(began) < math.inf for each in coming), 5, "whoever is new is served")
        moment = time.monotonic()
        happens()
        eventually(lambda: time.monotonic() > moment + WATCHED, WATCHED + 1)
    return coming[0].served_again(moment), coming[1].served_again(moment)


def killed(bench: Bench) -> Sequence[Figure]:
    """Time without service for whoever is new, every 10 ms: Locum is killed with kill -9, and hangs (SIGSTOP)."""
    office = _office(bench)
    if office is None:
        return []
    figures = []
    for version, v6 in (("IPv4", False), ("IPv6", True)):
        rounds = []
        for _ in range(KILLS):
            rounds.append(_without(office, v6, office.locum.kill))
            office.start_locum()
            office.wait_until_diverting()
        for at, how in enumerate(("UDP", "TCP")):
            figures.append(
                Figure(
                    f"without service after kill -9, new {how} flows over {version}",
                    "ms",
                    1e3 * max(each[at] for each in rounds),
                    100.0,
                    lower=True,
                    note=f"worst of {KILLS}; somebody new each 10 ms",
                )
            )
    with ExitStack() as endings:
        hung = _without(office, False, lambda: endings.enter_context(office.locum.paused()))
    note = "the kernel believes the last heartbeat for a second"
    return [*figures, Figure("without service while Locum hangs (SIGSTOP)", "ms", 1e3 * max(hung), note=note)]
