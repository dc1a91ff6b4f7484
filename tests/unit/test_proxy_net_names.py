"""Names of servers: resolved ahead, again in time, and remembered when that fails. On the real reactor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from proxy.net.names import is_numeric, look_up

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys
from twisted.internet import reactor
from proxy.net import names

found, failed = [], []
keeper = names.Names(reactor, lambda *a: found.append(a), lambda *a: failed.append(a))
answers = {"good": [["192.0.2.1"], ["192.0.2.2"]], "bad": []}
asked = []

def look_up(name):
    asked.append(name)
    if not answers[name]:
        raise OSError(-2, "Name or service not known")
    return answers[name].pop(0)

names.look_up = look_up
keeper.watch({"good", "bad"})
keeper.tick(100.0)
steps = [
    (lambda: len(found) == 1 and len(failed) == 1, lambda: keeper.tick(105.0)),
    (lambda: len(asked) == 2, lambda: keeper.tick(110.1)),
    (lambda: asked.count("bad") == 2 and len(failed) == 2, lambda: (keeper.watch({"good"}), keeper.tick(400.1))),
    (lambda: len(found) == 2, lambda: None),
]

def go():
    if steps and steps[0][0]():
        steps.pop(0)[1]()
    if steps:
        reactor.callLater(0.01, go)
    else:
        reactor.stop()

reactor.callLater(0, go)
reactor.callLater(8, lambda: (print("stuck", len(steps), asked), reactor.stop()))
reactor.run()
print(found, failed[0], sorted(asked))
"""


def test_names_are_resolved_ahead_again_in_time_and_sooner_after_a_failure() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == (
        "[('good', ['192.0.2.1']), ('good', ['192.0.2.2'])] ('bad', 'Name or service not known') "
        "['bad', 'bad', 'good', 'good']"
    )


@pytest.mark.parametrize(
    ("name", "numeric"),
    [("10.0.0.1", True), ("::1", True), ("fe80::1%eth0", True), ("hq.example", False), ("10.0.0", False), ("", False)],
)
def test_addresses_are_told_from_names(name: str, numeric: bool) -> None:
    assert is_numeric(name) == numeric


def test_an_address_resolves_to_itself_once() -> None:
    assert look_up("127.0.0.1") == ["127.0.0.1"]
