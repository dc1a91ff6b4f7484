"""Terminals, Locum and a terminal server, with both flows real: what the listener and the upstream make of each other.

The server is the one of `terminal_server_house.py`; the devices are those of `terminal_house.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from protocols.terminal.frames import Type
from protocols.terminal.messages import (
    NO_BALANCE,
    Error,
    JobAck,
    Login,
    LoginResult,
    Logout,
    LogoutAck,
    RecordMessage,
    encode,
)
from proxy.admission import Policy
from proxy.commands import Close, Command, Send
from proxy.dialects.terminal.listener import TerminalListener
from proxy.events import Channel, Event, Flow, Moment, Ticked
from proxy.link import State
from proxy.site import Site
from storage.cards import CardMemory
from tests.flows.terminal_house import LISTENER, Device, job
from tests.flows.terminal_server_house import TICK, Asked, ServerHouse

CARD = "0A1B2C3D"


class Floor:
    """The devices' side of the house, as `Device` knows it."""

    def __init__(self, whole: Whole, listener: TerminalListener) -> None:
        self.whole = whole
        self.listener = listener
        self.connections = 0
        self.ends: dict[Channel, Device] = {}

    def dispatch(self, flow: Flow, event: Event) -> None:
        self.whole.dispatch(flow, event)

    def moment(self) -> Moment:
        return self.whole.moment()


class Whole(ServerHouse):
    """A server house with a listener in front."""

    def start(self) -> None:
        super().start()
        policy = Policy(True, "any-card", 1e6, True, re.compile("[0-9A-F]{8}"))
        self.site = Site(policy, {}, {}, CardMemory(self.reader))
        self.upstream.before_subscribers = self.site.state_changed
        listener = TerminalListener(LISTENER, self.upstream, self.upstream, self.site, self.tally, name="locum-1")
        self.floor = Floor(self, listener)

    def device(self, name: str = "copier-1") -> Device:
        device = Device(self.floor, name, 31, "", 0)  # type: ignore[arg-type]
        device.hello()
        self.pass_time(TICK)
        return device

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            super().pass_time(TICK)
            self.dispatch(self.floor.listener, Ticked(self.moment()))

    def run(self, commands: Sequence[Command]) -> None:
        others: list[Command] = []
        for command in commands:
            if isinstance(command, Send | Close) and command.channel[0] == LISTENER[0]:
                super().run(others)
                others = []
                self._to_device(command)
            else:
                others.append(command)
        super().run(others)

    def _to_device(self, command: Send | Close) -> None:
        end = self.floor.ends.get(command.channel)
        if end is not None and isinstance(command, Send):
            end.heard(command.data)
        elif end is not None:
            del self.floor.ends[command.channel]
            end.closed = True


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Whole]:
    house = Whole(tmp_path)
    house.pass_time(1)
    yield house
    house.close()


def test_online_everything_goes_to_the_server_and_back(whole: Whole) -> None:
    device = whole.device()
    assert device.login(CARD) == LoginResult(0, 7, "anna", "", NO_BALANCE, 31)
    assert device.tell(job(7)) == JobAck(90001, 0)
    assert device.ping() == 0
    assert device.tell(Logout(7)) == LogoutAck(7)
    kinds = [asked.frame.type for asked in whole.asked if asked.connection.device == "copier-1"]
    assert kinds == [Type.HELLO, Type.LOGIN, Type.JOB, Type.PING, Type.LOGOUT]
    assert whole.book == {("copier-1", 90001): 1}
    assert whole.rows("SELECT count(*) FROM outbox") == [(0,)]


def test_an_outage_from_its_beginning_to_its_end(whole: Whole) -> None:
    device = whole.device()
    online = device.login(CARD).session
    whole.go()
    asked = device.ask(job(online, 1))
    whole.pass_time(1.1)
    assert device.answer(asked) == JobAck(1, 0), "unanswered: kept, acknowledged by Locum"
    whole.until(State.GRACE)
    assert (device.ping(), device.tell(job(online, 2))) == (3, JobAck(2, 0))
    whole.until(State.OFFLINE)
    granted = device.login("00112233")
    assert (granted.status, granted.session >> 63, device.ping()) == (0, 1, 1)
    assert device.tell(job(granted.session, 3)) == JobAck(3, 0)
    whole.come_back(reset=True)
    whole.until(State.ONLINE)
    assert {number for _, number in whole.book} == {1, 2, 3}
    records: list[Any] = [asked.message for asked in whole.got(Type.RECORD)]
    by_number = {record.job.job: record for record in records if isinstance(record, RecordMessage)}
    assert (by_number[2].user, by_number[2].job.session) == ("anna", online)
    assert (by_number[3].card, by_number[3].user, by_number[3].job.session) == ("00112233", "", 0)
    assert device.tell(job(granted.session, 3)) == JobAck(3, 1)
    assert device.tell(Logout(granted.session)) == LogoutAck(granted.session)
    assert whole.got(Type.LOGOUT) == [], "a session number of Locum's never reaches the server"


def test_a_grant_that_comes_after_locums_is_logged_out_at_the_server(whole: Whole) -> None:
    device = whole.device()
    whole.silent = {Type.LOGIN, Type.PING, Type.HELLO}
    sequence = device.ask(Login(1, CARD, ""))
    whole.until(State.OFFLINE)
    whole.pass_time(TICK)
    answers = device.answers(sequence)
    assert len(answers) == 1
    late = whole.got(Type.LOGIN, "copier-1")[0]
    if late.connection.channel in whole.connections:
        whole.reply(late, LoginResult(0, 99, "anna", "", 0, 31))
        assert [asked.message for asked in whole.got(Type.LOGOUT, "copier-1")] == [Logout(99)]
    assert len(device.answers(sequence)) == 1


def test_errors_of_the_server_leave_no_device_without_its_reply(whole: Whole) -> None:
    device = whole.device()
    session = device.login(CARD).session

    def refuses(asked: Asked) -> bytes | None:
        wanted = asked.frame.type in (Type.LOGIN, Type.JOB, Type.LOGOUT, Type.QUERY)
        return encode(Error(5, "no"), asked.frame.sequence) if wanted else None

    whole.answer = refuses
    login, sent, out = device.ask(Login(1, CARD, "")), device.ask(job(session)), device.ask(Logout(session))
    whole.pass_time(1.2)
    status: Any = device.answer(login)
    assert (status.status, device.answer(sent), device.answer(out)) == (4, JobAck(90001, 0), LogoutAck(session))


def test_lines_that_break_again_and_again_lose_no_job(whole: Whole) -> None:
    devices = [whole.device(f"copier-{number}") for number in range(5)]
    sessions = [device.login(CARD).session for device in devices]
    asked: list[tuple[Device, int]] = []
    for number in range(60):
        place = number % 5
        if number % 7 == 0:
            for channel in list(whole.connections):
                whole.end(channel, "cut", refused=number % 2 == 0)
        asked.append((devices[place], devices[place].ask(job(sessions[place], number))))
        whole.pass_time(TICK * (number % 4))
    whole.pass_time(30)
    assert [device.answer(sequence) for device, sequence in asked] == [JobAck(number, 0) for number in range(60)]
    assert {number for _, number in whole.book} == set(range(60))
    assert whole.rows("SELECT count(*) FROM outbox") == [(0,)]
