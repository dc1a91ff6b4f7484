"""Limits without a wire: what is reached, what is told, what is forgotten."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from proxy.admission import Policy
from proxy.commands import Tell
from proxy.limits import MOST_CARDS, Limits
from storage.answers import Overrun

NONE = Policy(True, "any-card", 86_400.0, True, re.compile(".*"))
BOTH = replace(NONE, max_pages_per_card=100, max_sessions_per_card=5)
CARD = "0A1B2C3D"


def used(pages: int, sessions: int) -> Limits:
    limits = Limits()
    limits.restore("hq", [Overrun(CARD, pages, sessions)])
    return limits


@pytest.mark.parametrize(
    ("pages", "sessions", "policy", "said"),
    [
        (10_000, 1000, NONE, ""),
        (99, 4, BOTH, ""),
        (100, 4, BOTH, "100 pages"),
        (99, 5, BOTH, "5 sessions"),
        (100, 5, BOTH, "100 pages"),
        (0, 0, replace(NONE, max_pages_per_card=0), "0 pages"),
    ],
)
def test_a_limit_is_reached_at_its_number(pages: int, sessions: int, policy: Policy, said: str) -> None:
    found = used(pages, sessions).reached(policy, "hq", CARD, 0.0)
    assert said in found
    assert bool(found) == bool(said)


def test_another_card_or_upstream_has_its_own_count() -> None:
    limits = used(100, 5)
    assert limits.reached(BOTH, "hq", "other", 0.0) == ""
    assert limits.reached(BOTH, "books", CARD, 0.0) == ""


def test_hours_stand_against_everybody() -> None:
    limits = Limits()
    limits.max_outage_hours = 2
    assert limits.reached(NONE, "hq", CARD, 7199.9) == ""
    assert "2 hours" in limits.reached(NONE, "hq", CARD, 7200.0)


def test_four_fifths_are_told_once_and_after_the_outage_again() -> None:
    limits = Limits()
    for _ in range(2):
        told = [limits.session(BOTH, "hq", CARD, "copier-1") for _ in range(8)]
        assert [len(each) for each in told] == [0, 0, 0, 1, 0, 0, 0, 0]
        limits.forget("hq")


def test_what_was_told_before_a_restart_is_not_told_again() -> None:
    limits = used(80, 3)
    assert limits.pages(BOTH, "hq", CARD, "copier-1", 1) == []
    (told,) = limits.session(BOTH, "hq", CARD, "copier-1")
    assert isinstance(told, Tell)
    assert "4 of the 5 sessions" in told.text


def test_pages_below_zero_take_nothing_away() -> None:
    limits = used(50, 1)
    limits.pages(BOTH, "hq", CARD, "copier-1", -1000)
    limits.pages(BOTH, "hq", CARD, "copier-1", 50)
    assert limits.reached(BOTH, "hq", CARD, 0.0)


def test_hours_are_told_once() -> None:
    limits = Limits()
    limits.max_outage_hours = 10
    assert [len(limits.hours("hq", hours * 3600.0)) for hours in (7, 7.9, 8, 9, 11)] == [0, 0, 1, 0, 0]
    limits.forget("hq")
    assert len(limits.hours("hq", 9 * 3600.0)) == 1


def test_no_more_cards_are_remembered_than_there_is_room_for() -> None:
    limits = Limits()
    for number in range(MOST_CARDS + 10):
        limits.session(BOTH, "hq", f"{number:08}", "copier-1")
    assert not limits.knows("hq", f"{0:08}")
    assert limits.knows("hq", f"{MOST_CARDS + 9:08}")
