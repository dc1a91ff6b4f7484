"""A restart of Locum in each state: what it knew stands in the ledger. `offline-mode.md`, "restart"."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.line import (
    Line,
    arrivals,
    assert_extra_copies_named,
    assert_in_order,
    assert_ledgered_once,
    wait_for_all,
)
from tests.peers import wire
from tests.peers.load import Load, records
from tests.peers.locum import Locum
from tests.peers.sink import Sink
from tests.peers.waiting import eventually

HOW = pytest.mark.parametrize("how", ["stop", "kill"])


def _restart(locum: Locum, how: str) -> None:
    if how == "stop":
        locum.stop()
    else:
        locum.kill()
    locum.start()


@HOW
def test_restart_while_online(how: str, make_line: Callable[..., Line]) -> None:
    """Up again at once, and the server is not asked for anything twice that it acknowledged."""
    line = make_line()
    for _ in range(5):
        line.shift.job("s1")
    eventually(lambda: len(line.locum.query("SELECT seq FROM deliveries WHERE outcome = 'delivered'")) == 5, 3)
    _restart(line.locum, how)
    line.locum.wait_until_drained()
    assert line.locum.status()["upstreams"][0]["proven"] is True
    line.shift.job("s1")
    line.locum.wait_until_drained()
    found = wait_for_all(line.server, [line.shift])
    assert all(len(copies) == 1 for copies in found.values())
    assert line.copier.swipe("0A1B2C3D") is not None


@HOW
def test_restart_while_in_grace_keeps_the_clock(how: str, make_line: Callable[..., Line]) -> None:
    """The delay goes on from the first failed contact; it does not begin anew."""
    line = make_line(offline={"delay": "6s"})
    line.server.kill()
    line.locum.wait_for_state("grace")
    failed = time.monotonic()
    line.shift.job("s1")
    eventually(lambda: time.monotonic() - failed > 3.0, 4, "half of the delay is over")
    _restart(line.locum, how)
    assert line.locum.state() == "grace"
    line.locum.wait_for_state("offline", within=4.5)
    assert time.monotonic() - failed > 5.0
    line.come_back()
    wait_for_all(line.server, [line.shift])


@HOW
def test_restart_while_offline_is_offline_at_once(how: str, make_line: Callable[..., Line]) -> None:
    """No second delay, and the session that Locum granted still stands."""
    line = make_line(offline={"delay": "2s"}, upstream={"answer_timeout": "2s", "probe_interval": "500ms"})
    line.go_offline()
    answer = line.copier.swipe("FEED0001")
    assert answer is not None
    line.shift.job("before")
    _restart(line.locum, how)
    assert line.locum.state() == "offline"
    answer = line.copier.swipe("FEED0002", wait=4.0)
    assert answer is not None
    assert answer.seconds < 1.0, "decided at once, not after an answer_timeout"
    assert answer.kind == "accept"
    line.shift.job("after")
    line.come_back()
    found = wait_for_all(line.server, [line.shift])
    assert_ledgered_once(line.locum, line.shift.reported)
    assert all(len(copies) == 1 for copies in found.values())


@HOW
def test_restart_while_recovering_sends_again_at_most_one_window(
    how: str, make_sink: Callable[..., Sink], make_locum: Callable[..., Locum]
) -> None:
    """RECOVERING again; what was in flight is sent once more, everything arrives, in order."""
    window = 16
    sink = make_sink()
    locum = make_locum(sink, offline={"delay": "1s", "drain_window": window}).start()
    locum.wait_until_proven()
    sink.stop()
    locum.wait_for_state("offline")
    packets = records(1500, locum.secret, sessions=50)
    assert Load(packets, locum.acct_port, locum.secret, outstanding=32, within=30).run().answered == 1500
    again = make_sink(ports=(sink.auth_port, sink.acct_port), delay=0.05)
    eventually(lambda: again.book()["distinct"] > 100, 10, "draining is under way")
    _restart(locum, how)
    assert locum.state() in ("recovering", "grace", "offline")
    locum.wait_until_drained(30)
    book = again.book()
    assert book["distinct"] == 1500
    assert book["disorder"] == 0
    assert book["repeats"] <= window
    twice = {row["id"] for row in locum.query("SELECT id FROM maybe_forwarded_twice")}
    assert len(twice) >= book["repeats"]


def test_a_repeat_is_known_after_a_restart(make_line: Callable[..., Line]) -> None:
    """The acknowledgement got lost, Locum restarted, the copier sends the record again: stored once."""
    line = make_line()
    line.go_offline()
    request = line.copier.accounting(wire.STOP, "s1", user="FEED0001", job="j1", pages=3)
    assert line.copier.acct.exchange(request, line.copier.secret, 3.0, 1.0)
    line.locum.kill()
    line.locum.start()
    assert line.copier.acct.exchange(request, line.copier.secret, 3.0, 1.0)
    line.come_back()
    assert len(line.locum.query("SELECT seq FROM jobs")) == 1
    assert len(line.server.logged()) == 1


def test_an_outage_that_began_before_the_start_is_one(make_line: Callable[..., Line]) -> None:
    """Stopped while the server was up, started while it is down: a proven server, so offline mode after the delay."""
    line = make_line()
    line.locum.stop()
    line.server.kill()
    line.locum.start()
    line.locum.wait_for_state("offline")
    answer = line.copier.swipe("FEED0001")
    assert answer is not None
    line.shift.job("s1")
    line.come_back()
    found = wait_for_all(line.server, [line.shift])
    assert_in_order(found)
    assert_extra_copies_named(found, line.locum, at_most=0)
    assert len(arrivals(line.server)) == 1
