"""Any bytes and any frames from a terminal server, at any time: nothing is raised and no record is lost.

The house is the one of tests/flows: the real flow and a real ledger on a fake clock. After every step each job is
either in the outbox or delivered, and what the outbox counts as in flight is under way exactly once.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.terminal.frames import Type, encode_frame
from protocols.terminal.messages import (
    NO_BALANCE,
    OFFLINE_SESSION_BIT,
    Error,
    Job,
    JobAck,
    LoginResult,
    Message,
    Pong,
    RecordAck,
    RecordMessage,
    Welcome,
    encode,
)
from proxy.dialects.terminal.upstream_lines import Relayed
from proxy.link import State
from tests.flows.terminal_server_house import HERE, THERE, ServerHouse

SETTINGS = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
DEVICES = ("mfp-1", "mfp-2")

places = st.integers(0, 50)
statuses = st.sampled_from([0, 0, 1, 2, 3, 9])
any_bytes = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=30).map(lambda tail: b"CT\x01" + tail),
    st.builds(
        encode_frame,
        st.sampled_from([0x01, 0x06, 0x7F, *range(0x81, 0x8A), 0xFF]),
        st.integers(0, 8),
        st.binary(max_size=40),
    ),
    st.builds(encode, st.builds(Error, st.integers(0, 255), st.just("x")), st.integers(0, 8)),
)
steps = st.one_of(
    st.tuples(st.just("bytes"), places, any_bytes),
    st.tuples(st.just("reply"), places, statuses),
    st.tuples(st.just("error"), places, st.integers(1, 7)),
    st.tuples(st.just("lie"), places, st.integers(0, 3)),
    st.tuples(st.just("end"), places, st.booleans()),
    st.tuples(st.just("login"), st.sampled_from(DEVICES), st.integers(0, 5)),
    st.tuples(st.just("job"), st.sampled_from(DEVICES), st.booleans()),
    st.tuples(st.just("line"), st.sampled_from(DEVICES), st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([0.125, 1.0, 6.0, 12.0]), st.none()),
    st.tuples(st.just("silent"), st.sets(st.sampled_from([1, 2, 4, 6, 8])), st.none()),
    st.tuples(st.just("server"), st.sampled_from(["up", "gone", "reset", "refuses"]), st.none()),
    st.tuples(st.just("reach"), st.sampled_from([(), (HERE,), (THERE,), (HERE, THERE)]), st.none()),
)


class Storm:
    """One house, and what is done to it."""

    def __init__(self, folder: str, chunk: int) -> None:
        self.house = ServerHouse(Path(folder), window=3, chunk=chunk, addresses=(HERE, THERE))
        self.house.pass_time(0.5)
        for device in DEVICES:
            self.house.line(device)
        self.jobs = 0

    def step(self, what: str, first: Any, second: Any) -> None:
        act: Callable[[Any, Any], None] = getattr(self, what)
        act(first, second)
        self.check()

    def bytes(self, place: int, data: bytes) -> None:
        connections = list(self.house.connections.values())
        if connections:
            self.house.send(connections[place % len(connections)], data)

    def reply(self, place: int, status: int) -> None:
        if not self.house.asked:
            return
        asked = self.house.asked[-1 - place % len(self.house.asked)]
        message = asked.message
        if isinstance(message, RecordMessage):
            self.house.reply(asked, RecordAck(message.record_id, message.job.job, status, "anna"))
        elif isinstance(message, Job):
            self.house.reply(asked, JobAck(message.job, status))
        elif asked.frame.type == Type.HELLO:
            self.house.reply(asked, Welcome("s", 0, 0, status))
        elif asked.frame.type == Type.LOGIN:
            self.house.reply(asked, LoginResult(status, 7, "", "", NO_BALANCE, 0))
        else:
            self.house.reply(asked, Pong(status))

    def error(self, place: int, code: int) -> None:
        if self.house.asked:
            self.house.reply(self.house.asked[-1 - place % len(self.house.asked)], Error(code, "no"))

    def lie(self, place: int, kind: int) -> None:
        """An answer to another request than the one that it names."""
        if self.house.asked:
            asked = self.house.asked[-1 - place % len(self.house.asked)]
            lies: list[Message] = [JobAck(77, 0), RecordAck(b"0" * 16, 77, 0, "eve"), Pong(0), Welcome("s", 0, 0, 0)]
            self.house.reply(asked, lies[kind])

    def end(self, place: int, refused: bool) -> None:
        channels = list(self.house.connections)
        if channels:
            self.house.end(channels[place % len(channels)], refused=refused)

    def login(self, device: str, sequence: int) -> None:
        self.house.login(object(), device=device, sequence=sequence)

    def job(self, device: str, offline: bool) -> None:
        self.jobs += 1
        self.house.job(self.jobs, device=device, session=(OFFLINE_SESSION_BIT if offline else 0) | (self.jobs % 3 + 1))

    def line(self, device: str, opens: bool) -> None:
        if opens:
            self.house.line(device)
        else:
            self.house.run(self.house.upstream.close_line(device, self.house.moment()))

    def time(self, seconds: float, _: None) -> None:
        self.house.pass_time(seconds)

    def silent(self, types: set[int], _: None) -> None:
        self.house.silent = types

    def server(self, how: str, _: None) -> None:
        house = self.house
        if how == "up":
            house.come_back()
        elif how == "refuses":
            house.refusing = {HERE, THERE}
        else:
            house.go(reset=how == "reset")

    def reach(self, addresses: tuple[str, ...], _: None) -> None:
        self.house.addresses = addresses
        self.house.run(self.house.upstream.reach(addresses, self.house.moment()))

    def check(self) -> None:
        """Each job is in exactly one place, and the outbox knows which."""
        house = self.house
        upstream, outbox = house.upstream, house.upstream.outbox
        there = {seq for (seq,) in house.rows("SELECT seq FROM outbox WHERE state <> 'rejected'")}
        gone = {seq for (seq,) in house.rows("SELECT record FROM deliveries WHERE outcome = 'delivered'")}
        rejected = {seq for (seq,) in house.rows("SELECT seq FROM outbox WHERE state = 'rejected'")}
        assert not there & gone
        assert not rejected & gone
        assert len(there) + len(gone) + len(rejected) == self.jobs
        assert len(outbox._key_of) + sum(outbox._waiting.values()) == len(there)
        flying = Counter(sent.item.seq for sent in upstream.records._sent() if not sent.over)
        flying.update(unsent.item.seq for unsent in upstream.records._queue)
        for line in upstream.lines:
            for asked in line.stream.under_way.values() if line.stream else ():
                if isinstance(asked.about, Relayed) and asked.about.item is not None and not asked.about.over:
                    flying[asked.about.item.seq] += 1
        assert all(count == 1 for count in flying.values())
        assert set(flying) == outbox._in_flight
        tokens = Counter(id(token) for _, token, _ in house.listener.replies)
        tokens.update(id(token) for _, token, _ in house.listener.unrelayed)
        assert all(count == 1 for count in tokens.values()), "a listener is told twice"
        assert len(upstream._streams) <= 2 * len(upstream.hosts._all) + len(DEVICES) + 1

    def ends_well(self) -> None:
        """The server is well again: everything arrives there, once for each number."""
        house = self.house
        house.silent, house.refusing, house.up = set(), set(), True
        self.reach((HERE, THERE), None)
        house.come_back()
        self.check()
        house.pass_time(4)
        for _ in range(6):
            house.pass_time(12)
            for seq, key in house.rows("SELECT seq, order_key FROM outbox WHERE state = 'waiting'"):
                if house.upstream.outbox.knows(seq):
                    house.run(house.upstream.retry(seq, key, house.moment()))
        self.check()
        assert house.state is State.ONLINE
        assert house.rows("SELECT count(*) FROM outbox WHERE state <> 'rejected'") == [(0,)]
        for device in DEVICES:
            house.line(device)
            house.login("last", device=device)
        house.pass_time(1)
        assert sum(token == "last" for _, token, _ in house.listener.replies) == 2


@SETTINGS
@given(script=st.lists(steps, max_size=25), chunk=st.sampled_from([0, 0, 1, 5]))
def test_whatever_the_server_does_no_record_is_lost(script: list[tuple[str, Any, Any]], chunk: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        storm = Storm(folder, chunk)
        try:
            for what, first, second in script:
                storm.step(what, first, second)
            storm.ends_well()
        finally:
            storm.house.close()


@pytest.mark.parametrize("state", [State.ONLINE, State.GRACE, State.OFFLINE])
def test_any_bytes_on_any_connection_raise_nothing(state: State) -> None:
    with tempfile.TemporaryDirectory() as folder:
        storm = Storm(folder, 0)
        house = storm.house
        if state is not State.ONLINE:
            house.upstream.link.delay = 0.0 if state is State.OFFLINE else 1e9
            house.go()
            house.until(state)

        @SETTINGS
        @given(data=any_bytes, place=places)
        def survives(data: bytes, place: int) -> None:
            storm.bytes(place, data)
            house.pass_time(0.125)
            storm.check()

        survives()
        house.upstream.link.delay = 2.0
        storm.ends_well()
        house.close()


@SETTINGS
@given(st.lists(any_bytes, max_size=6).map(b"".join), st.lists(st.integers(0, 200), max_size=6))
def test_the_same_bytes_in_any_pieces_have_the_same_effect(data: bytes, cuts: list[int]) -> None:
    def after(pieces: list[bytes]) -> tuple[Any, ...]:
        with tempfile.TemporaryDirectory() as folder:
            house = Storm(folder, 0).house
            house.silent = {Type.LOGIN}
            house.login("t", sequence=5)
            connection = house.of("mfp-1")
            for piece in pieces:
                house.send(connection, piece)
            house.close()
            heard = [reply for _, _, reply in house.listener.replies]
            return heard, dict(house.tally.counts), connection.channel in house.connections

    places = sorted({cut % (len(data) + 1) for cut in cuts})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    assert after([data]) == after([piece for piece in pieces if piece])
