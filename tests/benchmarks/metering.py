"""Page meters of 500 copiers in session, read every five seconds: how often, at what cost, and what a login notices."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.bench import Bench, wait_for
from tests.benchmarks.figures import Figure
from tests.peers.appliance import table
from tests.peers.fleet import Fleet, address_of
from tests.peers.load import Load, Outcome, logins
from tests.peers.locum import Locum
from tests.peers.ports import free_ports
from tests.peers.printshop import TOKEN

COPIERS = 500
EVERY = 5.0
SECONDS = 15.0
LOGINS = 500
ROUNDS = 12
LOGINS_A_SECOND = 200.0


def polling(bench: Bench) -> Sequence[Figure]:
    """The same logins over RADIUS at a Locum without copiers and at one with 500 in use, in turns, for others may use
    the machine too.
    """
    sink, double = bench.sink(), bench.double(COPIERS)
    alone = bench.locum(sink)
    fleet: Fleet = bench.ending(Fleet(COPIERS))
    locum = Locum.before(
        bench.folder / "metered",
        sink,
        offline={"delay": "0s"},
        upstream={},
        more=_config(bench.folder, double, fleet),
    )
    bench.ending(locum).start()
    wait_for(lambda: fleet.asked()["connected"] == COPIERS, 30, "the readers are connected")
    wait_for(lambda: _read(locum) == COPIERS, 60, "all meters were read")
    wait_for(lambda: all(each["proven"] for each in locum.status()["upstreams"]), 20, "the servers are proven")
    idle = _share(locum)

    double.stop()
    wait_for(lambda: _state(locum, "print") == "offline", 30, "offline")
    fleet.swipe()
    wait_for(lambda: fleet.asked()["beeps"] >= 2 * COPIERS, 60, "everybody is let in")
    time.sleep(EVERY)
    before, began = fleet.asked()["answers"], time.monotonic()
    busy = _share(locum)
    rate = (fleet.asked()["answers"] - before) / (time.monotonic() - began)
    without, beside = _in_turns(alone, locum)
    memory = locum.memory() / 1e6
    return [
        Figure("500 copiers in session: readings", "/s", rate, 0.95 * COPIERS / EVERY, note=f"each {EVERY:g} s"),
        Figure(
            "500 copiers in session: of a core", "%", busy, beside=idle, beside_is="nobody there:", lower=True,
        ),
        *(
            Figure(
                f"login {name} with 500 polled copiers",
                "us",
                1e6 * beside.percentile(share),
                2e6 * without.percentile(share) if goal else None,
                lower=True,
                beside=1e6 * without.percentile(share),
                beside_is="without:",
                note=f"{LOGINS_A_SECOND:g} logins/s over RADIUS, {ROUNDS} rounds in turns",
            )
            for name, share, goal in (("p50", 0.5, False), ("p99", 0.99, True))
        ),
        Figure("500 copiers and readers: memory", "MB", memory, lower=True),
    ]  # fmt: skip


def _config(folder: Path, double: object, fleet: Fleet) -> str:
    token = folder / "print.token"
    token.touch(mode=0o600)
    token.write_text(TOKEN + "\n")
    url = f"https://127.0.0.1:{double.tls_port}/rpc/api/xmlrpc"  # type: ignore[attr-defined]
    keys = {"name": "print", "dialect": "papercut", "url": url, "token_file": str(token), "time_zone": "UTC"}
    parts = [
        table("[[upstream]]", {**keys, "ca_file": str(double.certificate)}),  # type: ignore[attr-defined]
        table("[snmp]", {"community": "public", "in_session": f"{EVERY:g}s", "otherwise": "1d"}),
    ]
    for number, listen in enumerate(free_ports(COPIERS)):
        name, address = f"OLD-{number:03}", address_of(number)
        reader = {"device": name, "upstream": "print", "address": address, "port": fleet.reader_port}
        parts.append(table("[[reader]]", {**reader, "listen": f"127.0.0.1:{listen}", "session_idle": "1h"}))
        parts.append(table("[[device]]", {"id": name, "snmp": {"address": address, "port": fleet.snmp_port}}))
    return "\n".join(parts)


def _in_turns(*locums: Locum) -> list[Outcome]:
    """Of each, all rounds together."""
    outcomes = [Outcome(0) for _ in locums]
    for _ in range(ROUNDS):
        for locum, outcome in zip(locums, outcomes, strict=True):
            packets = logins(LOGINS, locum.secret)
            load = Load(packets, locum.auth_port, locum.secret, outstanding=1, rate=LOGINS_A_SECOND)
            made = load.run()
            if made.codes[2] != LOGINS:
                raise RuntimeError(f"{made.codes}")
            outcome.latency += made.latency
    return outcomes


def _share(locum: Locum) -> float:
    """Percent of a core that Locum takes while nobody logs in."""
    assert locum.process is not None
    file = Path(f"/proc/{locum.process.pid}/stat")

    def used() -> float:
        fields = file.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before, began = used(), time.monotonic()
    time.sleep(SECONDS)
    return 100 * (used() - before) / (time.monotonic() - began)


def _read(locum: Locum) -> int:
    return sum(bool(each["read_at"]) for each in locum.status()["meters"])


def _state(locum: Locum, name: str) -> str:
    return str(next(each["state"] for each in locum.status()["upstreams"] if each["name"] == name))
