"""Run the benchmarks and print their table. Exits 0 whatever the figures say: they are figures."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks import (
    exporting,
    footprint,
    in_line,
    managed,
    metering,
    outages,
    papercut,
    proving,
    records,
    relaying,
    terminals,
)
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, show
from tests.peers.freeradius import version

ALL: dict[str, Callable[[Bench], Sequence[Figure]]] = {
    "first-accept": outages.first_accept,
    "back": outages.back,
    "relay": relaying.rate,
    "latency": relaying.latency,
    "keep": records.keeping,
    "drain": records.draining,
    "crowd": records.crowd,
    "terminal-jobs": terminals.jobs,
    "terminal-logins": terminals.logins,
    "terminal-relay": terminals.relaying,
    "papercut-drain": papercut.draining,
    "proving": proving.proving,
    "exporting": exporting.exporting,
    "metering": metering.polling,
    "snmp-cached": managed.cached,
    "in-line-login": in_line.latency,
    "in-line-calls": in_line.calls,
    "in-line-beside": in_line.beside,
    "in-line-start": in_line.start,
    "in-line-kill": in_line.killed,
    "footprint": footprint.footprint,
    "any-bytes": footprint.any_bytes,
}


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=list(ALL),
        metavar="NAME",
        help=f"one of {', '.join(ALL)}; may be given again",
    )
    names = parser.parse_args().only or list(ALL)
    busy = os.getloadavg()[0]
    print(
        f"FreeRADIUS {version() or 'is not installed'}; {os.cpu_count()} cores, load {busy:.1f}",
        flush=True,
    )
    figures: list[Figure] = []
    broken: list[str] = []
    began = time.monotonic()
    for name in names:
        with tempfile.TemporaryDirectory(prefix="locum-bench-") as folder, ExitStack() as endings:
            started = time.monotonic()
            try:
                figures += ALL[name](Bench(Path(folder), endings))
            except (AssertionError, RuntimeError, OSError):
                broken.append(name)
                traceback.print_exc()
            print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    show(figures)
    print(f"{time.monotonic() - began:.0f} s in all" + (f"; broken: {', '.join(broken)}" if broken else ""))


if __name__ == "__main__":
    main()
