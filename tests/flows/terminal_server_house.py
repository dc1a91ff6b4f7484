"""A terminal server as upstream on a fake clock: the real flow and a real ledger, the server in the test's hands.

There is no listener: the test opens lines and keeps jobs itself, in the listener's manner, and `Told` writes down what
a listener would be told. Commands are run at once, in this thread; what the server sends may be cut into pieces of any
size (`chunk`). Nothing sleeps: `pass_time` ticks the clock on.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from protocols.terminal.frames import CHECKSUM_SIZE, HEADER_SIZE, Broken, Decoder, Frame, Type, encode_frame
from protocols.terminal.messages import (
    NO_BALANCE,
    OFFLINE_SESSION_BIT,
    Error,
    Hello,
    Job,
    JobAck,
    Login,
    LoginResult,
    LogoutAck,
    Message,
    Pong,
    RecordAck,
    RecordMessage,
    Welcome,
    decode,
    encode,
)
from proxy.commands import Close, Command, Connect, Keep, Send, Tell
from proxy.dialects.terminal.upstream import Settings, TerminalUpstream
from proxy.events import Channel, Closed, Connected, Event, Flow, Kept, Moment, NotKept, Received, Ticked
from proxy.handover import Waiter, item_of
from proxy.link import Clock, Link, Resumed, State
from proxy.tally import Tally
from storage.answers import Stored
from storage.database import open_reader
from storage.errors import StorageError
from storage.ledger import Ledger
from storage.outbox import Outbox
from storage.records import Counts, Mode, OutboxState, Personal, Record, Remember

TICK = 1 / 16
EPOCH = 1_795_000_000_000
HERE, THERE = "192.0.2.1", "192.0.2.2"
CARD = "0A1B2C3D"


def frame_of(message: Message, sequence: int) -> Frame:
    data = encode(message, sequence)
    return Frame(data[3], sequence, data[HEADER_SIZE:-CHECKSUM_SIZE])


def a_job(number: int, session: int = 7, pages: int = 3) -> Job:
    return Job(session, number, 1, EPOCH, EPOCH + 5000, pages, 0, 2, 1, 1, "A4", "plan.pdf", "")


@dataclass
class Told:
    """A listener, as far as lines know it."""

    replies: list[tuple[str, object, Frame]] = field(default_factory=list)
    unrelayed: list[tuple[str, object, str]] = field(default_factory=list)

    def replied(self, device: str, token: object, reply: Frame, at: Moment) -> list[Command]:
        self.replies.append((device, token, reply))
        return []

    def not_relayed(self, device: str, token: object, why: str, at: Moment) -> list[Command]:
        self.unrelayed.append((device, token, why))
        return []

    def reply_to(self, token: object) -> Message | None:
        found = [decode(reply) for _, known, reply in self.replies if known == token]
        assert len(found) < 2
        return found[0] if found else None

    def lost(self, token: object) -> int:
        return sum(known == token for _, known, _ in self.unrelayed)


@dataclass
class KeptJob:
    """A listener's token for a job that it keeps. `number` names it; `line`: it goes as JOB."""

    record: Record
    frame: Frame
    line: bool
    heard: list[str] = field(default_factory=list)

    def answered(self, attributes: object, at: Moment) -> list[Command]:
        self.heard.append("answered")
        return []

    def unanswered(self, at: Moment) -> list[Command]:
        self.heard.append("unanswered")
        return []


@dataclass
class AtServer:
    """A connection as the server sees it."""

    channel: Channel
    address: str
    owner: Flow
    decoder: Decoder = field(default_factory=Decoder)
    device: str = ""
    greeted: bool = False
    unread: bytes = b""


@dataclass
class Asked:
    """A request that reached the server."""

    connection: AtServer
    frame: Frame
    message: Message
    at: float


class ServerHouse:
    """One upstream `hq` with its server. The server answers while it is up; `silent` names types it does not answer,
    `answer` may answer in its stead: None as usual, "" not at all, bytes these.
    """

    def __init__(self, folder: Path, **how: Any) -> None:
        self.folder = folder
        self.delay: float = how.pop("delay", 2.0)
        self.addresses: Sequence[str] = how.pop("addresses", (HERE,))
        self.window: int = how.pop("window", 256)
        self.chunk: int = how.pop("chunk", 0)
        self.proven: bool = how.pop("proven", True)
        self.settings = replace(Settings(9790, None, 1.0, 10.0, "locum-1"), **how)
        self.now, self.wall = 1000.0, EPOCH
        self.up = True
        self.down: set[str] = set()
        self.refusing: set[str] = set()
        self.silent: set[int] = set()
        self.answer: Callable[[Asked], bytes | None] = lambda asked: None
        self.state_byte = 0
        self.record_status: dict[int, int] = {}
        self.book: dict[tuple[str, int], int] = {}
        self.asked: list[Asked] = []
        self.connects: list[tuple[str, float]] = []
        self.connections: dict[Channel, AtServer] = {}
        self.hanging: dict[Channel, tuple[Connect, float]] = {}
        self.told: list[Tell] = []
        self.listener = Told()
        self.jobs: dict[int, KeptJob] = {}
        self.disk_dead = False
        self._events: deque[tuple[Flow, Event]] = deque()
        self._drawn = 0
        self.start()

    def start(self) -> None:
        self.ledger = Ledger.open(self.folder / "ledger.db", self.wall)
        self.ledger.settle_sent(self.wall)
        self.reader = open_reader(self.ledger.path)
        self.tally = Tally()
        began = self.moment()
        link = Link("hq", self.delay, Clock("boot", 0), proven=False, began=began)
        self.upstream = TerminalUpstream("hq", link, self.settings, self.tally, lambda address: f"at {address}")
        self.upstream.outbox.window = self.window
        if self.proven:
            self.upstream.proven_by = {f"at {address}" for address in (HERE, THERE)}
        self.upstream.outbox.load(Outbox(self.reader).waiting("hq"), began)
        if not self.upstream.outbox.empty:
            link.resume(Resumed(State.RECOVERING, began.now, began.wall, "records wait", None, began.now))
        self.run(self.upstream.reach(self.addresses, began))

    def close(self) -> None:
        self.reader.close()
        self.ledger.close()

    def restart(self) -> None:
        """End without a word, and start again on what the ledger holds."""
        self.close()
        self._events.clear()
        self.connections.clear()
        self.hanging.clear()
        self.start()

    # Time

    def moment(self) -> Moment:
        self._drawn += 1
        return Moment(self.now, self.wall, hashlib.blake2b(str(self._drawn).encode(), digest_size=32).digest())

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.wall += 62
            for channel, (command, until) in list(self.hanging.items()):
                if channel in self.hanging and self.reachable(command.address):
                    del self.hanging[channel]
                    self._accept(command)
                elif channel in self.hanging and self.now >= until:
                    del self.hanging[channel]
                    self.dispatch(command.owner, Closed(channel, "no answer", self.moment()))
            self.dispatch(self.upstream, Ticked(self.moment()))

    def until(self, state: State, most: float = 60.0) -> None:
        began = self.now
        while self.state is not state:
            assert self.now - began < most, f"still {self.state} after {most} s, waiting for {state}"
            self.pass_time(TICK)

    @property
    def state(self) -> State:
        return self.upstream.link.state

    # The listener's side

    def line(self, device: str = "mfp-1") -> str:
        """A device says HELLO."""
        hello = frame_of(Hello(device, "X", "1.0", 3), 1)
        self.run(self.upstream.open_line(device, hello, self.listener, self.moment()))
        return device

    def relay(self, message: Message, token: object, *, device: str = "mfp-1", sequence: int = 5) -> None:
        self.run(self.upstream.relay(device, frame_of(message, sequence), token, self.moment()))

    def login(self, token: object, *, device: str = "mfp-1", sequence: int = 5) -> None:
        self.relay(Login(1, CARD, ""), token, device=device, sequence=sequence)

    def job(self, number: int, *, device: str = "mfp-1", session: int = 7, card: str = CARD, user: str = "") -> KeptJob:
        """A device's JOB, kept and handed on as the listener does: as JOB if its session is the server's."""
        job = a_job(number, session)
        frame = frame_of(job, 1000 + number)
        raw = encode(job, 1000 + number)
        line = not session & OFFLINE_SESSION_BIT and self.upstream.lines.get(device) is not None
        record = Record(
            at=self.wall,
            dialect="terminal",
            upstream="hq",
            device=device,
            client="10.7.0.1",
            event="job",
            session=f"{session:016x}",
            mode=Mode.ONLINE if line else Mode.OFFLINE,
            order_key=f"{device}/{session}",
            personal=Personal(card=card, user=user, document=job.document, raw=raw),
            job_number=str(number),
            counts=Counts("copy", job.pages),
            for_ever=True,
            repeat_scope=device,
            repeat_keys=(str(number).encode(), raw),
        )
        place = self.upstream.place_of(record, relays=True)
        token = self.jobs[number] = KeptJob(replace(record, outbox=place), frame, line)
        (outcome,) = self.ledger.commit([token.record])
        assert isinstance(outcome, Stored)
        if place is OutboxState.SENT and line:
            self.upstream.outbox.add_sent(outcome.seq, record.order_key)
            item = item_of(token.record, outcome)
            self.run(self.upstream.relay_job(device, frame, item, token, self.moment()))
        else:
            waiter: Waiter = token
            commands, _ = self.upstream.take_over(token.record, outcome, waiter, self.moment())
            self.run(commands)
        return token

    # The ledger

    def rows(self, query: str, *given: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.ledger.path)) as connection:
            return connection.execute(query, given).fetchall()

    def outcomes(self, number: int) -> list[str]:
        """What became of each try to hand over a job."""
        query = (
            "SELECT d.outcome FROM deliveries d JOIN jobs j ON j.seq = d.record WHERE j.job_number = ? ORDER BY d.seq"
        )
        return [outcome for (outcome,) in self.rows(query, str(number))]

    def waiting(self) -> int:
        return int(self.rows("SELECT count(*) FROM outbox")[0][0])

    # The server's side

    def reachable(self, address: str) -> bool:
        return self.up and address not in self.down

    def go(self, *, reset: bool = False) -> None:
        """The server is gone without a word; with `reset` its machine still says that nobody listens."""
        self.up = False
        if reset:
            self.refusing = set(self.addresses)
            for channel in list(self.connections):
                self.end(channel, "the connection was reset", refused=True)

    def come_back(self, *, reset: bool = False) -> None:
        """It is back: what was sent meanwhile arrives, or (`reset`) its connections are no more."""
        self.up, self.refusing = True, set()
        for channel, connection in list(self.connections.items()):
            if reset:
                self.end(channel, "the connection was reset", refused=True)
                continue
            data, connection.unread = connection.unread, b""
            self._read(connection, data)

    def end(
        self, channel: Channel, text: str = "the other side closed the connection", *, refused: bool = False
    ) -> None:
        """The server closes a connection."""
        connection = self.connections.pop(channel, None)
        if connection is not None:
            self.dispatch(connection.owner, Closed(channel, text, self.moment(), refused))

    def of(self, device: str) -> AtServer:
        """The connection that said HELLO as this device."""
        (found,) = [each for each in self.connections.values() if each.device == device]
        return found

    def send(self, connection: AtServer, data: bytes) -> None:
        """Bytes from the server, in pieces."""
        size = self.chunk or len(data) or 1
        for at in range(0, len(data), size):
            if connection.channel in self.connections:
                piece = data[at : at + size]
                peer = (connection.address, 9790, "")
                self.dispatch(connection.owner, Received(connection.channel, peer, piece, self.moment()))

    def reply(self, asked: Asked, message: Message) -> None:
        """A late reply."""
        self.send(asked.connection, encode(message, asked.frame.sequence))

    def got(self, kind: int, device: str | None = None) -> list[Asked]:
        """The requests of a type that reached the server."""
        return [a for a in self.asked if a.frame.type == kind and device in (None, a.connection.device)]

    # Running commands

    def dispatch(self, flow: Flow, event: Event) -> None:
        self._events.append((flow, event))
        if len(self._events) > 1:
            return
        while self._events:
            owner, what = self._events[0]
            self.run(owner.handle(what))
            self._events.popleft()

    def run(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Keep):
                self._keep(command)
            elif isinstance(command, Connect):
                self._connect(command)
            elif isinstance(command, Send):
                connection = self.connections.get(command.channel)
                if connection is not None and self.reachable(connection.address):
                    self._read(connection, command.data)
                elif connection is not None:
                    connection.unread += command.data
            elif isinstance(command, Close):
                self.connections.pop(command.channel, None)
                self.hanging.pop(command.channel, None)
            elif isinstance(command, Tell):
                self.told.append(command)

    def _keep(self, keep: Keep) -> None:
        if self.disk_dead:
            if keep.token is not None and keep.owner is not None:
                self.dispatch(keep.owner, NotKept(keep.token, "the disk is dead", self.moment()))
            return
        (outcome,) = self.ledger.commit([keep.change])
        assert not isinstance(outcome, StorageError), f"{outcome}: {keep.change}"
        if isinstance(keep.change, Remember):
            assert keep.change.key.startswith("proven:hq:at ")
        self.run(keep.then)
        if keep.token is not None and keep.owner is not None:
            self.dispatch(keep.owner, Kept(keep.token, outcome, self.moment()))

    def _connect(self, command: Connect) -> None:
        assert command.channel not in self.connections, "a channel is used once"
        assert command.port == self.settings.port
        assert command.timeout == self.settings.answer_timeout
        self.connects.append((command.address, self.now))
        if command.address in self.refusing:
            self.dispatch(command.owner, Closed(command.channel, "connection refused", self.moment(), refused=True))
        elif self.reachable(command.address):
            self._accept(command)
        else:
            self.hanging[command.channel] = (command, self.now + command.timeout)

    def _accept(self, command: Connect) -> None:
        peer = (command.address, command.port, "")
        self.connections[command.channel] = AtServer(command.channel, command.address, command.owner)
        self.dispatch(command.owner, Connected(command.channel, peer, self.moment()))

    def _read(self, connection: AtServer, data: bytes) -> None:
        connection.decoder.receive_data(data)
        while (frame := connection.decoder.next_event()) is not None:
            assert not isinstance(frame, Broken), frame
            asked = Asked(connection, frame, decode(frame), self.now)
            self.asked.append(asked)
            self._serve(asked)

    def _serve(self, asked: Asked) -> None:
        connection, message = asked.connection, asked.message
        if isinstance(message, Hello):
            for other in [
                c for c in self.connections.values() if c.device == message.device_id and c is not connection
            ]:
                self.end(other.channel)
            connection.device = message.device_id
        data = self.answer(asked)
        if data is None and asked.frame.type not in self.silent:
            reply = self._usual(asked)
            data = encode_frame(reply.type, asked.frame.sequence, reply.payload)
        if data:
            self.send(connection, data)

    def _usual(self, asked: Asked) -> Frame:
        connection, message = asked.connection, asked.message
        if isinstance(message, Hello):
            connection.greeted = True
            return frame_of(Welcome("server", 30, EPOCH, self.state_byte), 1)
        if not connection.greeted:
            return frame_of(Error(6, "HELLO expected"), 1)
        if isinstance(message, RecordMessage):
            status = self._store(message.device_id, message.job)
            return frame_of(RecordAck(message.record_id, message.job.job, status, "anna"), 1)
        if isinstance(message, Job):
            return frame_of(JobAck(message.job, self._store(connection.device, message)), 1)
        if isinstance(message, Login):
            return frame_of(LoginResult(0, 7, "anna", "", NO_BALANCE, 31), 1)
        if asked.frame.type == Type.LOGOUT:
            return frame_of(LogoutAck(7), 1)
        return frame_of(Pong(self.state_byte), 1)

    def _store(self, device: str, job: Job) -> int:
        status = self.record_status.get(job.job)
        if status is not None:
            return status
        key = (device, job.job)
        self.book[key] = self.book.get(key, 0) + 1
        return 0 if self.book[key] == 1 else 1
