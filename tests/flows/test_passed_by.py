"""In line without rules in the kernel: the server's silence says nothing, for its answers pass by Locum.

`proxy.upstream`, `passed_by`; who says it is `appliance/inline/working.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.link import State
from proxy.upstream import HEARS_AGAIN
from tests.flows.in_line_house import InLineHouse

SECOND = 1.0


@pytest.fixture
def house(tmp_path: Path) -> Iterator[InLineHouse]:
    made = InLineHouse(tmp_path)
    made.pass_time(0.1)
    made.swipe("0A1B2C3D")
    made.pass_time(SECOND)
    assert made.state is State.ONLINE
    yield made
    made.close()


def passed_by(house: InLineHouse, seconds: float) -> None:
    """Nothing comes here for so long: neither what is asked nor what is answered."""
    house.server_up = False
    for _ in range(round(seconds / SECOND)):
        house.upstream.passed_by(house.moment())
        house.pass_time(SECOND)


def steps(house: InLineHouse) -> int:
    return house.count("SELECT count(*) FROM outages")


def test_no_outage_is_noted_while_everything_passes(house: InLineHouse) -> None:
    passed_by(house, 120)
    house.server_up = True
    house.pass_time(30)
    assert (house.state, steps(house)) == (State.ONLINE, 0)


def test_a_server_that_stays_silent_afterwards_is_away(house: InLineHouse) -> None:
    passed_by(house, 120)
    house.until(State.OFFLINE)
    assert steps(house) > 0


def test_grace_goes_on_where_it_was_when_answers_come_here_again(house: InLineHouse) -> None:
    house.server_up = False
    house.until(State.GRACE)
    passed_by(house, 120)
    assert (house.state, steps(house)) == (State.GRACE, 1)
    house.pass_time(house.upstream.answer_timeout + HEARS_AGAIN - 0.5)
    house.until(State.OFFLINE, SECOND)
