"""The state tables of offline-mode.md, walked whole: pair of dialects x state x event; what nobody listed fails.

A pair is a listener's dialect and a server's. `EXPECTED` says in words what comes of an event in a state; each event is
a function that lets it happen in a house and tells what came of it in the same words. What only RADIUS has words for is
walked in `test_state_walk_radius.py`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import pytest

import proxy.dialects
from appliance.control import Refusal
from proxy.link import TABLE, Signal, State
from tests.flows import test_state_walk_reader as readers
from tests.flows.pairs import PairHouse

Pair = tuple[str, str]

PAIRS: tuple[Pair, ...] = (
    ("radius", "radius"),
    ("radius", "papercut"),
    ("terminal", "terminal"),
    ("terminal", "papercut"),
)
EDUCATION = {"environment": "education"}
EVENTS: dict[str, Callable[[PairHouse], str]] = {}


def event(happens: Callable[[PairHouse], str]) -> Callable[[PairHouse], str]:
    EVENTS[happens.__name__.removeprefix("a_").replace("_", " ")] = happens
    return happens


def steps(house: PairHouse, happens: Callable[[], None]) -> str:
    """The state it led to and the steps in the ledger on the way."""
    before = house.count("SELECT coalesce(max(seq), 0) FROM outage_events")
    happens()
    rows = house.rows("SELECT step, cause FROM outage_events WHERE seq > ? ORDER BY seq", before)
    assert all(cause for _, cause in rows)
    return ", ".join([*(step for step, _ in rows), house.state.value])


# Events


@event
def a_login_of_a_card(house: PairHouse) -> str:
    return house.login()


@event
def a_login_of_a_user(house: PairHouse) -> str:
    return house.login(name="jsmith", password="secret")


@event
def a_login_while_contacts_already_succeed(house: PairHouse) -> str:
    house.set_server(True)
    house.pass_time(0.6)
    return house.login()


@event
def a_login_unanswered_while_contacts_already_succeed(house: PairHouse) -> str:
    house.silence_logins()
    house.set_server(True)
    house.pass_time(0.6)
    return house.login()


@event
def a_job_of_an_open_session(house: PairHouse) -> str:
    house.login()
    return house.job(7, device="copier-5")


@event
def a_job_of_no_session(house: PairHouse) -> str:
    return house.job(7)


@event
def the_same_job_again(house: PairHouse) -> str:
    return house.job(7, again=True)


@event
def a_login_on_a_device_that_asks_for_a_code(house: PairHouse) -> str:
    house.reload(policy=EDUCATION)
    return house.login()


@event
def a_right_code(house: PairHouse) -> str:
    house.reload(policy=EDUCATION)
    word = house.code()
    return f"{word}, {house.site.shown('copier-5', house.upstream)}"


@event
def a_wrong_code(house: PairHouse) -> str:
    house.reload(policy=EDUCATION)
    word = house.code("135791")
    return f"{word}, {house.site.shown('copier-5', house.upstream)}"


@event
def an_unlock_by_hand(house: PairHouse) -> str:
    house.reload(policy=EDUCATION)
    house.login()
    try:
        house.hand("unlock", device="copier-5", scope="until-restored")
    except Refusal as refusal:
        return f"refused, {'not offline' if 'not offline' in str(refusal) else refusal}"
    return house.login()


@event
def a_drill(house: PairHouse) -> str:
    house.login()
    house.hand("drill-start", device="copier-5", seconds=60, reason="walk")
    word = house.login()
    modes = house.rows("SELECT mode FROM logins WHERE decided_by = 'locum' ORDER BY seq DESC LIMIT 1")
    job = house.job(7, device="copier-5")
    house.hand("drill-stop", device="copier-5")
    house.pass_time(3)
    (after,) = house.rows("SELECT state FROM jobs LEFT JOIN outbox USING (seq) WHERE job_number = '7'")[0]
    return f"{word} ({modes[0][0]}), {job}, then {after or 'delivered'}"


@event
def a_drill_where_a_code_is_asked_for(house: PairHouse) -> str:
    house.reload(policy=EDUCATION)
    house.login()
    house.hand("drill-start", device="copier-5", seconds=60, reason="walk")
    return f"{house.login()}, {house.site.shown('copier-5', house.upstream)}, {house.code()}"


@event
def a_login_at_the_limit_of_sessions(house: PairHouse) -> str:
    house.reload(policy={"max_sessions_per_card": 1})
    house.login()
    return house.login()


@event
def storage_full_when_a_card_logs_in(house: PairHouse) -> str:
    house.disk_full = True
    return house.login()


@event
def storage_full_when_a_job_comes(house: PairHouse) -> str:
    house.login()
    house.disk_full = True
    word = house.job(7, device="copier-5")
    house.disk_full = False
    house.job(8)
    noted = house.count("SELECT count(*) FROM notes WHERE note = 'gap'")
    return f"{word}, {'gap noted' if noted else 'no gap'}"


@event
def the_server_falls_silent(house: PairHouse) -> str:
    def happens() -> None:
        house.set_server(False)
        house.login()
        house.pass_time(3)

    return steps(house, happens)


@event
def the_server_is_there(house: PairHouse) -> str:
    def happens() -> None:
        house.set_server(True)
        house.pass_time(6)

    return steps(house, happens)


@event
def the_delay_passes(house: PairHouse) -> str:
    return steps(house, lambda: house.pass_time(house.delay))


@event
def the_outbox_runs_empty(house: PairHouse) -> str:
    def happens() -> None:
        house.hold_slow(False)
        house.pass_time(20 if house.server_up else 0.1)

    return steps(house, happens)


@event
def a_restart_of_locum(house: PairHouse) -> str:
    waiting = house.count("SELECT count(*) FROM outbox WHERE state = 'waiting'")
    house.restart(down_for=0.5)
    house.pass_time(0.1)
    assert house.count("SELECT count(*) FROM outbox WHERE state = 'waiting'") == waiting
    return f"{house.state.value}, {house.login()}"


BY_SERVER = "relayed, granted by server"

# What is the same in all pairs, and what each has of its own. ONLINE, GRACE, OFFLINE, RECOVERING
ALIKE: dict[str, tuple[str, str, str, str]] = {
    "login while contacts already succeed": (BY_SERVER, BY_SERVER, BY_SERVER, BY_SERVER),
    "job of an open session": (
        "kept, delivered, acknowledged",
        "kept, waiting, acknowledged",
        "kept, waiting, acknowledged",
        "kept, delivered, acknowledged",
    ),
    "right code": ("not offline, online", "not offline, grace", "unlocked, unlocked-once", "not offline, recovering"),
    "wrong code": ("not offline, online", "not offline, grace", "wrong, locked", "not offline, recovering"),
    "an unlock by hand": ("refused, not offline", "refused, not offline", "granted by Locum", "refused, not offline"),
    "drill": (
        "granted by Locum (drill), kept, waiting, acknowledged, then delivered",
        "granted by Locum (drill), kept, waiting, acknowledged, then waiting",
        "granted by Locum (offline), kept, waiting, acknowledged, then waiting",
        "granted by Locum (drill), kept, waiting, acknowledged, then delivered",
    ),
    "drill where a code is asked for": (
        "locked, locked, unlocked",
        "locked, locked, unlocked",
        "locked, locked, unlocked",
        "locked, locked, unlocked",
    ),
    "the server falls silent": ("failed, offline, offline", "grace", "offline", "failed, offline, offline"),
    "the server is there": ("online", "recovered, drained, online", "recovered, drained, online", "recovering"),
    "the delay passes": ("online", "offline, offline", "offline", "recovering"),
    "the outbox runs empty": ("online", "grace", "offline", "drained, online"),
}
ROWS: dict[Pair, dict[str, tuple[str, str, str, str]]] = {
    ("radius", "radius"): {
        **ALIKE,
        "login of a card": (BY_SERVER, "relayed, silence", "granted by Locum", BY_SERVER),
        "login of a user": ("refused by server", "silence", "refused by Locum", "refused by server"),
        "login unanswered while contacts already succeed": (
            "relayed, silence",
            "relayed, silence",
            "relayed, granted by Locum",
            "relayed, silence",
        ),
        "job of no session": (
            "kept, delivered, acknowledged",
            "kept, waiting, acknowledged",
            "kept, waiting, acknowledged",
            "kept, delivered, acknowledged",
        ),
        "the same job again": (
            "kept, delivered, acknowledged, again acknowledged",
            "kept, waiting, acknowledged, again acknowledged",
            "kept, waiting, acknowledged, again acknowledged",
            "kept, delivered, acknowledged, again acknowledged",
        ),
        "login on a device that asks for a code": (BY_SERVER, "relayed, silence", "locked", BY_SERVER),
        "login at the limit of sessions": (BY_SERVER, "relayed, silence", "refused by Locum", BY_SERVER),
        "storage full when a card logs in": (
            "relayed, granted, not written down",
            "relayed, silence",
            "silence",
            "relayed, granted, not written down",
        ),
        "storage full when a job comes": (
            "not kept, acknowledged, gap noted",
            "not kept, silence, no gap",
            "not kept, silence, no gap",
            "not kept, acknowledged, gap noted",
        ),
        "restart of locum": (
            "online, relayed, granted by server",
            "grace, relayed, silence",
            "offline, granted by Locum",
            "recovering, relayed, granted by server",
        ),
    },
    ("radius", "papercut"): {
        **ALIKE,
        "login of a card": (BY_SERVER, "silence", "granted by Locum", BY_SERVER),
        "login of a user": ("refused by Locum", "refused by Locum", "refused by Locum", "refused by Locum"),
        "login unanswered while contacts already succeed": (
            "relayed, silence",
            "relayed, silence",
            "relayed, granted by Locum",
            "relayed, silence",
        ),
        "job of no session": (
            "kept, waiting, acknowledged",
            "kept, waiting, acknowledged",
            "kept, waiting, acknowledged",
            "kept, waiting, acknowledged",
        ),
        "the same job again": (
            "kept, waiting, acknowledged, again acknowledged",
            "kept, waiting, acknowledged, again acknowledged",
            "kept, waiting, acknowledged, again acknowledged",
            "kept, waiting, acknowledged, again acknowledged",
        ),
        "login on a device that asks for a code": (BY_SERVER, "silence", "locked", BY_SERVER),
        "login at the limit of sessions": (BY_SERVER, "silence", "refused by Locum", BY_SERVER),
        "storage full when a card logs in": (
            "relayed, granted, not written down",
            "silence",
            "silence",
            "relayed, granted, not written down",
        ),
        "storage full when a job comes": (
            "not kept, silence, no gap",
            "not kept, silence, no gap",
            "not kept, silence, no gap",
            "not kept, silence, no gap",
        ),
        "restart of locum": (
            "online, relayed, granted by server",
            "grace, silence",
            "offline, granted by Locum",
            "recovering, relayed, granted by server",
        ),
    },
    ("terminal", "terminal"): {
        **ALIKE,
        "login of a card": (BY_SERVER, "unavailable", "granted by Locum", BY_SERVER),
        "login of a user": ("granted by server", "unavailable", "refused by Locum", "granted by server"),
        "login unanswered while contacts already succeed": (
            "relayed, unavailable",
            "relayed, unavailable",
            "relayed, granted by Locum",
            "relayed, unavailable",
        ),
        "job of no session": (
            "kept, delivered, acknowledged",
            "kept, waiting, acknowledged",
            "kept, waiting, acknowledged",
            "kept, delivered, acknowledged",
        ),
        "the same job again": (
            "kept, delivered, acknowledged, again acknowledged",
            "kept, waiting, acknowledged, again acknowledged",
            "kept, waiting, acknowledged, again acknowledged",
            "kept, delivered, acknowledged, again acknowledged",
        ),
        "login on a device that asks for a code": (BY_SERVER, "unavailable", "locked", BY_SERVER),
        "login at the limit of sessions": (BY_SERVER, "unavailable", "refused by Locum", BY_SERVER),
        "storage full when a card logs in": (
            "relayed, granted, not written down",
            "unavailable",
            "unavailable",
            "relayed, granted, not written down",
        ),
        "storage full when a job comes": (
            "not kept, acknowledged, gap noted",
            "not kept, later, no gap",
            "not kept, later, no gap",
            "not kept, acknowledged, gap noted",
        ),
        "restart of locum": (
            "online, relayed, granted by server",
            "grace, unavailable",
            "offline, granted by Locum",
            "recovering, relayed, granted by server",
        ),
    },
    ("terminal", "papercut"): {
        **ALIKE,
        "login of a card": (BY_SERVER, "unavailable", "granted by Locum", BY_SERVER),
        "login of a user": ("refused by Locum", "refused by Locum", "refused by Locum", "refused by Locum"),
        "login unanswered while contacts already succeed": (
            "relayed, unavailable",
            "relayed, unavailable",
            "relayed, granted by Locum",
            "relayed, unavailable",
        ),
        "job of no session": (
            "kept, waiting, acknowledged",
            "kept, waiting, acknowledged",
            "kept, waiting, acknowledged",
            "kept, waiting, acknowledged",
        ),
        "the same job again": (
            "kept, waiting, acknowledged, again acknowledged",
            "kept, waiting, acknowledged, again acknowledged",
            "kept, waiting, acknowledged, again acknowledged",
            "kept, waiting, acknowledged, again acknowledged",
        ),
        "login on a device that asks for a code": (BY_SERVER, "unavailable", "locked", BY_SERVER),
        "login at the limit of sessions": (BY_SERVER, "unavailable", "refused by Locum", BY_SERVER),
        "storage full when a card logs in": (
            "relayed, granted, not written down",
            "unavailable",
            "unavailable",
            "relayed, granted, not written down",
        ),
        "storage full when a job comes": (
            "not kept, later, no gap",
            "not kept, later, no gap",
            "not kept, later, no gap",
            "not kept, later, no gap",
        ),
        "restart of locum": (
            "online, relayed, granted by server",
            "grace, unavailable",
            "offline, granted by Locum",
            "recovering, relayed, granted by server",
        ),
    },
}
STATES = (State.ONLINE, State.GRACE, State.OFFLINE, State.RECOVERING)
EXPECTED: dict[tuple[Pair, State, str], str] = {
    (pair, state, event): words[place]
    for pair, rows in ROWS.items()
    for event, words in rows.items()
    for place, state in enumerate(STATES)
}


def named(part: object) -> str:
    return "-".join(part) if isinstance(part, tuple) else str(part).replace(" ", "-")


@pytest.fixture
def make_pair(tmp_path: Path) -> Iterator[Callable[[Pair], PairHouse]]:
    """Makes a house of two dialects whose server was heard."""
    with ExitStack() as stack:

        def make(pair: Pair) -> PairHouse:
            house = PairHouse(tmp_path, devices_speak=pair[0], server_speaks=pair[1])
            stack.callback(house.close)
            house.pass_time(2)
            return house

        yield make


@pytest.mark.parametrize(("pair", "state", "event"), list(product(PAIRS, State, EVENTS)), ids=named)
def test_every_event_in_every_state_of_every_pair_of_dialects(
    make_pair: Callable[[Pair], PairHouse], pair: Pair, state: State, event: str
) -> None:
    assert (pair, state, event) in EXPECTED, "nobody listed this"
    house = make_pair(pair)
    if state is not State.ONLINE:
        house.move(state)
    assert EVENTS[event](house) == EXPECTED[pair, state, event]


def test_what_is_listed_can_happen() -> None:
    assert set(EXPECTED) == set(product(PAIRS, State, EVENTS))


def test_every_dialect_that_is_built_is_walked() -> None:
    built = {module.name for module in pkgutil.iter_modules(proxy.dialects.__path__)}
    assert {dialect for pair in (*PAIRS, *readers.PAIRS) for dialect in pair} == built


def test_the_links_table_is_complete() -> None:
    assert set(TABLE) == set(product(State, Signal))
