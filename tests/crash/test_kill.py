"""kill -9 of Locum: at each numbered step between commit and send, and at random moments.

Acknowledged and lost = 0 in all of them; sent again at most one window a kill, each copy named in the ledger. The
steps are those of `proxy/net/crashpoints.py`; the random moments are seeded by the time, and the seed is printed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from proxy.net.crashpoints import AFTER_COMMIT, AFTER_THEN, BEFORE_COMMIT, BEFORE_THEN, STEPS
from tests.crash.books import arrived, assert_copies_named, assert_none_lost, assert_sound, told
from tests.peers import wire
from tests.peers.load import Load, logins, records
from tests.peers.locum import Locum
from tests.peers.sink import Sink
from tests.peers.waiting import eventually, grows, let_pass

WINDOW = 16
OFFLINE = {"delay": "0s", "drain_window": WINDOW}
MOMENTS = 30
RELAYING = [
    (BEFORE_COMMIT, 0),
    (AFTER_COMMIT, 0),
    *((step, 25) for step in STEPS if step not in (BEFORE_THEN, AFTER_THEN)),
]
"""Step and how often it is passed first; a `then` stands behind offline grants only."""


def _granted(locum: Locum) -> set[int]:
    """The cards of `logins(...)` that stand in the ledger as let in by Locum, as their numbers."""
    rows = locum.query("SELECT card FROM logins_full WHERE decided_by = 'locum' AND outcome = 'granted'")
    return {int(row["card"], 16) for row in rows}


def _ended(locum: Locum) -> bool:
    assert locum.process is not None
    return locum.process.poll() is not None


@pytest.mark.parametrize(("step", "passes"), RELAYING)
def test_killed_at_a_numbered_step_while_relaying(
    step: int, passes: int, make_sink: Callable[..., Sink], make_locum: Callable[..., Locum]
) -> None:
    """Online: each record is kept and relayed; whatever the step, what was acknowledged is kept and arrives."""
    sink = make_sink()
    locum = make_locum(sink, offline=OFFLINE)
    locum.launch(LOCUM_CRASH_AT=str(step), LOCUM_CRASH_AFTER=str(passes))
    load = Load(
        records(400, locum.secret, sessions=100),
        locum.acct_port,
        locum.secret,
        outstanding=16,
        resend_after=0.3,
        within=40,
        in_turn=100,
    ).start()
    eventually(lambda: _ended(locum), 15, f"step {step} is reached")
    locum.start()
    outcome = load.join()
    assert outcome.answered == 400
    locum.wait_until_drained()
    wanted = told(outcome, 100)
    assert_none_lost(wanted, locum.state_dir / "ledger.db")
    came = arrived(sink)
    assert wanted == set(came)
    assert sink.book()["disorder"] == 0
    assert_copies_named(came, locum)
    assert sum(came.values()) - len(came) <= 16


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_numbered_step_while_keeping(
    step: int, make_sink: Callable[..., Sink], make_locum: Callable[..., Locum]
) -> None:
    """Offline: what was acknowledged and who was let in stands in the ledger; then all is drained."""
    sink = make_sink()
    locum = make_locum(sink, offline=OFFLINE).start()
    locum.wait_until_proven()
    sink.stop()
    locum.wait_for_state("offline")
    locum.kill()
    locum.launch(LOCUM_CRASH_AT=str(step), LOCUM_CRASH_AFTER="10")
    packets, swipes = records(600, locum.secret, sessions=100), logins(200, locum.secret)
    load = Load(
        packets, locum.acct_port, locum.secret, outstanding=16, resend_after=0.3, within=40, in_turn=100
    ).start()
    people = Load(swipes, locum.auth_port, locum.secret, outstanding=8, resend_after=0.3, within=40).start()
    eventually(lambda: _ended(locum), 15, f"step {step} is reached")
    early, let_in = told(load.outcome, 100), set(people.outcome.answered_indices())
    assert_none_lost(early, locum.state_dir / "ledger.db")
    assert let_in <= _granted(locum)
    assert_sound(locum.state_dir / "ledger.db")
    locum.start()
    outcome = load.join()
    assert outcome.answered == 600
    assert people.join().codes[wire.ACCESS_ACCEPT] == 200
    assert_none_lost(told(outcome, 100), locum.state_dir / "ledger.db")
    assert set(people.outcome.answered_indices()) <= _granted(locum)
    again = make_sink(ports=(sink.auth_port, sink.acct_port))
    locum.wait_until_drained()
    came = arrived(again)
    assert set(came) == told(outcome, 100)
    assert max(came.values()) == 1
    assert again.book()["disorder"] == 0


def test_killed_at_random_moments_while_keeping(
    make_sink: Callable[..., Sink], make_locum: Callable[..., Locum]
) -> None:
    """Thirty times; after each, every record that was acknowledged until then is in the ledger."""
    seed = time.time_ns()
    print(f"seed {seed}")
    dice = random.Random(seed)
    sink = make_sink()
    locum = make_locum(sink, offline=OFFLINE).start()
    locum.wait_until_proven()
    sink.stop()
    locum.wait_for_state("offline")
    total = 40_000
    load = Load(
        records(total, locum.secret),
        locum.acct_port,
        locum.secret,
        outstanding=64,
        resend_after=0.2,
        rate=1200,
        give_up_after=60,
        within=120,
        in_turn=300,
    ).start()
    for _ in range(MOMENTS):
        grows(lambda: load.outcome.answered)
        let_pass(dice.uniform(0.0, 0.3))
        locum.kill()
        sofar = told(load.outcome, 300)
        assert_none_lost(sofar, locum.state_dir / "ledger.db")
        locum.start()
    load.stop()
    wanted = told(load.join(), 300)
    assert_sound(locum.state_dir / "ledger.db")
    again = make_sink(ports=(sink.auth_port, sink.acct_port))
    locum.wait_until_drained(60)
    assert wanted <= set(arrived(again))
    assert again.book()["disorder"] == 0


def test_killed_at_random_moments_while_draining(
    make_sink: Callable[..., Sink], make_locum: Callable[..., Locum]
) -> None:
    """Thirty times; nothing is lost, and the server gets at most one window of copies for each kill, all named."""
    seed = time.time_ns()
    print(f"seed {seed}")
    dice = random.Random(seed)
    sink = make_sink()
    locum = make_locum(sink, offline=OFFLINE).start()
    locum.wait_until_proven()
    sink.stop()
    locum.wait_for_state("offline")
    total = 12_000
    outcome = Load(records(total, locum.secret), locum.acct_port, locum.secret, within=60).run()
    assert outcome.answered == total
    again = make_sink(ports=(sink.auth_port, sink.acct_port), delay=0.03)
    kills = 0
    for _ in range(MOMENTS):
        grows(lambda: int(again.book()["distinct"]))
        let_pass(dice.uniform(0.0, 0.2))
        locum.kill()
        kills += 1
        locum.start()
    assert again.book()["distinct"] < total, "the kills came while it drained"
    again.delay_answers(0.0)
    locum.wait_until_drained(60)
    came = arrived(again)
    assert len(came) == total
    assert sum(came.values()) - total <= kills * WINDOW
    assert again.book()["disorder"] == 0
    assert_copies_named(came, locum)
    assert_none_lost(told(outcome, 300), locum.state_dir / "ledger.db")
