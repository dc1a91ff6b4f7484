"""Start and memory of an idle appliance; and a minute of any bytes against a running one."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure
from tests.peers.appliance import table
from tests.peers.copier import Copier
from tests.peers.ports import LOOPBACK, free_ports
from tests.peers.skips import ROOT
from tests.peers.terminal import GRANTED, HEAD, HELLO, LOGIN, frame, hello, login
from tests.peers.waiting import eventually

ROUNDS = 3


def _resident(process: int) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return math.nan


def footprint(bench: Bench) -> Sequence[Figure]:
    """Start to ready (status answers and a login is relayed), and memory when idle."""
    sink = bench.sink()
    locum = bench.locum(sink)
    copier = Copier(locum.auth_port, locum.acct_port, locum.secret)
    starts = []
    for _ in range(ROUNDS):
        locum.stop()
        began = time.monotonic()
        locum.launch()
        eventually(lambda: copier.swipe("0A1B2C3D", wait=0.02), 10, "a login is relayed")
        eventually(locum.status_or_none, 10, "status answers")
        starts.append(time.monotonic() - began)
    idle = locum.memory() / 1e6
    copier.close()
    theirs = start = math.nan
    if bench.has_freeradius:
        began = time.monotonic()
        proxy = bench.freeradius_proxy(sink)
        start = time.monotonic() - began
        assert proxy.process is not None
        theirs = _resident(proxy.process.pid)
    return [
        Figure("start to ready", "s", max(starts), 1.0, lower=True, freeradius=start, note=f"worst of {ROUNDS}"),
        Figure("memory, idle", "MB", idle, 60.0, lower=True, freeradius=theirs),
        *_whole(bench),
    ]


def _lets_in(port: int) -> bool:
    """Whether a login at a terminal is granted with a user's name, as only the server does."""
    with suppress(OSError), socket.create_connection((LOOPBACK[4], port), 1) as line, line.makefile("rb") as replies:
        line.settimeout(1)
        for sequence, kind, payload in ((1, HELLO, hello("first")), (2, LOGIN, login("CA000000"))):
            line.sendall(frame(kind, sequence, payload))
            head = replies.read(HEAD.size)
            rest = replies.read(HEAD.unpack(head)[-1] + 4)
        return rest[0] == GRANTED and b"user0" in rest
    return False


def _whole(bench: Bench) -> Sequence[Figure]:
    """The same with terminals, a PaperCut server over TLS, metrics and syslog."""
    double = bench.double()
    metrics, syslog = free_ports(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind((LOOPBACK[4], syslog))
        more = table("[alerts]", {"syslog": [f"udp://{LOOPBACK[4]}:{syslog}"]})
        more += table("[metrics]", {"bind": LOOPBACK[4], "port": metrics})
        shop = bench.printshop(double, more=more)
        starts = []
        for _ in range(ROUNDS):
            shop.stop()
            began = time.monotonic()
            shop.launch()
            eventually(lambda: _lets_in(shop.port), 10, "the server lets somebody in at a terminal")
            eventually(shop.status_or_none, 10, "status answers")
            starts.append(time.monotonic() - began)
        shop.wait_until_proven(15)
        with urlopen(f"http://{LOOPBACK[4]}:{metrics}/metrics", timeout=5) as answer:
            answer.read()
        idle = shop.memory() / 1e6
        shop.stop()
    note = "terminals, PaperCut over TLS, metrics, syslog"
    return [
        Figure("start to ready, all of it", "s", max(starts), 1.0, lower=True, note=f"worst of {ROUNDS}; {note}"),
        Figure("memory, idle, all of it", "MB", idle, 70.0, lower=True, note=note),
    ]


def any_bytes(bench: Bench) -> Sequence[Figure]:
    """`tests/e2e/test_any_bytes.py` for `LOCUM_FUZZ_SECONDS`, a minute if that is not set."""
    seconds = os.environ.get("LOCUM_FUZZ_SECONDS", "60")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/e2e/test_any_bytes.py"],
        cwd=ROOT,
        check=False,
        env={**os.environ, "LOCUM_FUZZ_SECONDS": seconds},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print(done.stdout[-3000:])
    return [
        Figure(
            f"failures in {seconds} s of any bytes",
            "",
            float(done.returncode != 0),
            1,
            lower=True,
            note="no traceback, second half at most 5 MB more",
        )
    ]
