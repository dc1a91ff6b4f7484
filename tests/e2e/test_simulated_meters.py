"""`locum simulate copiers --meters`: what is typed is done, and net-snmp's own tool reads what the counters show."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.peers.ports import free_port
from tests.peers.skips import ROOT, need_program
from tests.peers.waiting import eventually

TOTAL = "1.3.6.1.4.1.1347.43.10.1.1.12.1.1"


def test_counters_move_as_people_copy() -> None:
    snmpget, port = need_program("snmpget", "snmp"), free_port()
    command = [
        sys.executable,
        "-m",
        "appliance",
        "simulate",
        "copiers",
        "--meters",
        f"127.0.0.1:{port}",
        "--count",
        "1",
    ]
    lab = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert lab.stdin is not None
    assert lab.stdout is not None
    stdin = lab.stdin

    def say(line: str) -> None:
        stdin.write(line + "\n")
        stdin.flush()

    def total() -> str:
        asked = [snmpget, "-v2c", "-c", "public", "-r0", "-t1", "-Oqv", f"127.0.0.1:{port}", TOTAL]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()

    try:
        eventually(lambda: total() == "0", 15, "it answers", every=0.1)
        say("copy 3 1")
        eventually(lambda: total() == "3", 5, "three pages")
        say("wrap 2")
        eventually(lambda: total() == str((1 << 32) - 2), 5, "two pages are left")
        say("copy 5")
        eventually(lambda: total() == "3", 5, "it wrapped")
        say("sleep")
        eventually(lambda: total() == "", 5, "it sleeps")
        say("wake")
        say("reset")
        eventually(lambda: total() == "0", 5, "it was reset")
    finally:
        lab.send_signal(signal.SIGTERM)  # whoever runs this in the background has SIGINT ignored
        said, _ = lab.communicate(timeout=10)
    assert "1: total=3 color=1 print=0 copy=3 fax=0 scan=0" in said
    assert "Traceback" not in said
