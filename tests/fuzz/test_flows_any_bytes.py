"""Any bytes at any channel of a whole Locum in any state: nothing is raised, nothing is acknowledged that is not kept.

The house is the one of tests/flows: real flows and a real ledger on a fake clock. What is dropped must be counted.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.radius.packet import Code
from protocols.radius.secrets import sign_accounting_request, sign_request, sign_response
from proxy.dialects.radius.host import ACCT, AUTH
from proxy.events import Received, Refused
from proxy.link import State
from tests.flows.house import COPIER, SERVER, House

STATES = (State.ONLINE, State.GRACE, State.OFFLINE, State.RECOVERING)
SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

kinds = st.one_of(st.sampled_from([1, 2, 3, 4, 5, 6, 8, 24, 25, 26, 32, 33, 40, 41, 44, 55, 61, 79, 80, 95]),
                  st.integers(1, 255))  # fmt: skip
attributes = st.lists(st.tuples(kinds, st.binary(min_size=1, max_size=40)), max_size=12).map(tuple)
headers = st.builds(
    lambda code, identifier, body, lie: (
        bytes((code, identifier)) + max(0, 20 + len(body) + lie).to_bytes(2, "big") + bytes(16) + body
    ),
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=200),
    st.sampled_from([0, 0, 0, -1, 1, 4000]),
)
any_bytes = st.one_of(st.binary(max_size=300), headers, st.binary(min_size=4090, max_size=4097))


@contextmanager
def house_in(state: State) -> Iterator[House]:
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder), signed=False)
        house.pass_time(0.2)
        house.move(state)
        try:
            yield house
        finally:
            house.close()


def acknowledged_is_kept(house: House) -> None:
    acknowledged = [packet for _, packet, _ in house.to_devices if packet.code == Code.ACCOUNTING_RESPONSE]
    kept = house.count("SELECT count(*) FROM jobs") + house.count("SELECT count(*) FROM accounting")
    assert not acknowledged or kept


def ends_well(house: House) -> None:
    """After all that, Locum still serves."""
    house.server_up = True
    house.silent_for_session.clear()
    house.pass_time(12)
    packet = house.swipe("0A1B2C3D", device="after")
    assert house.code(packet) == Code.ACCESS_ACCEPT


@pytest.mark.parametrize("state", STATES)
def test_any_bytes_from_a_device_are_dropped_and_counted(state: State) -> None:
    with house_in(state) as house:

        @SETTINGS
        @given(port=st.sampled_from([AUTH, ACCT]), data=any_bytes, host=st.sampled_from(["10.7.0.31", "203.0.113.1"]))
        def drops(port: str, data: bytes, host: str) -> None:
            before = sum(house.tally.counts.values())
            sent, records = len(house.to_devices), house.count("SELECT count(*) FROM outbox")
            house.datagram(port, data, host)
            answered = len(house.to_devices) > sent
            counted = sum(house.tally.counts.values()) > before
            taken = house.count("SELECT count(*) FROM outbox") > records
            assert counted or answered or taken or data[:1] == b"\x01", "neither counted nor taken"

        drops()
        acknowledged_is_kept(house)
        ends_well(house)


@pytest.mark.parametrize("state", STATES)
def test_authentic_requests_with_any_attributes_raise_nothing(state: State) -> None:
    with house_in(state) as house:

        @SETTINGS
        @given(attributes=attributes, identifier=st.integers(0, 255), record=st.booleans())
        def handles(attributes: tuple[tuple[int, bytes], ...], identifier: int, record: bool) -> None:
            house.to_devices.clear()
            attributes = tuple(each for each in attributes if each[0] != 80)
            if record:
                before = house.count("SELECT coalesce(max(seq), 0) FROM entries")
                house.datagram(ACCT, sign_accounting_request(identifier, attributes, COPIER))
                if house.to_devices and house.state is not State.ONLINE:
                    known = house.count("SELECT count(*) FROM records")
                    assert known, "acknowledged, and nothing is kept"
                assert house.count("SELECT coalesce(max(seq), 0) FROM entries") >= before
            else:
                authenticator = hashlib.md5(repr(attributes).encode()).digest()
                house.datagram(AUTH, sign_request(Code.ACCESS_REQUEST, identifier, authenticator, attributes, COPIER))
            house.pass_time(0.1)

        handles()
        ends_well(house)


@pytest.mark.parametrize("state", STATES)
def test_each_authentic_record_is_kept_before_it_is_acknowledged(state: State) -> None:
    with house_in(state) as house:
        house.holding = True

        @SETTINGS
        @given(attributes=attributes)
        def waits(attributes: tuple[tuple[int, bytes], ...]) -> None:
            attributes = tuple(each for each in attributes if each[0] != 80)
            while house.held:
                house.sync()
            house.pass_time(1.1)
            while house.held:
                house.sync()
            house.to_devices.clear()
            packet = sign_accounting_request(1, attributes, COPIER)
            house.datagram(ACCT, packet)
            assert house.to_devices == [], "acknowledged before it was kept"

        waits()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("disk", ["disk_full", "disk_dead"])
def test_without_a_disk_and_a_server_nothing_is_acknowledged_or_granted(state: State, disk: str) -> None:
    with house_in(state) as house:
        house.server_up = house.accounting_up = False
        setattr(house, disk, True)

        @SETTINGS
        @given(attributes=attributes, identifier=st.integers(0, 255), record=st.booleans())
        def silent(attributes: tuple[tuple[int, bytes], ...], identifier: int, record: bool) -> None:
            attributes = tuple(each for each in attributes if each[0] != 80)
            if record:
                house.datagram(ACCT, sign_accounting_request(identifier, attributes, COPIER))
            else:
                name = ((1, b"0A1B2C3D"), *attributes)
                authenticator = hashlib.md5(repr(attributes).encode()).digest()
                house.datagram(AUTH, sign_request(Code.ACCESS_REQUEST, identifier, authenticator, name, COPIER))
            house.pass_time(0.3)
            codes = {packet.code for _, packet, _ in house.to_devices}
            assert not codes & {Code.ACCOUNTING_RESPONSE, Code.ACCESS_ACCEPT}

        silent()


def at_the_server(house: House) -> list[tuple[str | int, ...]]:
    return list(house._owners)


@pytest.mark.parametrize("state", STATES)
def test_any_bytes_from_the_server_are_dropped_and_counted(state: State) -> None:
    with house_in(state) as house:
        house.swipe("0A1B2C3D")
        house.account()

        @SETTINGS
        @given(data=any_bytes, place=st.integers(0, 100))
        def drops(data: bytes, place: int) -> None:
            channels = at_the_server(house)
            channel = channels[place % len(channels)]
            before, was = sum(house.tally.counts.values()), house.state
            house.dispatch(house.upstream, Received(channel, ("", 0, ""), data, house.moment()))
            assert sum(house.tally.counts.values()) == before + 1
            assert house.state is was

        drops()
        ends_well(house)


@pytest.mark.parametrize("state", STATES)
def test_authentic_answers_of_any_kind_raise_nothing(state: State) -> None:
    with house_in(state) as house:

        @SETTINGS
        @given(code=st.integers(1, 60), attributes=attributes, record=st.booleans(), refuse=st.booleans())
        def handles(code: int, attributes: tuple[tuple[int, bytes], ...], record: bool, refuse: bool) -> None:
            attributes = tuple(each for each in attributes if each[0] != 80)
            house.silent_for.add(b"CAFE0000")
            house.silent_for_session.add(b"fuzz")
            house.to_server.clear()
            if record:
                house.account(session="fuzz", job=str(house.now))
            else:
                house.swipe("CAFE0000")
            for sent in house.to_server[:1]:
                answer = sign_response(
                    code,
                    sent.packet.identifier,
                    attributes,
                    sent.packet.authenticator,
                    SERVER,
                    message_authenticator=True,
                )
                owner = house._owners[sent.channel]
                house.dispatch(owner, Received(sent.channel, ("", 0, ""), answer, house.moment()))
                if refuse:
                    house.dispatch(owner, Refused(sent.channel, "connection refused", house.moment()))
            house.pass_time(0.3)

        handles()


def test_answers_on_channels_that_are_gone_are_nobodys() -> None:
    with house_in(State.ONLINE) as house:
        channels = at_the_server(house)
        house.reload(addresses=("192.0.2.50",))
        for channel in channels:
            house.dispatch(house.upstream, Received(channel, ("", 0, ""), bytes(20), house.moment()))
            house.dispatch(house.upstream, Refused(channel, "connection refused", house.moment()))
        ends_well(house)
