"""A PaperCut upstream on a fake clock: the real flow and a real ledger, with a server in the test's hands behind it.

The server reads HTTP with h11 and calls with the standard library's xmlrpc, so nothing of ours is on its side. It has
users, cards, config values and a book of jobs, and can be made to misbehave: see `Server`. Nothing sleeps: `pass_time`
ticks the clock on, and answers that the server delays come when their time has come.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import sqlite3
import xmlrpc.client
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from itertools import count
from pathlib import Path
from typing import Any

import h11

from proxy.asking import CardAnswer, CardQuestion
from proxy.commands import Close, Command, Connect, Keep, Send, Tell, Tls
from proxy.dialects.papercut.settings import Settings
from proxy.dialects.papercut.upstream import PapercutUpstream
from proxy.events import Channel, Closed, Connected, Event, Flow, Kept, Moment, NotKept, Received, Ticked
from proxy.link import Clock, Link, Resumed, State
from proxy.tally import Tally
from storage.answers import Repeat, Stored
from storage.database import open_reader
from storage.errors import StorageError
from storage.ledger import Ledger
from storage.outbox import Outbox
from storage.reader import Reader
from storage.records import AppLogLine, Counts, Mode, Personal, Record

TICK = 1 / 16
EPOCH = 1_795_000_000_000
HERE = "192.0.2.1"
THERE = "192.0.2.2"
TOKEN = "lab-token"
REFUSED_TOKEN = "biz.papercut.AuthException: Invalid authentication token."


def pairs_of(details: str) -> dict[str, str]:
    """Job details read back by the grammar of the API, written apart from ours."""
    fields: list[str] = []
    place = 0
    while place < len(details):
        if details[place] == '"':
            place += 1
            text = ""
            while True:
                if details[place] == '"' and details[place + 1 : place + 2] == '"':
                    text += '"'
                    place += 2
                elif details[place] == '"':
                    place += 2
                    break
                else:
                    text += details[place]
                    place += 1
        else:
            end = details.find(",", place)
            end = len(details) if end < 0 else end
            text = details[place:end].replace('""', '"')
            place = end + 1
        fields.append(text)
    return dict(text.split("=", 1) for text in fields)


@dataclass
class Server:
    """What the server knows, and how it behaves.

    `down`: nothing of it answers, connections neither. `refusing`: connections are refused. `cut`: by method, where the
    exchange breaks: "connected" (closed as soon as it is open), "sent" (carried out, then closed without an answer),
    "half" (carried out, then half an answer), "unread" (closed, not carried out). `faults`: by method, its fault.
    `raw`: by method, the whole HTTP answer. `silent`: methods that are carried out and never answered. `late`: seconds
    by method. `delay`: seconds for all.
    """

    users: dict[str, dict[str, str]] = field(default_factory=dict)
    cards: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    down: bool = False
    refusing: bool = False
    down_at: set[str] = field(default_factory=set)
    tls_error: str = ""
    token: str = TOKEN
    cut: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str | Callable[[dict[str, str]], str]] = field(default_factory=dict)
    raw: dict[str, bytes] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    late: dict[str, float] = field(default_factory=dict)
    delay: float = 0.0
    book: list[dict[str, str]] = field(default_factory=list)
    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.calls)

    def person(self, user: str, *cards: str, **properties: str) -> None:
        self.users[user] = {"balance": "10.0", "restricted": "false", "disabled-print": "false"} | properties
        self.cards |= dict.fromkeys(cards, user)

    def booked(self) -> list[str]:
        """The ids of the records in the book."""
        return [job["comment"].removeprefix("locum:") for job in self.book]

    def carry_out(self, method: str, token: str, *given: Any) -> Any:
        """The API. Raises xmlrpc.client.Fault."""
        if token != self.token:
            raise xmlrpc.client.Fault(0, REFUSED_TOKEN)
        said = self.faults.get(method)
        if callable(said):
            said = said(pairs_of(given[0]) if method == "processJob" else {"": str(given[0])})
        if said:
            raise xmlrpc.client.Fault(0, said)
        if method == "getTotalUsers":
            return len(self.users)
        if method == "lookUpUserNameByCardNo":
            return self.cards.get(given[0], "")
        if method == "isUserExists":
            return given[0] in self.users
        if method == "addNewInternalUser":
            if given[0] in self.users:
                raise xmlrpc.client.Fault(0, "java.lang.Exception: User already exists")
            return self.person(given[0], password=given[1]) or True
        if method == "getConfigValue":
            return self.values.get(given[0], "")
        if method == "setConfigValue":
            self.values[given[0]] = given[1]
            return ""
        if method == "getUserProperties":
            return [self.users[given[0]].get(name, "") for name in given[1]]
        if method == "getUserProperty" and given[1] == "print-stats.job-count":
            if given[0] not in self.users:
                raise xmlrpc.client.Fault(0, f"java.lang.Exception: User '{given[0]}' does not exist")
            return str(sum(job["user"] == given[0] for job in self.book))
        if method == "processJob":
            job = pairs_of(given[0])
            if job["user"] not in self.users:
                raise xmlrpc.client.Fault(0, f"java.lang.Exception: User '{job['user']}' does not exist")
            self.book.append(job)
            return True
        raise xmlrpc.client.Fault(0, f"java.lang.NoSuchMethodException: {method}")


@dataclass
class _Conn:
    owner: Flow
    address: str
    http: h11.Connection
    open: bool = False


@dataclass
class Asker:
    """A listener of another dialect that asked, or a device that waits for its job's answer."""

    answers: list[CardAnswer] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def card_answered(self, question: CardQuestion, answer: CardAnswer, at: Moment) -> list[Command]:
        self.answers.append(answer)
        return []

    def answered(self, attributes: object, at: Moment) -> list[Command]:
        self.said.append("answered")
        return []

    def unanswered(self, at: Moment) -> list[Command]:
        self.said.append("unanswered")
        return []

    def handle(self, event: Event) -> list[Command]:
        return []


@dataclass
class House:
    """One upstream `hq` at `addresses`, and records that come in by `job`."""

    folder: Path
    delay: float = 2.0
    timeout: float = 1.0
    addresses: Sequence[str] = (HERE,)
    window: int = 32
    token: str = TOKEN
    zone: tzinfo = UTC
    appliance: str = "box-1"
    converters: tuple[str, ...] = ()
    tls: Tls | None = None
    unknown: str = "unknown"
    server: Server = field(default_factory=Server)
    now: float = 1000.0
    wall: int = EPOCH

    def __post_init__(self) -> None:
        self.told: list[Tell] = []
        self.holding = False
        self.disk_dead = False
        self.sent: list[tuple[float, str]] = []
        self._events: deque[tuple[Flow, Event]] = deque()
        self._held: deque[Keep] = deque()
        self._conns: dict[Channel, _Conn] = {}
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._drawn = self._jobs = 0
        self._odd = False
        self.start()

    def start(self) -> None:
        """Open the ledger and build the flow on what it holds, as the service does."""
        self.ledger = Ledger.open(self.folder / "ledger.db", self.wall)
        self.in_flight = self.ledger.settle_sent(self.wall, in_doubt={"hq"})
        self.reading = open_reader(self.ledger.path)
        reader = Reader(self.ledger.path, self.reading)
        self.tally = Tally()
        link = Link("hq", self.delay, Clock("boot", 0), False, self.moment())
        self.upstream = PapercutUpstream(
            "hq", link, self.settings(), self.tally, self.fingerprint, reader.hash_of,
            reader.memory("claim:hq") or "", window=self.window,
        )  # fmt: skip
        self.upstream.proven_by = set(reader.memories("proven:hq:"))
        at = self.moment()
        self.upstream.outbox.load(Outbox(self.reading).waiting("hq"), at)
        if not self.upstream.outbox.empty:
            link.resume(Resumed(State.RECOVERING, at.now, at.wall, "records of an earlier run wait", None, at.now))
        self.run(self.upstream.reach(self.addresses, self.moment()))

    def settings(self) -> Settings:
        return Settings(
            host="papercut.example:9191",
            port=9191,
            token=self.token,
            time_zone=self.zone,
            appliance=self.appliance,
            printers=lambda device: device,
            tls=self.tls,
            answer_timeout=self.timeout,
            card_converters=self.converters,
            unknown_username=self.unknown,
        )

    def fingerprint(self, address: str) -> str:
        return hashlib.sha256(f"{address}|{self.token}".encode()).hexdigest()[:8]

    def close(self) -> None:
        self.reading.close()
        self.ledger.close()

    def restart(self, down_for: float = 1.0, **changes: Any) -> None:
        """End without a word and start again; what was given to storage and not yet kept is lost."""
        self.close()
        self._events.clear()
        self._held.clear()
        self._conns.clear()
        self._later.clear()
        self.now += down_for
        self.wall += int(down_for * 1000)
        for name, value in changes.items():
            setattr(self, name, value)
        self.start()

    def reload(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self, name, value)
        self.run(self.upstream.configure(self.settings(), self.moment()))
        self.run(self.upstream.reach(self.addresses, self.moment()))

    # Time

    def moment(self) -> Moment:
        self._drawn += 1
        return Moment(self.now, self.wall, hashlib.blake2b(str(self._drawn).encode(), digest_size=32).digest())

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds - TICK / 2
        while self.now < end:
            tick = self.now + TICK
            while self._later and self._later[0][0] <= tick:
                when, _, act = heapq.heappop(self._later)
                self.now = max(self.now, when)
                act()
            self.now = tick
            self._odd = not self._odd
            self.wall += 62 + self._odd
            self.dispatch(self.upstream, Ticked(self.moment()))

    def until(self, done: State | Callable[[], bool], most: float = 120.0) -> None:
        began = self.now
        while not (self.state is done if isinstance(done, State) else done()):
            assert self.now - began < most, f"not yet after {most} s; {self.state}, {self.outbox()}"
            self.pass_time(TICK)

    @property
    def state(self) -> State:
        return self.upstream.link.state

    # What comes in

    def job(
        self, card: str = "", user: str = "", *, waiter: Asker | None = None, relays: bool = False, **how: Any
    ) -> Stored:
        """A job is kept for the upstream; with `relays` it may go out at once while `waiter` waits."""
        record = self._record(card, user, relays, **how)
        (stored,) = self.ledger.commit([record])
        assert isinstance(stored, Stored), stored
        commands, self.waits = self.upstream.take_over(record, stored, waiter or Asker(), self.moment())
        self.run(commands)
        return stored

    def jobs(self, cards: Sequence[str]) -> None:
        """Many jobs that wait, kept together."""
        records = [self._record(card, "", False) for card in cards]
        for start in range(0, len(records), 1000):
            some = records[start : start + 1000]
            for record, stored in zip(some, self.ledger.commit(some), strict=True):
                assert isinstance(stored, Stored), stored
                self.run(self.upstream.take_over(record, stored, Asker(), self.moment())[0])

    def _record(self, card: str, user: str, relays: bool, **how: Any) -> Record:
        self._jobs += 1
        device, pages = how.pop("device", "copier-1"), how.pop("pages", 2)
        counts = how.pop("counts", Counts("copy", pages, color_pages=0, copies=1, duplex=True, paper="A4"))
        personal = Personal(card=card, user=user, document=how.pop("document", ""), account=how.pop("account", ""))
        key = self.upstream.order_key(device, f"s{self._jobs}", card, user)
        record = Record(
            self.wall, "terminal", "hq", device, "10.7.0.31", "stop",
            f"s{self._jobs}", how.pop("mode", Mode.OFFLINE), key, personal, job_number=str(self._jobs), counts=counts,
            repeat_scope="test", repeat_keys=(str(self._jobs).encode(),), outbox=None, **how,
        )  # fmt: skip
        return replace(record, outbox=self.upstream.place_of(record, relays=relays))

    def ask(self, card: str) -> Asker:
        asker = Asker()
        self.run(self.upstream.ask_card(CardQuestion(card, "copier-1", asker, None), self.moment()))
        return asker

    # The ledger

    def rows(self, query: str, *given: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.ledger.path)) as connection:
            return connection.execute(query, given).fetchall()

    def outbox(self) -> dict[str, int]:
        return dict(self.rows("SELECT state, count(*) FROM outbox GROUP BY state"))

    def state_of(self, stored: Stored) -> str:
        rows = self.rows("SELECT state FROM outbox WHERE seq = ?", stored.seq)
        return rows[0][0] if rows else "left"

    def deliveries(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT record, outcome, answer FROM deliveries ORDER BY seq")

    def words(self, level: str = "") -> list[str]:
        return [tell.text for tell in self.told if not level or tell.level == level]

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
                self._held.append(command) if self.holding else self._commit(command)
            elif isinstance(command, Connect):
                self._connect(command)
            elif isinstance(command, Send):
                self._at_server(command)
            elif isinstance(command, Close):
                self._conns.pop(command.channel, None)
            elif isinstance(command, Tell):
                self.told.append(command)
                if command.keep and not self.disk_dead:
                    line = AppLogLine(self.wall, command.level, command.text, command.context, command.personal)
                    self.ledger.commit([line])

    def sync(self) -> None:
        """Commit what is held; what is asked for meanwhile is held in its turn."""
        for _ in range(len(self._held)):
            self._commit(self._held.popleft())

    def _commit(self, keep: Keep) -> None:
        if self.disk_dead:
            if keep.owner is not None and keep.token is not None:
                self.dispatch(keep.owner, NotKept(keep.token, "the disk is gone", self.moment()))
            return
        (outcome,) = self.ledger.commit([keep.change])
        assert not isinstance(outcome, StorageError | Repeat), f"{outcome}: {keep.change}"
        if keep.owner is not None and keep.token is not None:
            self.dispatch(keep.owner, Kept(keep.token, outcome, self.moment()))

    # The network

    def _soon(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._later, (self.now + seconds, next(self._order), act))

    def _connect(self, command: Connect) -> None:
        conn = _Conn(command.owner, command.address, h11.Connection(h11.SERVER))
        self._conns[command.channel] = conn
        server, channel = self.server, command.channel
        if server.refusing:
            self._soon(0.001, lambda: self.end(channel, "connection refused", refused=True))
        elif server.tls_error:
            self._soon(0.001, lambda: self.end(channel, server.tls_error))
        elif server.down or command.address in server.down_at:
            self._soon(command.timeout, lambda: self.end(channel, "no answer in time"))
        else:
            self._soon(server.delay, lambda: self._open(channel))

    def _open(self, channel: Channel) -> None:
        conn = self._conns.get(channel)
        if conn is not None:
            conn.open = True
            if self.server.cut.get("*") == "connected":
                self.end(channel, "the other side closed the connection")
                return
            self.dispatch(conn.owner, Connected(channel, (conn.address, 9191, ""), self.moment()))

    def end(self, channel: Channel, text: str, *, refused: bool = False) -> None:
        """The network ends a connection."""
        conn = self._conns.pop(channel, None)
        if conn is not None:
            self.dispatch(conn.owner, Closed(channel, text, self.moment(), refused))

    def end_all(self, text: str = "the connection was reset", *, refused: bool = True) -> None:
        for channel in list(self._conns):
            self.end(channel, text, refused=refused)

    def receive(self, channel: Channel, data: bytes) -> None:
        conn = self._conns.get(channel)
        if conn is not None:
            self.dispatch(conn.owner, Received(channel, ("", 0, ""), data, self.moment()))

    def channels(self) -> list[Channel]:
        return [channel for channel, conn in self._conns.items() if conn.open]

    def _at_server(self, send: Send) -> None:
        conn = self._conns.get(send.channel)
        if conn is None or self.server.down or conn.address in self.server.down_at:
            return
        conn.http.receive_data(send.data)
        body = b""
        while True:
            event = conn.http.next_event()
            if isinstance(event, h11.Request):
                assert event.target == b"/rpc/api/xmlrpc"
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                assert event is h11.NEED_DATA, event
                return
        self._call(send.channel, conn, body)

    def _call(self, channel: Channel, conn: _Conn, body: bytes) -> None:
        server = self.server
        arguments, name = xmlrpc.client.loads(body.decode())
        method = str(name).removeprefix("api.")
        server.calls.append((method, arguments[1:]))
        self.sent.append((self.now, method))
        how = server.cut.get(method, "")
        if how == "unread":
            self._soon(0.001, lambda: self.end(channel, "the other side closed the connection"))
            return
        try:
            value = server.carry_out(method, *arguments)
            answer = xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True)
        except xmlrpc.client.Fault as fault:
            answer = xmlrpc.client.dumps(fault, methodresponse=True)
        if method in server.silent:
            return
        server.under_way += method == "processJob"
        server.most_under_way = max(server.most_under_way, server.under_way)
        wait = server.late.get(method, server.delay)

        def respond() -> None:
            server.under_way -= method == "processJob"
            self._respond(channel, conn, method, how, answer.encode())

        self._soon(max(wait, 0.0005), respond)

    def _respond(self, channel: Channel, conn: _Conn, method: str, how: str, answer: bytes) -> None:
        if how == "sent":
            self.end(channel, "the other side closed the connection")
        elif self._conns.get(channel) is conn and not self.server.down:
            raw = self.server.raw.get(method)
            if raw is None:
                headers = [("Content-Type", "text/xml"), ("Content-Length", str(len(answer)))]
                http = conn.http
                parts = (h11.Response(status_code=200, headers=headers), h11.Data(data=answer), h11.EndOfMessage())
                raw = b"".join(http.send(part) or b"" for part in parts)
                http.start_next_cycle()
            else:
                conn.http = h11.Connection(h11.SERVER)
            if how == "half":
                self.receive(channel, raw[: len(raw) // 2])
                self.end(channel, "the other side closed the connection")
            else:
                self.receive(channel, raw)


def http_answer(status: int, body: bytes, kind: str = "text/html", **headers: str) -> bytes:
    """A whole HTTP answer."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def mark_of(house: House) -> dict[str, Any]:
    """The mark that stands at the server."""
    found: dict[str, Any] = json.loads(house.server.values[f"locum.{house.appliance}"])
    return found


def each_once(house: House) -> bool:
    """Whether no record is in the server's book twice."""
    return max(Counter(house.server.booked()).values(), default=0) <= 1


Make = Callable[..., House]


def make_houses(tmp_path: Path) -> Iterator[Make]:
    """A fixture: `make(...)` gives a Locum with a PaperCut server where ann, bob, cleo and dan have cards."""
    with ExitStack() as stack:

        def made(**how: Any) -> House:
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            house = House(folder, **how)
            stack.callback(house.close)
            for name in ("ann", "bob", "cleo", "dan"):
                house.server.person(name, f"CARD-{name}")
            house.pass_time(0.5)
            return house

        yield made


def go_offline(house: House) -> None:
    house.server.down = True
    house.until(State.OFFLINE)


def people(house: House, number: int) -> None:
    """So many more users, p0 with the card P0 and so on."""
    for each in range(number):
        house.server.person(f"p{each}", f"P{each}")
