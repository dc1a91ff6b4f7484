"""The upstream's state as one table: walked whole, and what proof, delay, resuming and a reload do to it."""

from __future__ import annotations

from itertools import product

import pytest

from proxy.events import Moment
from proxy.link import STEP, TABLE, Clock, Link, Resumed, Signal, State

WALL = 1_795_000_000_000


def at(now: float) -> Moment:
    return Moment(now, WALL + int(now * 1000), bytes(32))


def link(delay: float = 60.0, *, proven: bool = True) -> Link:
    return Link("hq", delay, Clock("boot", 5_000), proven, at(0.0))


def in_state(state: State, delay: float = 60.0, *, proven: bool = True, since: float = 0.0) -> Link:
    made = link(delay, proven=proven)
    made.resume(Resumed(state, since, WALL, "before", WALL, since))
    return made


def test_the_table_is_complete() -> None:
    assert set(TABLE) == set(product(State, Signal))
    assert set(STEP) == set(State)


@pytest.mark.parametrize(("state", "signal"), list(product(State, Signal)))
def test_every_pair_leads_where_the_table_says(state: State, signal: Signal) -> None:
    made = in_state(state)
    steps = made.handle(signal, "cause", at(1.0))
    assert made.state is TABLE[state, signal]
    assert [step.state for step in steps] == ([] if made.state is state else [made.state.value])


@pytest.mark.parametrize("signal", Signal)
def test_unproven_never_reaches_offline(signal: Signal) -> None:
    made = in_state(State.GRACE, 0.0, proven=False)
    made.handle(signal, "cause", at(100.0))
    assert made.state is not State.OFFLINE


def test_unproven_with_no_delay_stays_in_grace() -> None:
    made = link(0.0, proven=False)
    assert [step.state for step in made.handle(Signal.CONTACT_FAILED, "x", at(1.0))] == ["grace"]


def test_no_delay_goes_offline_at_the_first_failed_contact() -> None:
    steps = link(0.0).handle(Signal.CONTACT_FAILED, "no answer", at(1.0))
    assert [(step.step, step.state, step.cause) for step in steps] == [
        ("failed", "grace", "no answer"),
        ("offline", "offline", "no answer"),
    ]


def test_the_delay_runs_from_the_first_failed_contact() -> None:
    made = link(60.0)
    made.handle(Signal.CONTACT_FAILED, "x", at(10.0))
    made.handle(Signal.CONTACT_FAILED, "x", at(50.0))
    assert not made.delay_has_passed(69.9)
    assert made.delay_has_passed(70.0)


def test_after_a_proof_during_grace_the_delay_counts_from_the_next_failed_contact() -> None:
    made = in_state(State.GRACE, 60.0, proven=False)
    made.prove()
    assert not made.delay_has_passed(1000.0)
    assert made.handle(Signal.CONTACT_FAILED, "x", at(1000.0)) == []
    assert not made.delay_has_passed(1059.0)
    assert made.delay_has_passed(1060.0)


def recovering(left: float, delay: float) -> Link:
    made = in_state(State.OFFLINE, delay)
    made.handle(Signal.CONTACT_STEADY, "back", at(left))
    return made


def test_straight_back_offline_within_the_delay_of_having_left_it() -> None:
    assert [s.state for s in recovering(100.0, 60.0).handle(Signal.CONTACT_FAILED, "x", at(159.0))] == [
        "grace",
        "offline",
    ]
    assert [s.state for s in recovering(100.0, 60.0).handle(Signal.CONTACT_FAILED, "x", at(160.0))] == ["grace"]


def test_recovering_from_grace_never_goes_straight_to_offline() -> None:
    made = in_state(State.GRACE)
    made.handle(Signal.CONTACT_STEADY, "back", at(1.0))
    assert [s.state for s in made.handle(Signal.CONTACT_FAILED, "x", at(2.0))] == ["grace"]


def test_unproven_does_not_go_straight_back() -> None:
    made = recovering(100.0, 60.0)
    assert made.unprove(at(100.5)) == []
    assert [s.state for s in made.handle(Signal.CONTACT_FAILED, "x", at(101.0))] == ["grace"]


def test_a_reload_of_the_delay_applies_to_the_running_clock() -> None:
    made = in_state(State.GRACE, 300.0)
    assert not made.delay_has_passed(100.0)
    made.delay = 60.0
    assert made.delay_has_passed(100.0)


def test_only_grace_has_a_delay() -> None:
    for state in (State.ONLINE, State.OFFLINE, State.RECOVERING):
        assert not in_state(state).delay_has_passed(1e9)


def test_resuming_takes_over_state_times_and_cause() -> None:
    made = link()
    made.resume(Resumed(State.GRACE, -20.0, WALL - 20_000, "cause", WALL - 25_000, -25.0))
    assert (made.state, made.since, made.since_wall, made.cause) == (State.GRACE, -20.0, WALL - 20_000, "cause")
    assert made.outage_wall == WALL - 25_000
    assert made.delay_has_passed(35.0)
    assert not made.delay_has_passed(34.9)


def test_an_outage_keeps_its_name_from_the_first_failure_to_the_end() -> None:
    made = link(5.0)
    steps = made.handle(Signal.CONTACT_FAILED, "x", at(1.0))
    steps += made.handle(Signal.DELAY_PASSED, "x", at(6.0))
    steps += made.handle(Signal.CONTACT_STEADY, "x", at(20.0))
    steps += made.handle(Signal.NOTHING_WAITS, "x", at(21.0))
    assert [step.step for step in steps] == ["failed", "offline", "recovered", "drained"]
    assert {step.outage for step in steps} == {WALL + 1000}
    assert made.outage_wall is None


def test_an_outage_keeps_its_name_however_often_the_server_comes_back_before_all_is_forwarded() -> None:
    made = link(5.0)
    steps = made.handle(Signal.CONTACT_FAILED, "x", at(1.0))
    for flap in (10.0, 20.0, 30.0):
        steps += made.handle(Signal.CONTACT_STEADY, "back", at(flap))
        steps += made.handle(Signal.CONTACT_FAILED, "x", at(flap + 1))
        steps += made.handle(Signal.DELAY_PASSED, "x", at(flap + 6))
    assert len(steps) == 10
    assert {step.outage for step in steps} == {WALL + 1000}
    assert made.outage_seconds(41.0) == 40.0


def test_the_delay_counts_from_the_last_loss_and_the_outage_from_the_first() -> None:
    made = link(60.0)
    made.handle(Signal.CONTACT_FAILED, "x", at(1.0))
    made.handle(Signal.CONTACT_STEADY, "back", at(30.0))
    made.handle(Signal.CONTACT_FAILED, "x", at(40.0))
    assert made.lost_at == 40.0
    assert not made.delay_has_passed(99.9)
    assert made.outage_seconds(99.9) == pytest.approx(98.9)


def test_an_outage_whose_upstream_becomes_unproven_goes_on_under_its_name() -> None:
    made = link(5.0)
    steps = made.handle(Signal.CONTACT_FAILED, "x", at(1.0))
    steps += made.handle(Signal.DELAY_PASSED, "x", at(6.0))
    steps += made.unprove(at(10.0))
    made.prove()
    made.handle(Signal.CONTACT_FAILED, "x", at(20.0))
    steps += made.handle(Signal.DELAY_PASSED, "x", at(25.0))
    assert [step.step for step in steps] == ["failed", "offline", "failed", "offline"]
    assert {step.outage for step in steps} == {WALL + 1000}


def test_the_next_outage_has_a_name_of_its_own() -> None:
    made = link(5.0)
    made.handle(Signal.CONTACT_FAILED, "x", at(1.0))
    made.handle(Signal.CONTACT_STEADY, "back", at(3.0))
    made.handle(Signal.NOTHING_WAITS, "x", at(4.0))
    (step,) = made.handle(Signal.CONTACT_FAILED, "x", at(5.0))
    assert step.outage == WALL + 5000
    assert made.outage_seconds(6.0) == 1.0


def test_an_outage_that_a_restart_found_has_lasted_since_its_first_failed_contact() -> None:
    made = link()
    made.resume(Resumed(State.RECOVERING, -20.0, WALL - 20_000, "back", WALL - 100_000, -20.0))
    assert made.outage_seconds(0.0) == 100.0
    (step,) = made.handle(Signal.CONTACT_FAILED, "x", at(5.0))
    assert step.outage == WALL - 100_000
    assert made.outage_seconds(5.0) == 105.0


def test_records_of_an_earlier_run_make_no_outage_until_contact_fails() -> None:
    made = link()
    made.resume(Resumed(State.RECOVERING, 0.0, WALL, "records of an earlier run wait", None, 0.0))
    assert made.outage_seconds(50.0) == 0.0
    (step,) = made.handle(Signal.CONTACT_FAILED, "x", at(50.0))
    assert step.outage == WALL + 50_000
    assert made.outage_seconds(60.0) == 10.0


def test_a_step_carries_the_boot_clock() -> None:
    (step,) = link().handle(Signal.CONTACT_FAILED, "x", at(7.5))
    assert (step.boot_id, step.boot_ms) == ("boot", 12_500)


@pytest.mark.parametrize("state", State)
def test_which_states_relay(state: State) -> None:
    assert state.relays == (state in (State.ONLINE, State.RECOVERING))


def test_an_outage_lasts_from_its_first_failed_contact() -> None:
    made = link(60.0)
    assert made.outage_seconds(100.0) == 0.0
    made.handle(Signal.CONTACT_FAILED, "x", at(10.0))
    assert made.outage_seconds(10.0) == 0.0
    made.handle(Signal.DELAY_PASSED, "x", at(70.0))
    assert made.outage_seconds(100.0) == 90.0
    made.handle(Signal.CONTACT_STEADY, "x", at(200.0))
    made.handle(Signal.NOTHING_WAITS, "x", at(210.0))
    assert made.outage_seconds(300.0) == 0.0


def test_a_proof_in_grace_begins_the_delay_anew_and_not_the_outage() -> None:
    """An outage lasts from the time that is its name."""
    made = in_state(State.GRACE, proven=False)
    made.prove()
    made.handle(Signal.CONTACT_FAILED, "x", at(1000.0))
    assert made.lost_at == 1000.0
    assert made.outage_seconds(1000.0) == 1000.0
