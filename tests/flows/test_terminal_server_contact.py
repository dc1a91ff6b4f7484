"""A terminal server as upstream: what is contact, when it has failed, when it is steady; probes and addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocols.terminal.frames import Type
from protocols.terminal.messages import FORWARDER, Error, Hello, Pong, encode
from proxy.link import State
from tests.flows.terminal_server_house import HERE, THERE, Asked, AtServer, ServerHouse

Make = Callable[..., ServerHouse]
PROBE = "locum-1-probe"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:

        def made(**how: Any) -> ServerHouse:
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            house = ServerHouse(folder, **how)
            stack.callback(house.close)
            house.pass_time(1)
            return house

        yield made


@pytest.fixture
def house(make: Make) -> ServerHouse:
    return make()


def deaf_to(*deaf: AtServer) -> Callable[[Asked], bytes | None]:
    return lambda asked: b"" if any(asked.connection is each for each in deaf) else None


def test_probes_have_a_connection_and_a_name_of_their_own(house: ServerHouse) -> None:
    house.line()
    house.job(1, session=1 << 63)
    hellos = {asked.connection.device: asked.message for asked in house.got(Type.HELLO)}
    assert set(hellos) == {PROBE, "mfp-1", "locum-1"}
    assert hellos[PROBE] == Hello(PROBE, "Locum", "", FORWARDER)
    assert hellos["locum-1"] == Hello("locum-1", "Locum", "", FORWARDER)


def test_a_quiet_server_is_pinged_every_probe_interval(house: ServerHouse) -> None:
    house.pass_time(60)
    assert 5 <= len(house.got(Type.PING)) <= 6
    assert len(house.connects) == 1


def test_a_server_that_answers_requests_needs_no_probe(house: ServerHouse) -> None:
    house.line()
    house.pass_time(1)
    before = len(house.got(Type.PING))
    for number in range(30):
        house.login(number)
        house.pass_time(1)
    assert len(house.got(Type.PING)) == before


def test_contact_fails_when_a_request_and_its_half_time_probe_are_both_unanswered(house: ServerHouse) -> None:
    house.line()
    house.go()
    house.login("t")
    house.pass_time(0.9)
    assert house.state is State.ONLINE
    house.until(State.GRACE, 0.3)
    assert "no answer from 192.0.2.1 port 9790 in 1 s" in house.upstream.link.cause


def test_one_request_that_the_server_discards_is_no_outage(house: ServerHouse) -> None:
    house.line()
    house.silent = {Type.LOGIN}
    house.login("t")
    house.pass_time(20)
    assert house.state is State.ONLINE
    assert house.listener.replies == []


def test_a_half_open_probe_connection_is_replaced_and_is_no_outage(house: ServerHouse) -> None:
    house.answer = deaf_to(house.of(PROBE))
    house.pass_time(30)
    assert house.state is State.ONLINE
    assert len(house.connects) == 2


def test_a_connection_that_is_reset_is_no_outage_if_the_next_is_answered(house: ServerHouse) -> None:
    house.line()
    house.pass_time(1)
    house.come_back(reset=True)
    house.pass_time(5)
    assert house.state is State.ONLINE
    assert house.of(PROBE).greeted
    assert house.of("mfp-1").greeted


def test_a_refusal_counts_once_a_second_probe_sent_at_once_is_refused_too(make: Make) -> None:
    house = make(delay=30.0)
    house.line()
    house.go(reset=True)
    house.pass_time(0.7)
    assert house.state is State.GRACE
    assert "connection refused" in house.upstream.link.cause


def test_one_refused_line_is_forgotten_when_the_probe_is_answered(house: ServerHouse) -> None:
    house.refusing = {HERE}
    house.line()
    house.pass_time(0.2)
    assert house.state is State.ONLINE
    house.refusing = set()
    house.pass_time(5)
    assert house.state is State.ONLINE
    assert house.of("mfp-1").greeted


def test_an_error_is_a_sign_of_life_and_is_said(house: ServerHouse) -> None:
    house.answer = lambda asked: encode(Error(4, "what?"), asked.frame.sequence)
    house.pass_time(60)
    assert house.state is State.ONLINE
    said = [tell.text for tell in house.told if "answered ERROR 4" in tell.text]
    assert len(said) == 1
    assert "ERROR 4" in house.upstream.trouble
    house.answer = lambda asked: None
    house.pass_time(11)
    assert house.upstream.trouble == ""


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"CT\x02\x86" + bytes(20), b"CT\x01\x86"])
def test_a_server_that_answers_garbage_is_not_there(house: ServerHouse, garbage: bytes) -> None:
    house.answer = lambda asked: garbage
    house.pass_time(12)
    house.until(State.OFFLINE, 5)
    assert not any(connection.device == PROBE and connection.greeted for connection in house.connections.values())
    house.pass_time(20)
    said = [tell for tell in house.told if "is not the terminal dialect" in tell.text]
    assert len(said) <= 1
    assert house.tally.counts["server-garbage"] > 2 or garbage == b"CT\x01\x86"
    house.answer = lambda asked: None
    house.until(State.ONLINE, 8)


def test_a_payload_that_cannot_be_read_is_garbage(house: ServerHouse) -> None:
    pong = encode(Pong(0), 1)
    house.answer = lambda asked: pong[:8] + b"\0\2\0\0" + b"\0\0\0\0"
    house.pass_time(12)
    house.until(State.GRACE, 5)


def test_a_connection_without_an_answer_is_no_contact(house: ServerHouse) -> None:
    house.answer = lambda asked: b""
    house.pass_time(12)
    house.until(State.OFFLINE, 5)


def test_what_answers_nothing_is_no_contact(house: ServerHouse) -> None:
    house.answer = lambda asked: encode(Pong(0), 0xABCD)
    house.pass_time(10)
    house.until(State.OFFLINE, 5)
    assert house.tally.counts["answers-nothing"] >= 3


def test_steady_is_three_contacts_over_two_seconds(house: ServerHouse) -> None:
    house.go()
    house.until(State.OFFLINE)
    assert not house.upstream.tries_first(house.now)
    house.come_back()
    began = house.now
    house.pass_time(1.5)
    assert house.state is State.OFFLINE
    assert house.upstream.tries_first(house.now)
    house.until(State.ONLINE, 3)
    assert house.now - began >= 2


def test_a_server_that_was_never_heard_cannot_leave_grace(make: Make) -> None:
    house = make(proven=False)
    house.close()
    house.folder = house.folder / "fresh"
    house.folder.mkdir()
    house.up = False
    house.connections.clear()
    house.start()
    house.pass_time(20)
    assert house.state is State.GRACE
    house.come_back()
    house.until(State.ONLINE, 8)
    assert house.upstream.proven_by == {f"at {HERE}"}


def test_the_second_address_serves_when_the_first_is_silent(make: Make) -> None:
    house = make(addresses=(HERE, THERE))
    house.line()
    house.job(1, session=1 << 63)
    assert house.of("mfp-1").address == HERE
    house.down = {HERE}
    house.login("t")
    house.pass_time(2)
    assert house.state is State.ONLINE
    assert house.of("mfp-1").address == THERE
    assert house.listener.lost("t") == 1
    house.login("again")
    assert house.listener.reply_to("again") is not None
    house.job(2, session=1 << 63)
    house.pass_time(1)
    assert house.of("locum-1").address == THERE
    house.down = {HERE, THERE}
    house.until(State.GRACE, 15)


def test_two_addresses_of_one_server_do_not_push_each_others_probes_out(make: Make) -> None:
    house = make(addresses=(HERE, THERE))
    house.pass_time(60)
    assert len(house.connects) == 2


def test_what_the_server_says_of_itself_is_told_and_is_no_outage(house: ServerHouse) -> None:
    house.state_byte = 3
    house.pass_time(30)
    assert house.state is State.ONLINE
    assert "server unavailable" in house.upstream.trouble
    (told,) = [tell for tell in house.told if tell.alarm == "server"]
    assert told.level == "warning"
    house.state_byte = 0
    house.pass_time(11)
    assert house.upstream.trouble == ""


def test_another_port_makes_the_server_unproven_until_it_is_heard_there(make: Make) -> None:
    house = make(delay=0.0)
    house.line()
    house.upstream._fingerprint = lambda address: f"at {address} anew"
    house.settings = replace(house.settings, port=9791)
    house.up = False
    house.run(house.upstream.configure(house.settings, house.moment()))
    assert house.connections == {}
    house.pass_time(20)
    assert house.state is State.GRACE
    house.come_back()
    house.until(State.ONLINE, 8)
    house.pass_time(1)
    assert house.of("mfp-1").greeted


def test_a_reload_that_changes_nothing_closes_nothing(house: ServerHouse) -> None:
    house.line()
    before = dict(house.connections)
    house.run(house.upstream.configure(replace(house.settings, answer_timeout=2.0), house.moment()))
    assert house.connections == before


def test_without_addresses_everything_is_closed(house: ServerHouse) -> None:
    house.line()
    house.job(1, session=1 << 63)
    house.login("t")
    house.run(house.upstream.reach([], house.moment()))
    assert house.connections == {}
    house.login("u")
    house.job(2)
    house.pass_time(5)
    assert house.listener.lost("u") == 1
    assert house.waiting() == 1
    house.run(house.upstream.unreachable("its name does not resolve", house.moment()))
    assert house.state is State.GRACE


def test_a_suspended_process_blames_nobody(house: ServerHouse) -> None:
    house.line()
    house.go()
    house.login("t")
    house.now += 3600
    house.wall += 3_600_000
    house.come_back()
    house.pass_time(0.5)
    assert house.state is State.ONLINE


def test_states_and_causes_are_in_the_ledger(house: ServerHouse) -> None:
    house.go()
    house.until(State.OFFLINE)
    house.come_back()
    house.until(State.ONLINE)
    steps = house.rows("SELECT step, cause FROM outage_events ORDER BY seq")
    assert [step for step, _ in steps] == ["failed", "offline", "recovered", "drained"]
