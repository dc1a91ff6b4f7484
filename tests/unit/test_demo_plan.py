"""Which copiers the demo has, and how it shares out the jobs: for any number of either."""

import pytest

from appliance.demo.floor import places_of
from appliance.demo.people import BROKE, TYPIST, VISITOR, Turn, share_out, who_copies
from appliance.demo.plan import Plan
from appliance.simulator.lab import AnyCopier
from appliance.simulator.terminal import TerminalCopier
from appliance.simulator.users import shipped_users


class Standing:
    """Copiers that nobody switched on: the plan only names them."""

    def __init__(self, count: int) -> None:
        copiers: list[tuple[bool, AnyCopier]] = [(place.library, _unplugged(place.name)) for place in places_of(count)]
        self.office = [copier for library, copier in copiers if not library]
        self.library = [copier for library, copier in copiers if library]


def _unplugged(name: str) -> AnyCopier:
    copier = object.__new__(TerminalCopier)
    copier.name = name
    return copier


def test_five_copiers_are_an_office_with_one_that_speaks_radius_and_a_library_with_two() -> None:
    found = [(place.name, place.library, place.radius) for place in places_of(5)]
    assert found == [
        ("office-1", False, False),
        ("office-2", False, False),
        ("office-3", False, True),
        ("library-1", True, False),
        ("library-2", True, False),
    ]


@pytest.mark.parametrize(("count", "library", "radius"), [(1, 0, 0), (2, 1, 0), (3, 1, 1), (4, 2, 1), (50, 2, 1)])
def test_any_number_of_copiers_begins_with_an_offices_terminal(count: int, library: int, radius: int) -> None:
    places = places_of(count)
    assert len({place.name for place in places}) == count
    assert (sum(place.library for place in places), sum(place.radius for place in places)) == (library, radius)
    assert (places[0].library, places[0].radius) == (False, False)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 50])
@pytest.mark.parametrize("jobs", [0, 1, 2, 7, 60, 2000])
def test_every_job_is_somebodys_and_the_first_one_the_visitors(count: int, jobs: int) -> None:
    plan = Plan(Standing(count), shipped_users(), jobs)  # type: ignore[arg-type]
    library = [turn for turn in (plan.once, plan.until_restored) if turn is not None]
    turns = [*plan.morning, *plan.outage, *library, *plan.kill, *plan.second, *plan.evening]
    assert sum(turn.jobs for turn in turns) == jobs
    assert [turn.person for turn in turns].count(VISITOR) == 1
    assert plan.second[0].person is VISITOR
    assert plan.second[0].jobs >= min(1, jobs)
    assert (plan.stays in plan.morning, plan.comes_in in plan.outage) == (True, True)


def test_jobs_are_shared_out_evenly() -> None:
    copier = _unplugged("office-1")
    turns = [Turn(copier, VISITOR) for _ in range(7)]
    share_out(16, turns, [turns[5]])
    assert sorted(turn.jobs for turn in turns) == [2, 2, 2, 2, 2, 3, 3]
    assert turns[5].jobs == 3


def test_nobody_who_may_run_out_of_credit_copies_in_the_demo() -> None:
    people = who_copies(shipped_users())
    assert len(people) > 10
    assert not any(user.restricted or user.username in (BROKE, TYPIST) for user in people)
