"""A terminal listener on a fake clock: the real flow, Site and ledger, with devices and server in the test's hands.

`ServerInHand` has the real upstream's state, outbox and order; what would go over its wire is answered at once, or,
while `silent`, left under way, to be answered late or never. Nothing sleeps: `pass_time` ticks the clock on.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocols.terminal.frames import Decoder, Frame
from protocols.terminal.messages import (
    Error,
    Hello,
    Job,
    JobAck,
    Login,
    LoginResult,
    Logout,
    LogoutAck,
    Message,
    Ping,
    Pong,
    Query,
    QueryResult,
    Unlock,
    Welcome,
    decode,
    encode,
)
from proxy.admission import Policy
from proxy.asking import CardAnswer, CardQuestion
from proxy.commands import Close, Command, Keep, Send, Source, Tell, Verify
from proxy.dialects.terminal.lines import LineOwner
from proxy.dialects.terminal.listener import TerminalListener
from proxy.events import Channel, Closed, Connected, Event, Flow, Kept, Moment, NotKept, Received, Ticked, Verified
from proxy.handover import Waiter
from proxy.link import Clock, Link, Signal, State
from proxy.sessions import REMEMBERED_AFTER_END
from proxy.site import Seen, Site
from proxy.tally import Tally
from proxy.upstream import Upstream
from storage.answers import OutboxItem
from storage.cards import CardMemory
from storage.database import open_reader
from storage.errors import StorageError
from storage.ledger import Ledger
from storage.reader import Reader
from storage.records import AppLogLine
from storage.space import Level, may_be_kept

TICK = 1 / 16
EPOCH = 1_795_000_000_000
LISTENER: Channel = ("listen", "0.0.0.0", 9790)
CARD = "04A2B3C4D5"
CODE = "471147"
POLICY: dict[str, Any] = {
    "enabled": True,
    "admission": "any-card",
    "card_memory": 30 * 86400.0,
    "refuse_known_bad": True,
    "card_pattern": re.compile("[0-9A-Za-z]{4,40}"),
}


@dataclass
class UnderWay:
    """A request that the server has not answered."""

    device: str
    frame: Frame
    token: object
    item: OutboxItem | None = None


class ServerInHand(Upstream):
    """A terminal server with lines, or (`dialect="papercut"`) one that is asked about cards."""

    wants_facts = True

    def __init__(self, name: str, dialect: str, link: Link, timeout: float) -> None:
        super().__init__(name, dialect, link, 256)
        self.answer_timeout = timeout
        self.succeeding = False
        self.silent = False
        self.granted = {CARD: "amara.okafor"}
        self.next_session = 7
        self.job_status = 0
        self.lines: dict[str, LineOwner] = {}
        self.hellos: list[Frame] = []
        self.asked: list[UnderWay] = []
        self.under_way: list[UnderWay] = []
        self.records: list[OutboxItem] = []
        self.waiting: list[tuple[OutboxItem, Waiter | None]] = []
        self.questions: list[CardQuestion] = []
        self.answer = CardAnswer("amara.okafor", "Amara Okafor", 1250)

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, Kept):
            return self.kept(event)
        if isinstance(event, NotKept):
            return self.not_kept(event)
        return self.tick(event.at) if isinstance(event, Ticked) else []

    def send_record(self, item: OutboxItem, at: Moment, waiter: Waiter | None) -> list[Command]:
        self.records.append(item)
        if self.silent:
            self.waiting.append((item, waiter))
            return []
        return self.delivered(item, at) + (waiter.answered((), at) if waiter is not None else [])

    def cut_records(self) -> list[tuple[OutboxItem, Waiter | None]]:
        waiting, self.waiting = self.waiting, []
        jobs = [each for each in self.under_way if each.item is not None]
        self.under_way = [each for each in self.under_way if each.item is None]
        return waiting + [(each.item, None) for each in jobs if each.item is not None]

    def reach(self, addresses: Sequence[str], at: Moment) -> list[Command]:
        return []

    def unreachable(self, cause: str, at: Moment) -> list[Command]:
        return []

    def tries_first(self, now: float) -> bool:
        return self.succeeding

    # Lines

    def open_line(
        self, device: str, hello: Frame, owner: LineOwner, at: Moment, source: Source | None = None
    ) -> list[Command]:
        self.lines[device] = owner
        self.hellos.append(hello)
        return []

    def close_line(self, device: str, at: Moment) -> list[Command]:
        del self.lines[device]
        return []

    def relay(self, device: str, request: Frame, token: object, at: Moment) -> list[Command]:
        return self._on_line(UnderWay(device, request, token), at)

    def relay_job(self, device: str, request: Frame, item: OutboxItem, token: object, at: Moment) -> list[Command]:
        return self._on_line(UnderWay(device, request, token, item), at)

    def _on_line(self, under_way: UnderWay, at: Moment) -> list[Command]:
        self.asked.append(under_way)
        if self.silent:
            self.under_way.append(under_way)
            return []
        return self.reply(under_way, self.words(decode(under_way.frame)), at)

    def words(self, message: Message) -> Message:
        """What this server says to a request."""
        match message:
            case Login(_, credential, _) if credential in self.granted:
                self.next_session += 1
                return LoginResult(0, self.next_session, self.granted[credential], "welcome", 1250, 15)
            case Login():
                return LoginResult(1, 0, "", "unknown card", 0, 0)
            case Job():
                return JobAck(message.job, self.job_status)
            case Logout():
                return LogoutAck(message.session)
            case Ping():
                return Pong(0)
            case Query():
                return QueryResult(0, ("Chemistry", "Physics"))
            case _:
                return Error(4, "what?")

    def reply(self, under_way: UnderWay, message: Message, at: Moment) -> list[Command]:
        """The server's reply, now or late."""
        commands: list[Command] = []
        if under_way.item is not None:
            commands = self.delivered(under_way.item, at)
        owner = self.lines.get(under_way.device)
        if owner is None:
            return commands
        return commands + owner.replied(under_way.device, under_way.token, frame_of(message), at)

    def lose_line(self, device: str, at: Moment) -> list[Command]:
        """The line of a device is lost with all that was under way on it."""
        lost = [each for each in self.under_way if each.device == device]
        self.under_way = [each for each in self.under_way if each.device != device]
        commands = self.put_back([(each.item, None) for each in lost if each.item is not None], "line lost", at)
        for each in lost:
            commands += self.lines[device].not_relayed(device, each.token, "the line was lost", at)
        return commands

    # Cards

    def ask_card(self, question: CardQuestion, at: Moment) -> list[Command]:
        self.questions.append(question)
        return [] if self.silent else question.asker.card_answered(question, self.answer, at)


class Device:
    """A terminal at one end of a connection. `closed`: Locum has closed it."""

    def __init__(self, house: TerminalHouse, name: str, host: int, certificate: str, chunk: int) -> None:
        self.house = house
        self.name = name
        self.peer = (f"10.7.0.{host}", 40000, "")
        self.chunk = chunk
        house.connections += 1
        self.channel: Channel = (*LISTENER, house.connections)
        self.decoder = Decoder()
        self.said: list[tuple[int, Message]] = []
        self.closed = False
        self.sequence = 0
        house.ends[self.channel] = self
        house.dispatch(house.listener, Connected(self.channel, self.peer, house.moment(), certificate))

    def send(self, data: bytes) -> None:
        step = self.chunk or max(1, len(data))
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            self.house.dispatch(self.house.listener, Received(self.channel, self.peer, piece, self.house.moment()))

    def ask(self, message: Message, sequence: int = 0) -> int:
        """Send a request; gives its sequence."""
        self.sequence = sequence or self.sequence + 1
        self.send(encode(message, self.sequence))
        return self.sequence

    def hello(self, capabilities: int = 15) -> Message:
        return self.answer(self.ask(Hello(self.name, "bizhub C360", "GC2-R4", capabilities)))

    def answers(self, sequence: int) -> list[Message]:
        return [message for number, message in self.said if number == sequence]

    def answer(self, sequence: int) -> Message:
        (message,) = self.answers(sequence)
        return message

    def tell(self, message: Message) -> Any:
        """Ask and give the one answer that came back at once."""
        return self.answer(self.ask(message))

    def login(self, card: str = CARD, method: int = 1, secret: str = "") -> Any:
        return self.tell(Login(method, card, secret))

    def ping(self) -> int:
        state: int = self.tell(Ping()).state
        return state

    def leave(self) -> None:
        """The device ends the connection."""
        self.house.ends.pop(self.channel, None)
        self.house.dispatch(self.house.listener, Closed(self.channel, "the peer closed it", self.house.moment()))

    def heard(self, data: bytes) -> None:
        self.decoder.receive_data(data)
        while (frame := self.decoder.next_event()) is not None:
            assert isinstance(frame, Frame), f"Locum sent what is no frame: {frame}"
            self.said.append((frame.sequence, decode(frame)))


@dataclass
class TerminalHouse:
    """One upstream `hq` (`server`: terminal or papercut), one listener; with `records_to="books"` a second upstream."""

    folder: Path
    server: str = "terminal"
    records_to: str = "hq"
    delay: float = 2.0
    timeout: float = 1.0
    heartbeat: float = 30.0
    policy: dict[str, Any] = field(default_factory=dict)
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    pins: dict[str, str] = field(default_factory=dict)
    certificates: dict[str, str] = field(default_factory=dict)
    now: float = 1000.0
    wall: int = EPOCH

    def __post_init__(self) -> None:
        self.holding = self.disk_dead = self.disk_full = False
        self.told: list[Tell] = []
        self.ends: dict[Channel, Device] = {}
        self.connections = 0
        self._events: deque[tuple[Flow, Event]] = deque()
        self._held: deque[Keep] = deque()
        self._drawn = 0
        self.start()

    def start(self) -> None:
        """Open the ledger and build the flows on what it holds."""
        self.ledger = Ledger.open(self.folder / "ledger.db", self.wall)
        self.ledger.settle_sent(self.wall)
        self.reader = open_reader(self.ledger.path)
        self.tally = Tally()
        policy = Policy(**POLICY | self.policy)
        policies = {device: Policy(**POLICY | self.policy | each) for device, each in self.devices.items()}
        self.site = Site(policy, policies, dict(self.pins), CardMemory(self.reader), dict(self.certificates))
        self.site.unlocking.hash = "argon2"
        reader = Reader(self.ledger.path, self.reader)
        for session, ended in reader.sessions(self.wall - REMEMBERED_AFTER_END):
            self.site.sessions.restore(session, ended=ended)
        for device in reader.devices():
            names = (device.client, device.dialect, device.upstream)
            self.site.seen[device.device] = Seen(*names, device.last_seen, self.now)
        self.upstream = self._new_upstream("hq", self.server)
        self.books = self._new_upstream("books", self.server) if self.records_to == "books" else self.upstream
        self.site.drills.ended.append(self.site.drills_ended)
        self.listener = TerminalListener(
            LISTENER, self.upstream, self.books, self.site, self.tally, name="locum-1", heartbeat=self.heartbeat
        )

    def _new_upstream(self, name: str, dialect: str) -> ServerInHand:
        link = Link(name, self.delay, Clock("boot", 0), True, self.moment())
        upstream = ServerInHand(name, dialect, link, self.timeout)
        upstream.before_subscribers = self.site.state_changed
        self.site.upstreams[name] = upstream
        return upstream

    def close(self) -> None:
        self.reader.close()
        self.ledger.close()

    def restart(self) -> None:
        """End without a word and start again; what was not kept is lost."""
        self.close()
        self._events.clear()
        self._held.clear()
        self.ends.clear()
        self.start()

    # Time

    def moment(self) -> Moment:
        self._drawn += 1
        return Moment(self.now, self.wall, hashlib.blake2b(str(self._drawn).encode(), digest_size=32).digest())

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.wall += 62
            moment = self.moment()
            flows: list[Flow] = [self.site, *dict.fromkeys((self.upstream, self.books)), self.listener]
            for flow in flows:
                self.dispatch(flow, Ticked(moment))

    @property
    def state(self) -> State:
        return self.upstream.state

    def move(self, state: State) -> None:
        """Bring about a state from ONLINE, or ONLINE from any. RECOVERING lasts: a record of `copier-9` is never
        answered.
        """
        if state is State.ONLINE:
            self.upstream.silent = False
            self.signal(Signal.CONTACT_STEADY)
            self.pass_time(8)
        else:
            self.signal(Signal.CONTACT_FAILED)
        if state in (State.OFFLINE, State.RECOVERING):
            self.pass_time(self.delay)
        if state is State.RECOVERING:
            slow = self.device("copier-9", 9)
            slow.ask(job(0, 1))
            self.upstream.silent = True
            self.signal(Signal.CONTACT_STEADY)
            self.upstream.silent = False
        assert self.state is state
        self.told.clear()

    def signal(self, signal: Signal) -> None:
        self.run(self.upstream.signal(signal, "by the test", self.moment()))

    # The devices' side

    def connect(self, name: str = "copier-1", host: int = 31, certificate: str = "", chunk: int = 0) -> Device:
        return Device(self, name, host, certificate, chunk)

    def device(self, name: str = "copier-1", host: int = 31, **how: Any) -> Device:
        """A device that is connected and has said HELLO."""
        device = self.connect(name, host, **how)
        assert isinstance(device.hello(), Welcome)
        return device

    def lock(self) -> None:
        """From here on offline mode waits for a code, on every device."""
        self.site.policy = Policy(**POLICY | self.policy | {"asks_code": True})

    def say(self, under_way: UnderWay, message: Message) -> None:
        """The server replies now."""
        self.run(self.upstream.reply(under_way, message, self.moment()))

    # The ledger

    def rows(self, query: str, *given: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.ledger.path)) as connection:
            return connection.execute(query, given).fetchall()

    def count(self, query: str, *given: object) -> int:
        return int(self.rows(query, *given)[0][0])

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
                if self.holding:
                    self._held.append(command)
                else:
                    self._commit(command)
            elif isinstance(command, Send):
                end = self.ends.get(command.channel)
                if end is not None:
                    end.heard(command.data)
            elif isinstance(command, Close):
                end = self.ends.pop(command.channel, None)
                if end is not None:
                    end.closed = True
            elif isinstance(command, Verify):
                right = command.code == CODE
                self.dispatch(command.owner, Verified(command.token, right, self.moment()))
            elif isinstance(command, Tell):
                self.told.append(command)
                if command.keep and not self.disk_dead:
                    self.ledger.commit([AppLogLine(self.wall, command.level, command.text, command.context)])

    @property
    def held(self) -> int:
        """How many changes wait to be committed."""
        return len(self._held)

    def sync(self) -> None:
        """Commit what is held; what is asked for meanwhile is held in its turn."""
        for _ in range(len(self._held)):
            self._commit(self._held.popleft())

    def _commit(self, keep: Keep) -> None:
        if self.disk_dead or (self.disk_full and not may_be_kept(keep.change, Level.FULL)):
            if keep.token is not None and keep.owner is not None:
                self.dispatch(keep.owner, NotKept(keep.token, "the disk is full", self.moment()))
            return
        (outcome,) = self.ledger.commit([keep.change])
        assert not isinstance(outcome, StorageError), f"{outcome}: {keep.change}"
        self.run(keep.then)
        if keep.token is not None and keep.owner is not None:
            self.dispatch(keep.owner, Kept(keep.token, outcome, self.moment()))


def frame_of(message: Message, sequence: int = 1) -> Frame:
    """A message as a frame that was received."""
    decoder = Decoder()
    decoder.receive_data(encode(message, sequence))
    frame = decoder.next_event()
    assert isinstance(frame, Frame)
    return frame


def job(session: int, number: int = 90001, **other: Any) -> Job:
    """A job of this session: 12 pages, 4 of them in colour."""
    said: dict[str, Any] = {
        "session": session,
        "job": number,
        "kind": 1,
        "started": EPOCH - 20_000,
        "ended": EPOCH - 5_000,
        "pages": 12,
        "color_pages": 4,
        "sheets": 6,
        "copies": 1,
        "flags": 1,
        "paper": "A4",
        "document": "Überweisung.pdf",
        "account": "",
    }
    return Job(**said | other)


def unlock(code: str = CODE, scope: int = 1) -> Unlock:
    return Unlock(scope, code)


Make = Callable[..., TerminalHouse]


@contextmanager
def houses(folder: Path) -> Iterator[Make]:
    """`make(state=State.OFFLINE, ...)`: a house in this state, ONLINE if none is named; all are closed at the end."""
    with ExitStack() as stack:

        def make(state: State = State.ONLINE, **how: Any) -> TerminalHouse:
            place = folder / str(len(list(folder.iterdir())))
            place.mkdir()
            house = TerminalHouse(place, **how)
            stack.callback(house.close)
            if state is not State.ONLINE:
                house.move(state)
            return house

        yield make
