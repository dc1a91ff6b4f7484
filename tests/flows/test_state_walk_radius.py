"""The state tables of offline-mode.md in RADIUS's own terms, walked whole: state x event; a pair that nobody listed
fails. What every dialect has words for is walked in `test_state_walk.py`.

`EXPECTED` says in words what comes of an event in a state; each event is a function that lets it happen in a house and
tells what came of it in the same words.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from protocols.radius.packet import Code, Type
from proxy.admission import METHOD_LINE, OFFLINE_LINE
from proxy.link import State
from tests.flows.house import House

Make = Callable[..., House]

CARD = "0A1B2C3D"
EAP = (Type.EAP_MESSAGE, b"\x02\x00\x00\x0d\x01" + b"0A1B2C3D")
EVENTS: dict[str, Callable[[House, State], str]] = {}


def event(happens: Callable[[House, State], str]) -> Callable[[House, State], str]:
    EVENTS[happens.__name__.replace("_", " ")] = happens
    return happens


# What came of it, in words


def answer_to(house: House, request: bytes) -> str:
    """Who answered a login or a record, and what."""
    answers = house.answers(request)
    if not answers:
        return "silence"
    assert len({(a.code, a.attributes) for a in answers}) == 1, "one request, two different answers"
    answer = answers[0]
    if answer.code == Code.ACCOUNTING_RESPONSE:
        word = "acknowledged"
    else:
        who = {b"welcome": "server", OFFLINE_LINE.encode(): "Locum", METHOD_LINE.encode(): "Locum"}
        what = {Code.ACCESS_ACCEPT: "granted", Code.ACCESS_REJECT: "refused"}[Code(answer.code)]
        word = f"{what} by {who[answer.get(Type.REPLY_MESSAGE) or b'']}"
    return word if len(answers) == 1 else f"{word} x{len(answers)}"


def login(house: House, *sends: str, name: str = CARD, attributes: tuple[tuple[int, bytes], ...] = ()) -> str:
    before = len(house.logins_at_server())
    packet = house.swipe(name, *attributes, device="copier-5")
    for _ in sends:
        house.swipe("", packet=packet)
    sent = house.logins_at_server()[before:]
    assert len({each.data for each in sent}) <= 1, "a repeat has the same bytes"
    relayed = {0: "", 1: "relayed, "}.get(len(sent), f"relayed x{len(sent)}, ")
    return relayed + answer_to(house, packet)


def kept(house: House, job: str) -> str:
    rows = house.rows("SELECT state FROM jobs LEFT JOIN outbox USING (seq) WHERE job_number = ?", job)
    if not rows:
        return "not kept"
    (state,) = rows.pop()
    assert not rows, "kept twice"
    return f"kept, {state or 'delivered'}"


def record(house: House, job: str, session: str, again: Callable[[bytes], bytes] | None = None) -> str:
    packet = house.account(session=session, job=job, device="copier-9")
    answer = answer_to(house, packet)
    if again is not None:
        second = again(packet)
        answer += ", again " + answer_to(house, second)
    return f"{kept(house, job)}, {answer}"


def steps(house: House, happens: Callable[[], None]) -> str:
    """The state it led to and the steps in the ledger on the way."""
    before = house.count("SELECT coalesce(max(seq), 0) FROM outage_events")
    happens()
    rows = house.rows("SELECT step, cause FROM outage_events WHERE seq > ? ORDER BY seq", before)
    assert all(cause for _, cause in rows)
    return ", ".join([*(step for step, _ in rows), house.state.value])


# Events


@event
def login_of_a_card(house: House, state: State) -> str:
    return login(house)


@event
def the_same_login_again(house: House, state: State) -> str:
    return login(house, "again")


@event
def login_of_a_user(house: House, state: State) -> str:
    return login(house, name="jsmith")


@event
def login_with_EAP(house: House, state: State) -> str:
    return login(house, attributes=(EAP,))


@event
def login_while_contacts_already_succeed(house: House, state: State) -> str:
    house.server_up = True
    house.pass_time(0.6)
    return login(house)


@event
def login_unanswered_while_contacts_already_succeed(house: House, state: State) -> str:
    house.server_up = True
    house.silent_for.add(CARD.encode())
    house.pass_time(0.6)
    packet = house.swipe(CARD, device="copier-5")
    house.pass_time(1.1)
    return answer_to(house, packet)


@event
def job(house: House, state: State) -> str:
    return record(house, "7", "s7")


@event
def the_same_job_again_byte_for_byte(house: House, state: State) -> str:
    def again(packet: bytes) -> bytes:
        house.to_devices.clear()
        return house.account(packet=packet)

    return record(house, "7", "s7", again)


@event
def the_same_job_again_with_another_identifier_and_delay(house: House, state: State) -> str:
    def again(packet: bytes) -> bytes:
        delay = (Type.ACCT_DELAY_TIME, (9).to_bytes(4, "big"))
        return house.account(delay, session="s7", job="7", device="copier-9")

    return record(house, "7", "s7", again)


@event
def job_whose_order_key_waits(house: House, state: State) -> str:
    if state is State.ONLINE:
        house.silent_for_session.add(b"slow")
        house.account(session="slow", job="of slow", device="copier-9")
        house.to_devices.clear()
    elif state is not State.RECOVERING:
        house.account(session="slow", job="of slow", device="copier-9")
    return record(house, "8", "slow")


@event
def job_that_the_server_leaves_unanswered(house: House, state: State) -> str:
    house.silent_for_session.add(b"s7")
    packet = house.account(session="s7", job="7", device="copier-9")
    at_once = answer_to(house, packet)
    house.pass_time(1.1)
    return f"{kept(house, '7')}, {at_once}, then {answer_to(house, packet)}"


@event
def accounting_on(house: House, state: State) -> str:
    packet = house.account(status=7, session="", pages=None, device="copier-9")
    rows = house.rows("SELECT event, state FROM accounting LEFT JOIN outbox USING (seq) ORDER BY seq DESC LIMIT 1")
    assert rows[0][0] == "on"
    return f"kept, {rows[0][1] or 'delivered'}, {answer_to(house, packet)}"


@event
def servers_answer_to_a_login(house: House, state: State) -> str:
    if state is State.OFFLINE:
        house.server_up = True
        house.pass_time(0.6)
    house.silent_for.add(CARD.encode())
    packet = house.swipe(CARD, device="copier-5")
    assert answer_to(house, packet) == "silence"
    house.late_answer(house.logins_at_server()[-1], Code.ACCESS_ACCEPT, ((Type.REPLY_MESSAGE, b"welcome"),))
    return answer_to(house, packet)


def after_an_offline_grant(house: House, state: State) -> str:
    house.server_up = True
    house.silent_for.add(CARD.encode())
    house.pass_time(0.6)
    packet = house.swipe(CARD, device="copier-5")
    house.pass_time(1.1)
    assert answer_to(house, packet) == "granted by Locum"
    (sent,) = house.logins_at_server()
    house.move(state)
    house.late_answer(sent, Code.ACCESS_REJECT)
    late, outcome = house.rows("SELECT late, outcome FROM logins WHERE decided_by = 'server' ORDER BY seq DESC")[0]
    assert late == 1
    facts = house.site.cards.facts(CARD)
    taught = "taught" if facts is not None and not facts.last_word_granted else "not taught"
    return f"{outcome} late, {taught}, {answer_to(house, packet)}"


EVENTS["late answer after an offline grant"] = after_an_offline_grant


def in_flight(house: House, state: State) -> str:
    """A record is in flight while ONLINE; its answer comes in `state`, before the device was acknowledged by Locum."""
    house.silent_for_session.add(b"s7")
    packet = house.account(session="s7", job="7", device="copier-9")
    (sent,) = house.records_at_server()
    house.server_up = house.accounting_up = state is State.ONLINE
    if state is not State.ONLINE:
        house.until(State.GRACE)
    if state is State.OFFLINE:
        house.until(State.OFFLINE)
    if state is State.RECOVERING:
        house.server_up = True
        house.until(State.RECOVERING)
    before = answer_to(house, packet)
    house.late_answer(sent, Code.ACCOUNTING_RESPONSE)
    copies = len({each.data for each in house.records_at_server()})
    house.accounting_up = house.server_up = True
    house.pass_time(8)
    assert len({each.data for each in house.records_at_server()}) == copies, "sent again after its acknowledgement"
    return f"{before}, then {kept(house, '7')}, {answer_to(house, packet)}"


EVENTS["servers answer to a record"] = in_flight


@event
def late_answer_to_a_record(house: House, state: State) -> str:
    house.server_up = True
    house.until(State.ONLINE)
    house.silent_for_session.add(b"s7")
    packet = house.account(session="s7", job="7", device="copier-9")
    (sent,) = house.records_at_server()
    house.pass_time(1.1)
    before = answer_to(house, packet)
    house.move(state)
    house.late_answer(sent, Code.ACCOUNTING_RESPONSE)
    return f"{before}, then {kept(house, '7')}, {answer_to(house, packet)}"


@event
def contact_failed(house: House, state: State) -> str:
    def happens() -> None:
        house.server_up = False
        house.swipe(CARD)
        house.pass_time(1.1)

    return steps(house, happens)


@event
def contact_steady(house: House, state: State) -> str:
    def happens() -> None:
        house.server_up = True
        house.pass_time(3)

    return steps(house, happens)


@event
def delay_passed(house: House, state: State) -> str:
    return steps(house, lambda: house.pass_time(house.delay))


@event
def nothing_waits(house: House, state: State) -> str:
    def happens() -> None:
        if house.server_up:
            house.silent_for_session.clear()
            house.pass_time(20)
        else:
            house.pass_time(0.1)
        assert house.upstream.outbox.empty

    return steps(house, happens)


@event
def storage_full_at_a_login(house: House, state: State) -> str:
    house.disk_full = True
    return login(house)


@event
def storage_full_at_a_job(house: House, state: State) -> str:
    house.disk_full = True
    word = record(house, "7", "s7")
    relayed = any(p.get(Type.ACCT_SESSION_ID) == b"s7" for p in house.book)
    house.disk_full = False
    house.account(session="s8", job="8")
    noted = house.count("SELECT count(*) FROM notes WHERE note = 'gap'")
    return f"{word}, {'relayed, ' if relayed else ''}{'gap noted' if noted else 'no gap'}"


@event
def restart(house: House, state: State) -> str:
    waiting = house.count("SELECT count(*) FROM outbox")
    house.restart(down_for=0.5)
    word = house.state.value
    assert house.count("SELECT count(*) FROM outbox WHERE state = 'waiting'") == waiting
    if waiting:
        assert not house.upstream.outbox.empty
    return f"{word}, {login(house)}"


@event
def reload_of_the_delay(house: House, state: State) -> str:
    def happens() -> None:
        house.reload(delay=0.0 if state is State.GRACE else 300.0)
        house.pass_time(0.1)

    return steps(house, happens)


@event
def secret_changed(house: House, state: State) -> str:
    house.reload(secret=b"another-secret")
    proven = "proven" if house.upstream.link.proven else "unproven"
    packet = house.swipe(CARD, device="copier-5")
    house.pass_time(8)
    return f"{proven}, {answer_to(house, packet)}"


@event
def address_changed(house: House, state: State) -> str:
    house.down.add("192.0.2.77")
    house.reload(addresses=("192.0.2.77",))
    proven = "proven" if house.upstream.link.proven else "unproven"
    packet = house.swipe(CARD, device="copier-5")
    house.pass_time(8)
    return f"{proven}, {answer_to(house, packet)}"


STARTS_OFFLINE = {"late answer after an offline grant", "late answer to a record"}
STARTS_ONLINE = {"servers answer to a record"}
"""Events that begin before the state that they are about."""

BY_SERVER = "relayed, granted by server"
RELAYED_JOB = "kept, delivered, acknowledged"
WAITING_JOB = "kept, waiting, acknowledged"
LATE = "refused late, taught, silence"
SETTLED = "acknowledged, then kept, delivered, acknowledged"
LATE_RECORD = "acknowledged, then kept, delivered, silence"
UNPROVEN = "unproven, silence"

#                                                   ONLINE, GRACE, OFFLINE, RECOVERING
_ROWS: dict[str, tuple[str, str, str, str]] = {
    "login of a card": (BY_SERVER, "relayed, silence", "granted by Locum", BY_SERVER),
    "the same login again": (
        "relayed, granted by server x2",
        "relayed x2, silence",
        "granted by Locum x2",
        "relayed, granted by server x2",
    ),
    "login of a user": (
        "relayed, refused by server",
        "relayed, silence",
        "refused by Locum",
        "relayed, refused by server",
    ),
    "login with EAP": (BY_SERVER, "relayed, silence", "silence", BY_SERVER),
    "login while contacts already succeed": (BY_SERVER, BY_SERVER, BY_SERVER, BY_SERVER),
    "login unanswered while contacts already succeed": ("silence", "silence", "granted by Locum", "silence"),
    "job": (RELAYED_JOB, WAITING_JOB, WAITING_JOB, RELAYED_JOB),
    "the same job again byte for byte": (
        f"{RELAYED_JOB}, again acknowledged",
        f"{WAITING_JOB}, again acknowledged",
        f"{WAITING_JOB}, again acknowledged",
        f"{RELAYED_JOB}, again acknowledged",
    ),
    "the same job again with another identifier and delay": (
        f"{RELAYED_JOB}, again acknowledged",
        f"{WAITING_JOB}, again acknowledged",
        f"{WAITING_JOB}, again acknowledged",
        f"{RELAYED_JOB}, again acknowledged",
    ),
    "job whose order key waits": (WAITING_JOB, WAITING_JOB, WAITING_JOB, WAITING_JOB),
    "job that the server leaves unanswered": (
        "kept, sent, silence, then acknowledged",
        "kept, waiting, acknowledged, then acknowledged",
        "kept, waiting, acknowledged, then acknowledged",
        "kept, sent, silence, then acknowledged",
    ),
    "accounting on": (RELAYED_JOB, WAITING_JOB, WAITING_JOB, RELAYED_JOB),
    "servers answer to a login": ("granted by server", "granted by server", "granted by server", "granted by server"),
    "late answer after an offline grant": (LATE, LATE, LATE, LATE),
    "servers answer to a record": ("silence, then kept, delivered, acknowledged", SETTLED, SETTLED, SETTLED),
    "late answer to a record": (LATE_RECORD, LATE_RECORD, LATE_RECORD, LATE_RECORD),
    "contact failed": ("failed, grace", "grace", "offline", "failed, offline, offline"),
    "contact steady": ("online", "recovered, drained, online", "recovered, drained, online", "recovering"),
    "delay passed": ("online", "offline, offline", "offline", "recovering"),
    "nothing waits": ("online", "grace", "offline", "drained, online"),
    "storage full at a login": (BY_SERVER, "relayed, silence", "silence", BY_SERVER),
    "storage full at a job": (
        "not kept, acknowledged, relayed, gap noted",
        "not kept, silence, no gap",
        "not kept, silence, no gap",
        "not kept, acknowledged, relayed, gap noted",
    ),
    "restart": (
        f"online, {BY_SERVER}",
        "grace, relayed, silence",
        "offline, granted by Locum",
        f"recovering, {BY_SERVER}",
    ),
    "reload of the delay": ("online", "offline, offline", "offline", "recovering"),
    "secret changed": (UNPROVEN, UNPROVEN, UNPROVEN, UNPROVEN),
    "address changed": (UNPROVEN, UNPROVEN, UNPROVEN, UNPROVEN),
}

STATES = (State.ONLINE, State.GRACE, State.OFFLINE, State.RECOVERING)
EXPECTED: dict[tuple[State, str], str] = {
    (state, event): words[place] for event, words in _ROWS.items() for place, state in enumerate(STATES)
}


@pytest.mark.parametrize(("state", "event"), list(product(State, EVENTS)), ids=lambda part: str(part).replace(" ", "-"))
def test_every_event_in_every_state(make_house: Make, state: State, event: str) -> None:
    assert (state, event) in EXPECTED, "nobody listed this pair"
    house = make_house()
    if event in STARTS_OFFLINE:
        house.move(State.OFFLINE)
    elif event not in STARTS_ONLINE:
        house.move(state)
        assert house.state is state
    assert EVENTS[event](house, state) == EXPECTED[state, event]


def test_what_is_listed_can_happen() -> None:
    assert set(EXPECTED) == set(product(State, EVENTS))
