"""The terminal listener and a terminal server as upstream, together: what a device sees, what reaches the server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from protocols.terminal.frames import Decoder, Frame, Type
from protocols.terminal.messages import (
    OFFLINE_SESSION_BIT,
    Hello,
    JobAck,
    Login,
    LoginResult,
    Logout,
    LogoutAck,
    Message,
    RecordMessage,
    Welcome,
    decode,
    encode,
)
from proxy.admission import Policy
from proxy.commands import Command, Send
from proxy.dialects.terminal.listener import TerminalListener
from proxy.events import Channel, Connected, Received, Ticked
from proxy.link import State
from proxy.site import Site
from storage.cards import CardMemory
from tests.flows.terminal_server_house import CARD, TICK, ServerHouse, a_job

LISTENER: Channel = ("listen", "0.0.0.0", 9790)
PEER = ("10.7.0.31", 40000, "10.7.0.1")


class Together(ServerHouse):
    """A server house with a listener and one device's connection to it."""

    def start(self) -> None:
        self.answers: list[Frame] = []
        self._device = Decoder()
        super().start()
        policy = Policy(True, "any-card", 86400.0, True, re.compile("[0-9A-F]{8}"))
        self.site = Site(policy, {}, {}, CardMemory(self.reader))
        upstream = self.upstream
        self.flow = TerminalListener(LISTENER, upstream, upstream, self.site, self.tally, name="locum-1")
        self.sequence = 0

    def run(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Send) and command.channel[0] == "listen":
                self._device.receive_data(command.data)
                while (got := self._device.next_event()) is not None:
                    assert isinstance(got, Frame)
                    self.answers.append(got)
            else:
                super().run([command])

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            super().pass_time(TICK)
            self.dispatch(self.flow, Ticked(self.moment()))

    def device(self) -> Welcome:
        self.dispatch(self.flow, Connected((*LISTENER, 1), PEER, self.moment()))
        said = self.ask(Hello("mfp-1", "X", "1.0", 3))
        assert isinstance(said, Welcome)
        return said

    def ask(self, message: Message, wait: float = 0.0) -> Message | None:
        """A request of the device, and its answer after so long."""
        self.sequence += 1
        sequence, data = self.sequence, encode(message, self.sequence)
        self.dispatch(self.flow, Received((*LISTENER, 1), PEER, data, self.moment()))
        self.pass_time(wait)
        found = [decode(frame) for frame in self.answers if frame.sequence == sequence]
        assert len(found) < 2, "more than one answer"
        return found[0] if found else None


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Together]:
    house = Together(tmp_path)
    with closing(house):
        house.pass_time(0.5)
        house.device()
        house.pass_time(0.5)
        yield house


def session(said: Any) -> int:
    assert isinstance(said, LoginResult)
    assert said.status == 0
    return said.session


def test_a_day_with_the_server(house: Together) -> None:
    number = session(house.ask(Login(1, CARD, "")))
    assert number == 7
    assert house.ask(a_job(1, number)) == JobAck(1, 0)
    assert house.ask(a_job(1, number)) == JobAck(1, 1)
    assert house.ask(Logout(number)) == LogoutAck(number)
    assert house.outcomes(1) == ["delivered"]
    assert house.book == {("mfp-1", 1): 1}
    assert house.got(Type.RECORD) == []


def test_an_outage_and_its_end(house: Together) -> None:
    online = session(house.ask(Login(1, CARD, "")))
    house.go()
    assert house.ask(a_job(1, online), wait=1.2) == JobAck(1, 0)
    house.until(State.OFFLINE)
    assert house.ask(Logout(online)) == LogoutAck(online)
    offline = session(house.ask(Login(1, CARD, "")))
    assert offline & OFFLINE_SESSION_BIT
    assert house.ask(a_job(2, offline)) == JobAck(2, 0)
    house.come_back()
    house.until(State.ONLINE)
    house.pass_time(1)
    assert house.ask(a_job(3, offline), wait=0.5) == JobAck(3, 0)
    assert house.ask(Logout(offline)) == LogoutAck(offline)
    again = session(house.ask(Login(1, CARD, "")))
    assert again == 7
    assert house.waiting() == 0
    records = [asked.message for asked in house.got(Type.RECORD)]
    assert {record.job.session for record in records if isinstance(record, RecordMessage)} <= {0, 7}
    assert {number for _, number in house.book} == {1, 2, 3}


def test_a_server_that_restarts_within_the_delay_is_no_outage(house: Together) -> None:
    house.upstream.link.delay = 30.0
    session(house.ask(Login(1, CARD, "")))
    house.go(reset=True)
    assert house.ask(a_job(1, 7), wait=1.1) == JobAck(1, 0)
    house.come_back()
    house.until(State.ONLINE, 5)
    house.pass_time(1)
    assert house.waiting() == 0
    assert session(house.ask(Login(1, CARD, ""))) == 7
    assert house.rows("SELECT count(*) FROM outage_events WHERE step = 'offline'") == [(0,)]


def test_a_line_that_is_lost_costs_the_device_nothing_it_has_done(house: Together) -> None:
    number = session(house.ask(Login(1, CARD, "")))
    house.silent = {Type.JOB}
    assert house.ask(a_job(1, number)) is None
    house.end(house.of("mfp-1").channel)
    house.pass_time(2)
    assert [decode(frame) for frame in house.answers if frame.type == Type.JOB_ACK] == [JobAck(1, 0)]
    assert house.outcomes(1) == ["unanswered", "delivered"]
