"""In line the server sees its copiers and nobody else: whose address, port, identifier and secret each thing has.

`docs/inline.md`, "As whom Locum speaks". The server of these houses fails the test where anybody else speaks to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from protocols.radius.packet import Attributes, Code, Type
from protocols.radius.secrets import reveal_password, sign_accounting_request, sign_request
from protocols.terminal.frames import Type as Frames
from protocols.terminal.messages import Login
from proxy.commands import Source
from proxy.dialects.radius import lent
from proxy.dialects.radius.host import ACCT, AUTH
from proxy.dialects.radius.lent import LentPorts, Sender
from proxy.lender import REMEMBER_EVERY
from proxy.link import State
from tests.flows.house import COPIER, HERE, SERVER, ToServer
from tests.flows.in_line_house import FLOOR, OTHER, SIXTH, InLineHouse
from tests.flows.packets import job_number, outbox, record_id
from tests.flows.pairs import TerminalWire
from tests.flows.terminal_house import job

Make = Callable[..., InLineHouse]
CARD = "0A1B2C3D"
HERE6, COPIER6 = "2001:db8::1", "2001:db8:7::31"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:

        def made(**how: Any) -> InLineHouse:
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            house = InLineHouse(folder, **how)
            stack.callback(house.close)
            house.pass_time(0.1)
            return house

        yield made


@pytest.fixture
def house(make: Make) -> InLineHouse:
    return make()


def login(house: InLineHouse, identifier: int, *more: tuple[int, bytes], secret: bytes = COPIER, **where: Any) -> bytes:
    sent: Attributes = ((Type.USER_NAME, CARD.encode()), (Type.NAS_IDENTIFIER, b"copier-1"), *more)
    packet = sign_request(Code.ACCESS_REQUEST, identifier, house.moment().random(16, "device"), sent, secret)
    house.datagram(AUTH, packet, **where)
    return packet


def accepted(house: InLineHouse, request: bytes) -> bool:
    return [answer.code for answer in house.answers(request)] == [Code.ACCESS_ACCEPT]


def go_offline(house: InLineHouse) -> None:
    """The server is lost, after a device was heard."""
    login(house, 255)
    house.pass_time(1)
    house.move(State.OFFLINE)


def record(house: InLineHouse, number: int, *, secret: bytes = COPIER, device: str = "copier-1", **where: Any) -> None:
    sent: Attributes = (
        (Type.ACCT_STATUS_TYPE, (3).to_bytes(4, "big")),
        (Type.NAS_IDENTIFIER, device.encode()),
        (Type.ACCT_SESSION_ID, f"s{number}".encode()),
    )
    house.datagram(ACCT, sign_accounting_request(number % 256, sent, secret), **where)


def probes(house: InLineHouse) -> list[ToServer]:
    return [sent for sent in house.to_server if sent.packet.code == Code.STATUS_SERVER]


# What devices ask


def test_a_login_reaches_the_server_from_the_devices_address_and_port_under_its_identifier(house: InLineHouse) -> None:
    packet = login(house, 217, source=51234)
    (sent,) = house.logins_at_server()
    assert house.source(sent) == ("10.7.0.31", 51234)
    assert sent.packet.identifier == 217
    assert sent.packet.authenticator == packet[4:20]
    assert accepted(house, packet)


def test_a_password_goes_on_under_the_devices_secret(house: InLineHouse) -> None:
    house.swipe(CARD, password=b"open sesame")
    (sent,) = house.logins_at_server()
    hidden = sent.packet.get(Type.USER_PASSWORD)
    assert hidden is not None
    assert reveal_password(hidden, sent.packet.authenticator, COPIER) == b"open sesame"


def test_a_record_reaches_the_server_from_the_devices_address_and_port_under_its_identifier(house: InLineHouse) -> None:
    record(house, 99, source=1813)
    (sent,) = house.records_at_server()
    assert house.source(sent) == ("10.7.0.31", 1813)
    assert sent.packet.identifier == 99
    assert record_id(sent.packet)
    assert len(house.to_devices) == 1


def test_each_network_of_devices_speaks_under_its_own_secret(make: Make) -> None:
    house = make(clients=(FLOOR,))
    login(house, 1)
    login(house, 1, secret=OTHER, address="10.8.0.7")
    assert [house.source(sent)[0] for sent in house.logins_at_server()] == ["10.7.0.31", "10.8.0.7"]
    assert [packet.code for _, packet, _ in house.to_devices] == [Code.ACCESS_ACCEPT] * 2


def test_an_answer_made_with_the_secret_of_the_upstream_is_dropped(house: InLineHouse) -> None:
    house.silent_for.add(CARD.encode())
    packet = login(house, 5)
    (sent,) = house.logins_at_server()
    house.server_secret = SERVER
    house.late_answer(sent, Code.ACCESS_ACCEPT)
    assert house.answers(packet) == []
    house.server_secret = COPIER
    house.late_answer(sent, Code.ACCESS_ACCEPT)
    assert accepted(house, packet)


def test_a_repeated_login_goes_again_from_the_same_port_with_the_same_bytes(house: InLineHouse) -> None:
    house.silent_for.add(CARD.encode())
    packet = login(house, 5)
    house.datagram(AUTH, packet)
    first, again = house.logins_at_server()
    assert (first.channel, first.data) == (again.channel, again.data)


def test_an_identifier_that_is_under_way_already_is_not_taken_twice(house: InLineHouse) -> None:
    house.silent_for.add(CARD.encode())
    login(house, 5)
    login(house, 5)
    first, second = house.logins_at_server()
    assert first.channel == second.channel
    assert first.packet.identifier != second.packet.identifier


def test_a_port_whose_256_identifiers_are_under_way_is_helped_out_by_another_of_the_same_address(
    house: InLineHouse,
) -> None:
    house.silent_for.add(CARD.encode())
    for number in range(257):
        login(house, number % 256)
    sent = house.logins_at_server()
    assert {house.source(each) for each in sent[:256]} == {("10.7.0.31", 40000)}
    assert house.source(sent[256]) == ("10.7.0.31", 0)


def test_a_port_is_closed_when_nothing_was_under_way_for_half_a_minute(house: InLineHouse) -> None:
    login(house, 1, source=50001)
    (sent,) = house.logins_at_server()
    house.pass_time(29)
    assert sent.channel in house.source_of
    house.pass_time(2)
    assert sent.channel not in house.source_of


def test_a_port_stays_while_a_late_answer_may_come(house: InLineHouse) -> None:
    house.silent_for.add(CARD.encode())
    login(house, 1, source=50001)
    (sent,) = house.logins_at_server()
    house.pass_time(29.5)
    house.late_answer(sent, Code.ACCESS_ACCEPT)
    assert house.rows("SELECT late FROM logins WHERE outcome = 'granted'")


# What waited


def test_what_waited_goes_from_the_address_of_its_own_device_and_any_port(make: Make) -> None:
    house = make(clients=(FLOOR,))
    go_offline(house)
    for number in range(4):
        record(house, number, device="copier-1")
        record(house, number, device="copier-2", secret=OTHER, address="10.8.0.7")
    house.server_up = True
    house.until(State.ONLINE)
    sent = [house.source(each) for each in house.records_at_server()]
    assert sorted(sent) == [("10.7.0.31", 0)] * 4 + [("10.8.0.7", 0)] * 4
    assert outbox(house) == {}


def test_a_thousand_that_waited_need_a_few_ports(make: Make) -> None:
    house = make()
    go_offline(house)
    for number in range(1000):
        record(house, number)
    house.server_up = True
    house.until(State.ONLINE)
    assert len(house.book) == 1000
    assert len({each.channel for each in house.records_at_server()}) <= 2


def test_a_record_whose_device_has_no_secret_any_more_is_set_aside_with_words(make: Make) -> None:
    house = make(clients=(FLOOR,))
    go_offline(house)
    record(house, 1, secret=OTHER, address="10.8.0.7")
    record(house, 2)
    house.reload(clients=())
    house.server_up = True
    house.until(State.ONLINE)
    assert outbox(house) == {"rejected": 1}
    ((answer,),) = house.rows("SELECT answer FROM deliveries WHERE outcome = 'refused'")
    assert "10.8.0.7" in answer
    assert "[[listen]] clients" in answer
    assert len(house.book) == 1


def test_a_record_that_could_not_be_kept_is_relayed_as_its_device(house: InLineHouse) -> None:
    house.disk_full = True
    house.account(job="7")
    (sent,) = house.records_at_server()
    assert house.source(sent) == ("10.7.0.31", 40000)
    assert job_number(sent.packet) == "7"


# What Locum asks itself


def test_nothing_is_asked_before_a_device_was_heard(house: InLineHouse) -> None:
    house.pass_time(30)
    assert house.to_server == []
    assert house.opened == []
    assert house.state is State.ONLINE


def test_probes_go_out_as_the_device_that_was_heard_last(make: Make) -> None:
    house = make(clients=(FLOOR,))
    login(house, 1)
    house.pass_time(11)
    assert {house.source(sent) for sent in probes(house)} == {("10.7.0.31", 0)}
    house.to_server.clear()
    record(house, 1, secret=OTHER, address="10.8.0.7")
    house.pass_time(11)
    assert {house.source(sent) for sent in probes(house)} == {("10.8.0.7", 0)}


def test_a_datagram_that_is_not_authentic_lends_nothing(house: InLineHouse) -> None:
    login(house, 1, secret=b"guessed")
    house.pass_time(11)
    assert house.to_server == []


def test_a_restart_knows_at_once_whose_address_to_borrow(house: InLineHouse) -> None:
    login(house, 1)
    house.restart()
    house.to_server.clear()
    house.pass_time(1)
    assert {house.source(sent) for sent in probes(house)} == {("10.7.0.31", 0)}


def test_a_device_that_is_configured_no_more_is_not_borrowed_from(make: Make) -> None:
    house = make(clients=(FLOOR,))
    login(house, 1, secret=OTHER, address="10.8.0.7")
    house.restart(clients=())
    house.to_server.clear()
    house.pass_time(11)
    assert house.to_server == []


def test_the_lender_is_written_down_once_a_minute_at_most(make: Make) -> None:
    house = make(clients=(FLOOR,))

    def remembered() -> str:
        return str(house.rows("SELECT value FROM memory WHERE key = 'lender:hq:4'")[0][0])

    login(house, 1)
    login(house, 2, secret=OTHER, address="10.8.0.7")
    assert remembered() == "10.7.0.31"
    house.pass_time(REMEMBER_EVERY)
    login(house, 3, secret=OTHER, address="10.8.0.7")
    assert remembered() == "10.8.0.7"


def test_the_server_of_the_records_borrows_too(make: Make) -> None:
    house = make(records_to="books")
    record(house, 1)
    house.pass_time(11)
    assert {(sent.channel[0], house.source(sent)[0]) for sent in probes(house)} == {
        ("hq", "10.7.0.31"),
        ("books", "10.7.0.31"),
    }


def test_an_outage_and_its_end_are_seen_through_a_borrowed_address(house: InLineHouse) -> None:
    go_offline(house)
    packet = login(house, 2)
    assert accepted(house, packet)
    house.server_up = True
    house.until(State.ONLINE)
    assert house.rows("SELECT decided_by FROM logins ORDER BY seq") == [("server",), ("locum",)]


def test_another_secret_of_the_upstream_changes_nothing_that_is_known(house: InLineHouse) -> None:
    """It is used for nothing in line."""
    login(house, 1)
    house.restart(secret=b"another")
    assert house.upstream.link.proven


# Servers of both IP versions


def test_each_device_reaches_the_servers_address_of_its_own_ip_version(make: Make) -> None:
    house = make(addresses=(HERE, HERE6), clients=(SIXTH,))
    login(house, 1, secret=OTHER, address=COPIER6)
    login(house, 1)
    house.pass_time(1)
    reached = [(sent.address, house.source(sent)[0]) for sent in house.logins_at_server()]
    assert reached == [(HERE6, COPIER6), (HERE, "10.7.0.31")]
    assert {(sent.address, house.source(sent)[0]) for sent in probes(house)} == set(reached)


def test_a_server_whose_first_address_no_device_can_reach_is_watched_by_its_other(make: Make) -> None:
    house = make(addresses=(HERE, HERE6), clients=(SIXTH,))
    login(house, 1, secret=OTHER, address=COPIER6)
    house.pass_time(1)
    house.server_up = False
    house.until(State.OFFLINE, 20)
    packet = login(house, 2, secret=OTHER, address=COPIER6)
    assert house.to_devices[-1][1].identifier == packet[1]
    record(house, 3, secret=OTHER, address=COPIER6)
    house.server_up = True
    house.until(State.ONLINE)
    (sent,) = {each.address for each in house.records_at_server()}
    assert sent == HERE6


def test_an_address_with_a_zone_is_not_lent(house: InLineHouse) -> None:
    lender = house.upstream.lender
    assert lender is not None
    assert lender.heard("fe80::1%locum0", house.moment()) == []
    assert lender.towards(HERE6) is None


# Terminals


def test_a_terminals_line_goes_from_its_own_address_and_port_and_the_rest_from_any_port_of_one(make: Make) -> None:
    house = make(devices_speak="terminal", server_speaks="terminal")
    house.pass_time(5)
    assert house.opened == []
    copier = house.terminal("copier-1")
    house.pass_time(1)
    granted = house.asked_of(copier, Login(1, CARD, ""))
    assert granted.status == 0
    sources = {str(channel[1]): source for channel, source in house.opened}
    assert sources == {"line": Source("10.7.0.31", 40000), "probe": Source("10.7.0.31")}


def test_terminals_records_that_waited_go_from_a_borrowed_address(make: Make) -> None:
    house = make(devices_speak="terminal", server_speaks="terminal")
    copier = house.terminal("copier-1")
    house.pass_time(3)
    house.move(State.OFFLINE)
    granted = house.asked_of(copier, Login(1, CARD, ""))
    copier.ask(job(granted.session, 1))
    house.set_server(True)
    house.until(State.ONLINE)
    wire = house.wire
    assert isinstance(wire, TerminalWire)
    assert len(wire.got(Frames.RECORD)) == 1
    assert {source for channel, source in house.opened if channel[1] == "records"} == {Source("10.7.0.31")}


# PaperCut


@pytest.mark.parametrize("devices_speak", ["radius", "terminal"])
def test_calls_to_a_papercut_server_go_from_a_borrowed_address(make: Make, devices_speak: str) -> None:
    house = make(devices_speak=devices_speak, server_speaks="papercut")
    house.pass_time(5)
    assert house.opened == []
    if devices_speak == "radius":
        packet = house.swipe(CARD)
        house.pass_time(1)
        assert accepted(house, packet)
    else:
        assert house.asked_of(house.terminal("copier-1"), Login(1, CARD, "")).status == 0
    assert {source for _, source in house.opened} == {Source("10.7.0.31")}


# Not too many sockets


def sender(port: int) -> Sender:
    return Sender(Source("10.7.0.31", port), COPIER, 5)


def test_the_port_that_was_used_longest_ago_makes_room(house: InLineHouse) -> None:
    ports = LentPorts(house.upstream, ("hq",), ("192.0.2.1", 1812))
    with patch.object(lent, "MOST_PORTS", 3):
        for number in range(3):
            slot, _ = ports.take(sender(50000 + number), float(number), probe=False)
            assert slot is not None
            ports.free(slot)
        ports.take(sender(50000), 3.0, probe=False)
        slot, commands = ports.take(sender(50003), 4.0, probe=False)
    assert slot == (("hq", "10.7.0.31", 50003), 5)
    assert [type(command).__name__ for command in commands] == ["Close", "Open"]
    assert commands[0].channel == ("hq", "10.7.0.31", 50001)  # type: ignore[union-attr]
    assert len(ports) == 3


def test_a_port_with_something_under_way_makes_no_room(house: InLineHouse) -> None:
    ports = LentPorts(house.upstream, ("hq",), ("192.0.2.1", 1812))
    with patch.object(lent, "MOST_PORTS", 2):
        for number in range(2):
            ports.take(sender(50000 + number), 0.0, probe=False)
        assert ports.take(sender(50002), 1.0, probe=False) == (None, [])
