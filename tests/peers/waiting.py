"""Waiting for a condition. A test never sleeps for a time and hopes: it asks until the answer is right, or fails.

`eventually` is for what must come, `never_within` for what must stay away as long as the rule names.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NeverCame(AssertionError):
    """A condition that had to come true did not, in the time that was given."""


def eventually(condition: Callable[[], T], within: float = 5.0, saying: str = "", every: float = 0.01) -> T:
    """Ask `condition` each `every` seconds until it is true; return what it said.

    `saying` names the condition in the failure. Raises `NeverCame` after `within` seconds.
    """
    deadline = time.monotonic() + within
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise NeverCame(f"not within {within:g} s: {saying or condition!r}; last answer {answer!r}")
        time.sleep(every)


def never_within(condition: Callable[[], object], seconds: float, saying: str = "") -> None:
    """Fail as soon as `condition` comes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = condition()
        assert not answer, f"came within {seconds:g} s: {saying or condition!r}; {answer!r}"
        time.sleep(0.02)


def let_pass(seconds: float) -> None:
    """Let a random time pass: where the moment itself is what is tried, not a condition."""
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= until, within=seconds + 1)


def grows(count: Callable[[], int], by: int = 1, within: float = 10.0) -> None:
    """Wait until `count` has grown `by` so much since the call."""
    enough = count() + by
    eventually(lambda: count() >= enough, within, f"the count has grown by {by}")
