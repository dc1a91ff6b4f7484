"""One outage, one name: it ends when the upstream is online again, whatever comes between, a restart included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from proxy.link import State
from storage.reader import Reader
from tests.flows.house import House

Make = Callable[..., House]
Row = tuple[Any, ...]

CARD = "0A1B2C3D"


def lose(house: House, state: State = State.GRACE) -> None:
    """The server dies while records still wait."""
    house.server_up = False
    house.until(state)


def come_back(house: House, state: State = State.RECOVERING) -> None:
    """The server is there; ONLINE: it takes everything."""
    house.server_up = True
    if state is State.ONLINE:
        house.silent_for_session.clear()
    house.until(state)


def outages(house: House) -> list[Row]:
    return house.rows("SELECT started, offline, recovered, drained FROM outages")


def last_outage(house: House) -> dict[str, Any]:
    told = Reader(house.ledger.path, house.reader).last_outage()
    assert told is not None
    return told


@pytest.fixture
def recovering(make_house: Make) -> House:
    """A Locum whose server is back from an outage that led offline, and has not yet taken everything."""
    house = make_house(delay=10.0)
    house.move(State.RECOVERING)
    return house


def test_an_outage_that_flaps_is_one_row_until_nothing_waits(recovering: House) -> None:
    ((started, offline, recovered, drained),) = outages(recovering)
    assert recovered is not None
    assert drained is None
    recovering.pass_time(15)
    lose(recovering)
    assert outages(recovering) == [(started, offline, None, None)]
    recovering.until(State.OFFLINE)
    come_back(recovering)
    lose(recovering, State.OFFLINE)
    assert outages(recovering) == [(started, offline, None, None)]
    come_back(recovering, State.ONLINE)
    ((*same, again, at_last),) = outages(recovering)
    assert same == [started, offline]
    assert recovered < again <= at_last


def test_a_new_loss_after_everything_was_forwarded_is_another_outage(recovering: House) -> None:
    come_back(recovering, State.ONLINE)
    lose(recovering)
    first, second = outages(recovering)
    assert None not in first
    assert second[0] > first[3]
    assert second[1:] == (None, None, None)


def test_the_figures_of_status_are_those_of_the_whole_outage(make_house: Make) -> None:
    house = make_house(delay=10.0)
    house.move(State.RECOVERING)
    for number in range(3):
        lose(house, State.OFFLINE)
        house.swipe(CARD, device=f"copier-{number}")
        house.account(session="slow", job=f"in {number}", device="copier-9", pages=10)
        come_back(house)
    come_back(house, State.ONLINE)
    told = last_outage(house)
    pages = house.count("SELECT sum(pages) FROM jobs")
    assert (told["logins"], told["jobs"], told["pages"]) == (3, 4, pages)
    assert None not in (told["offline"], told["recovered"], told["drained"])


def test_an_outage_with_a_new_secret_in_it_is_one(recovering: House) -> None:
    lose(recovering, State.OFFLINE)
    name = recovering.upstream.link.outage_wall
    recovering.reload(secret=b"another secret of the server")
    assert recovering.state is State.GRACE
    assert recovering.upstream.link.outage_wall == name
    recovering.server_secret = b"another secret of the server"
    come_back(recovering, State.ONLINE)
    assert len(outages(recovering)) == 1


@pytest.mark.parametrize("state", [State.GRACE, State.OFFLINE, State.RECOVERING])
def test_a_restart_in_the_middle_of_an_outage_that_flaps_carries_its_name_on(recovering: House, state: State) -> None:
    recovering.pass_time(15)
    lose(recovering)
    if state is State.RECOVERING:
        come_back(recovering)
    elif state is State.OFFLINE:
        recovering.until(State.OFFLINE)
    name, lasted = recovering.upstream.link.outage_wall, recovering.upstream.link.outage_seconds(recovering.now)
    recovering.restart(down_for=3)
    assert recovering.state is state
    assert recovering.upstream.link.outage_wall == name
    assert recovering.upstream.link.outage_seconds(recovering.now) == pytest.approx(lasted + 3, abs=0.1)
    lose(recovering, State.OFFLINE)
    come_back(recovering, State.ONLINE)
    assert len(outages(recovering)) == 1


def test_after_a_restart_it_counts_when_offline_was_left_and_not_when_grace_was(recovering: House) -> None:
    """Straight back to offline within the delay of having left it; a later grace has a delay of its own."""
    recovering.pass_time(15)
    lose(recovering)
    come_back(recovering)
    recovering.restart(down_for=1)
    lose(recovering)
    recovering.pass_time(9)
    assert recovering.state is State.GRACE


def test_the_hours_of_an_outage_count_over_flaps_and_a_restart(make_house: Make) -> None:
    house = make_house(policy={"max_outage_hours": 1}, delay=10.0)
    house.move(State.RECOVERING)
    lose(house, State.OFFLINE)
    house.restart(down_for=3600)
    assert house.state is State.OFFLINE
    assert house.line(house.swipe(CARD)) == "Offline: the limit of 1 hours for an outage is reached"
