"""What a reader tells the page meters of its copier: every session once at its beginning and once at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.commands import Command
from proxy.events import Moment
from storage.answers import OpenSession
from tests.flows.pairs import CARD
from tests.flows.reader_house import DEVICE, OTHER, READER, ReaderHouse


class Meters:
    """They write down what they are told; `moves`: whether they move all the time."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.moves = False
        self.house: ReaderHouse | None = None

    def began(self, session: OpenSession, at: Moment) -> list[Command]:
        self.told.append(("began", session.card, session.mode.value))
        return []

    def ended(self, session: OpenSession, at: Moment) -> list[Command]:
        self.told.append(("ended", session.card, session.mode.value))
        return []

    def moved_at(self, session: str) -> float | None:
        return self.house.now if self.house is not None and self.moves else None


def with_meters(house: ReaderHouse) -> Meters:
    meters = Meters()
    meters.house = house
    house.listener._metered = house.listener._shared.metered = meters  # type: ignore[attr-defined]
    return meters


@pytest.fixture
def house(tmp_path: Path) -> ReaderHouse:
    house = ReaderHouse(tmp_path, reader_keys={"session_idle": 20.0})
    house.join()
    return house


def test_sessions_of_the_server_and_of_locum(house: ReaderHouse) -> None:
    meters = with_meters(house)
    house.swipe_card()
    house.go_offline()
    house.swipe_card(OTHER)
    house.swipe_card(CARD)
    house.swipe_card(CARD)
    assert meters.told == [
        ("began", CARD, "online"),
        ("ended", CARD, "online"),
        ("began", OTHER, "offline"),
        ("ended", OTHER, "offline"),
        ("began", CARD, "offline"),
        ("ended", CARD, "offline"),
    ]


def test_a_refused_card_ends_the_session_before_and_begins_none(house: ReaderHouse) -> None:
    meters = with_meters(house)
    house.go_offline()
    house.swipe_card()
    house.swipe_card("x-1")
    assert [what for what, _, _ in meters.told] == ["began", "ended"]


def test_a_session_whose_meters_move_is_not_idle(house: ReaderHouse) -> None:
    meters = with_meters(house)
    meters.moves = True
    house.go_offline()
    house.swipe_card()
    house.pass_time(60)
    assert house.site.sessions.on(DEVICE) is not None
    meters.moves = False
    house.pass_time(19)
    assert house.site.sessions.on(DEVICE) is not None
    house.pass_time(2)
    assert meters.told[-1] == ("ended", CARD, "offline")


def test_a_session_that_time_ends_is_told_too(house: ReaderHouse) -> None:
    """After an hour, whoever copies on."""
    meters = with_meters(house)
    meters.moves = True
    house.go_offline()
    house.swipe_card()
    house.wall += 3_600_000
    house.pass_time(2)
    assert meters.told == [("began", CARD, "offline"), ("ended", CARD, "offline")]
    assert house.logouts() == ["timeout"]


def test_a_restart_tells_of_the_session_that_is_open_again(house: ReaderHouse) -> None:
    house.go_offline()
    house.swipe_card()
    began = house.site.sessions.on(DEVICE)
    house.restart(1)
    assert house.listener._shared._followed == began  # type: ignore[attr-defined]
    meters = with_meters(house)
    house.swipe_card()
    assert meters.told == [("ended", CARD, "offline")]


def test_a_reader_that_is_not_in_the_config_any_more_ends_its_session(house: ReaderHouse) -> None:
    meters = with_meters(house)
    house.go_offline()
    house.swipe_card()
    house.run(house.listener.stop(house.moment()))  # type: ignore[attr-defined]
    assert meters.told[-1] == ("ended", CARD, "offline")
    assert house.card_reader.channel is None
    assert READER not in str(house.upstream.subscribers)
