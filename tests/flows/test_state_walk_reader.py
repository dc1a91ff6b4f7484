"""The state tables of offline-mode.md, walked whole for card readers: server's dialect x state x event.

As `test_state_walk.py`, for a dialect that says less: a reader has cards, no codes and no jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import pytest

from appliance.control import Refusal
from protocols.terminal.messages import encode
from proxy.link import State
from storage.answers import Stored
from storage.records import Counts, Mode, Personal, Record
from tests.flows.pairs import CARD, SLOW_CARD, SLOW_JOB
from tests.flows.reader_house import ADMINS, DEVICE, OTHER, READER, ReaderHouse
from tests.flows.terminal_house import job

PAIRS = (("cardreader", "papercut"), ("cardreader", "terminal"))
EDUCATION = {"environment": "education"}
WORDS = {
    b"b": "the server's beep",
    b"e": "the server's error",
    b"b\r\nb\r\n": "two beeps",
    b"e\r\n": "error",
    b"b\r\n\r\n": "one beep",
    b"b\r\nb\r\nb\r\n\r\n": "three beeps",
    b"": "silence",
}
EVENTS: dict[str, Callable[[ReaderHouse], str]] = {}


def event(happens: Callable[[ReaderHouse], str]) -> Callable[[ReaderHouse], str]:
    EVENTS[happens.__name__.removeprefix("a_").replace("_", " ")] = happens
    return happens


def swiped(house: ReaderHouse, card: str = CARD) -> str:
    """What the reader hears of a card, whether the server has seen it, and what is written down."""
    rows = house.last_seq()
    house.desk.take()
    heard = WORDS[house.swipe_card(card, wait=1.5).replace(b"\r\n\r\n", b"\r\n\r\n")]
    shown = "shown, " if card.encode() in house.desk.take() else ""
    by = house.rows("SELECT outcome, decided_by, mode FROM logins WHERE seq > ? ORDER BY seq DESC LIMIT 1", rows)
    return f"{shown}{heard}, {' '.join(by[0]) if by else 'not written down'}"


@event
def a_card(house: ReaderHouse) -> str:
    return swiped(house)


@event
def a_card_that_the_server_refuses(house: ReaderHouse) -> str:
    return swiped(house, "99999999")


@event
def a_card_that_the_server_leaves_unanswered(house: ReaderHouse) -> str:
    house.attentive = False
    return swiped(house)


@event
def a_card_while_the_servers_line_is_cut(house: ReaderHouse) -> str:
    house.cut(house.desk, down=True)
    return swiped(house)


@event
def a_card_while_contacts_already_succeed(house: ReaderHouse) -> str:
    super(ReaderHouse, house).set_server(True)
    house.pass_time(0.6)
    return swiped(house)


@event
def the_same_card_again(house: ReaderHouse) -> str:
    house.swipe_card(wait=1.5)
    said = swiped(house)
    return f"{said}, {', '.join(house.logouts()) or 'no session'}"


@event
def another_card(house: ReaderHouse) -> str:
    house.swipe_card(wait=1.5)
    said = swiped(house, OTHER)
    return f"{said}, {', '.join(house.logouts()) or 'no session'}"


@event
def a_card_where_a_code_is_asked_for(house: ReaderHouse) -> str:
    house.reload(policy=EDUCATION)
    return swiped(house)


@event
def the_unlock_card(house: ReaderHouse) -> str:
    house.reload(policy=EDUCATION)
    said = swiped(house, ADMINS)
    return f"{said}, {house.site.shown(DEVICE, house.upstream)}"


@event
def an_unlock_by_hand(house: ReaderHouse) -> str:
    house.reload(policy=EDUCATION)
    try:
        house.hand("unlock", device=DEVICE, scope="until-restored")
    except Refusal:
        return "refused"
    return swiped(house)


@event
def a_drill(house: ReaderHouse) -> str:
    house.hand("drill-start", device=DEVICE, seconds=60, reason="walk")
    said = swiped(house)
    house.swipe_card()
    house.hand("drill-stop", device=DEVICE)
    house.pass_time(1)
    return f"{said}; then {'Locum serves' if house.listener.locum_serves else 'the server serves'}"  # type: ignore[attr-defined]


@event
def a_card_at_the_limit_of_sessions(house: ReaderHouse) -> str:
    house.reload(policy={"max_sessions_per_card": 1})
    house.swipe_card(wait=1.5)
    house.site.end(DEVICE, "logout", house.moment())
    return swiped(house)


@event
def storage_full_when_a_card_comes(house: ReaderHouse) -> str:
    house.disk_full = True
    return swiped(house)


@event
def offline_mode_disabled(house: ReaderHouse) -> str:
    house.reload(policy={"enabled": False})
    house.pass_time(0.1)
    return swiped(house)


@event
def a_restart_of_locum(house: ReaderHouse) -> str:
    house.restart(0.5)
    if house.desk.up:
        house.accept(house.desk, "192.0.2.1")
        house.pass_time(0.5)
    return f"{house.state.value}, {swiped(house)}"


SERVERS = "shown, the server's beep, granted server online"
NOBODYS = "error, unanswered nobody online"
LOCUMS = "two beeps, granted locum offline"
UNANSWERED = "shown, silence, unanswered nobody online"
# ONLINE, GRACE, OFFLINE, RECOVERING
ALIKE: dict[str, tuple[str, str, str, str]] = {
    "card": (SERVERS, NOBODYS, LOCUMS, SERVERS),
    "card that the server refuses": (
        "shown, the server's error, refused server online",
        NOBODYS,
        LOCUMS,
        "shown, the server's error, refused server online",
    ),
    "card that the server leaves unanswered": (UNANSWERED, NOBODYS, LOCUMS, UNANSWERED),
    "card while the servers line is cut": (NOBODYS, NOBODYS, LOCUMS, NOBODYS),
    "card while contacts already succeed": (SERVERS, NOBODYS, LOCUMS, SERVERS),
    "the same card again": (
        "shown, the server's beep, not written down, logout",
        f"{NOBODYS}, no session",
        "one beep, not written down, logout",
        "shown, the server's beep, not written down, logout",
    ),
    "another card": (
        f"{SERVERS}, next-login",
        f"{NOBODYS}, no session",
        f"{LOCUMS}, next-login",
        f"{SERVERS}, next-login",
    ),
    "card where a code is asked for": (SERVERS, NOBODYS, "error, locked locum offline", SERVERS),
    "the unlock card": (
        "shown, the server's error, refused server online, online",
        f"{NOBODYS}, grace",
        "one beep, not written down, unlocked-once",
        "shown, the server's error, refused server online, recovering",
    ),
    "an unlock by hand": ("refused", "refused", LOCUMS, "refused"),
    "drill": (
        "two beeps, granted locum drill; then the server serves",
        "two beeps, granted locum drill; then the server serves",
        f"{LOCUMS}; then Locum serves",
        "two beeps, granted locum drill; then the server serves",
    ),
    "card at the limit of sessions": (SERVERS, NOBODYS, "error, refused locum offline", SERVERS),
    "storage full when a card comes": (
        "shown, the server's beep, not written down",
        "error, not written down",
        "error, not written down",
        "shown, the server's beep, not written down",
    ),
    "offline mode disabled": (SERVERS, NOBODYS, NOBODYS, SERVERS),
    "restart of locum": (f"online, {SERVERS}", f"grace, {NOBODYS}", f"offline, {LOCUMS}", f"recovering, {SERVERS}"),
}
EXPECTED = {
    (pair, state, name): said
    for pair in PAIRS
    for name, row in ALIKE.items()
    for state, said in zip(State, row, strict=True)
}


class NobodyWaits:
    """No device waits for the record that is put into the outbox."""

    def answered(self, attributes: object, at: object) -> list[object]:
        return []

    def unanswered(self, at: object) -> list[object]:
        return []


def wait_with_a_record(house: ReaderHouse) -> None:
    """Something waits that cannot be delivered, so that RECOVERING lasts."""
    moment = house.moment()
    record = Record(
        at=moment.wall,
        dialect=house.server_speaks,
        upstream="hq",
        device="copier-9",
        client=READER,
        event="stop",
        session="slow",
        mode=Mode.OFFLINE,
        order_key="slow",
        personal=Personal(card=SLOW_CARD, raw=encode(job(1, SLOW_JOB), 1)),
        counts=Counts("copy", 1),
    )
    (stored,) = house.ledger.commit([record])
    assert isinstance(stored, Stored)
    commands, _ = house.upstream.take_over(record, stored, NobodyWaits(), moment)  # type: ignore[arg-type]
    house.run(commands)


def bring(house: ReaderHouse, state: State) -> None:
    if state is State.GRACE:
        house.reload(delay=30.0)
    if state is not State.ONLINE:
        house.set_server(False)
        house.until(State.GRACE if state is State.GRACE else State.OFFLINE)
    if state is State.RECOVERING:
        house.hold_slow(True)
        wait_with_a_record(house)
        house.set_server(True)
        house.until(State.RECOVERING)
        house.pass_time(1)
        house.accept(house.desk, "192.0.2.1")
        house.pass_time(0.2)
    house.told.clear()
    house.card_reader.take()


@pytest.fixture
def make_house(tmp_path: Path) -> Iterator[Callable[[str], ReaderHouse]]:
    with ExitStack() as stack:

        def make(server: str) -> ReaderHouse:
            house = ReaderHouse(tmp_path, server_speaks=server)
            stack.callback(house.close)
            house.site.unlocking.card_hash = f"hash of {ADMINS}"
            house.join()
            return house

        yield make


@pytest.mark.parametrize(("pair", "state", "event"), list(product(PAIRS, State, EVENTS)), ids=str)
def test_every_event_in_every_state_before_each_server(
    make_house: Callable[[str], ReaderHouse], pair: tuple[str, str], state: State, event: str
) -> None:
    assert (pair, state, event) in EXPECTED, "nobody listed this"
    house = make_house(pair[1])
    bring(house, state)
    assert house.state is state
    assert EVENTS[event](house) == EXPECTED[pair, state, event]


def test_what_is_listed_can_happen() -> None:
    assert set(EXPECTED) == set(product(PAIRS, State, EVENTS))
