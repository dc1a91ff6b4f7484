"""Houses for the flow tests; each is closed after its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.link import State
from tests.flows.house import House


@pytest.fixture
def make_house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    """`make_house(delay=..., ...)`: a Locum whose server was heard once."""
    with ExitStack() as stack:

        def make(**how: Any) -> House:
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            house = House(folder, **how)
            stack.callback(house.close)
            house.pass_time(0.1)
            return house

        yield make


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    """A Locum that is online."""
    return make_house()


@pytest.fixture
def offline(make_house: Callable[..., House]) -> House:
    """A Locum whose server has been silent for longer than the delay."""
    house = make_house()
    house.server_up = False
    house.until(State.OFFLINE)
    return house
