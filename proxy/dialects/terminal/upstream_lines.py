"""The lines: for every device a connection of its own to the server, its HELLO repeated first, its requests relayed.

`docs/terminal.md`, "Between Locum and a server". A line is there while the server is, and is opened again whenever it
is lost; while the server is away it is opened for a request that the listener wants to try. A request waits for the
line at most `answer_timeout`. What its listener is told without the server having said anything (`not_relayed`) is told
with the next tick, never from within the call that asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocols.errors import ProtocolError
from protocols.terminal.frames import Frame
from protocols.terminal.messages import Job, JobAck, JobStatus, Message, Welcome, decode
from proxy.commands import Command, Source
from proxy.dialects.terminal.lines import LineOwner
from proxy.dialects.terminal.upstream_records import ANSWER_WITHIN, settled
from proxy.dialects.terminal.upstream_stream import Asked, Pauses, ServerStream
from proxy.events import Moment
from storage.answers import OutboxItem

if TYPE_CHECKING:
    from proxy.dialects.terminal.upstream import TerminalUpstream

MOST_WAITING = 256


@dataclass(slots=True)
class Relayed:
    """What a relayed request is about. `item`: the record that this JOB carries, None for all else.

    `over`: nobody waits for what becomes of the record; a late answer may still settle it.
    """

    token: object
    item: OutboxItem | None
    number: int = 0
    over: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits for the line."""

    request: Frame
    token: object
    since: float


class Line:
    """One device's connection to the server. `source`: the device's own address and port, in line."""

    def __init__(
        self, server: TerminalUpstream, device: str, hello: Frame, owner: LineOwner, source: Source | None
    ) -> None:
        self.device = device
        self.hello = hello
        self.owner = owner
        self.source = source
        self.pauses = Pauses()
        self.stream: ServerStream | None = None
        self.waiting: deque[Waiting] = deque()
        self._server = server
        self._unrelayed: list[tuple[object, str]] = []

    @property
    def open(self) -> bool:
        return self.stream is not None and self.stream.open

    def relay(self, request: Frame, token: object, at: Moment) -> list[Command]:
        if self.open:
            return self._send(request, Relayed(token, None), at)
        if len(self.waiting) >= MOST_WAITING:
            self._unrelayed.append((token, "too many requests wait for the line"))
            return []
        self.waiting.append(Waiting(request, token, at.now))
        return self._open_if_due(at)

    def relay_job(self, request: Frame, item: OutboxItem, token: object, at: Moment) -> list[Command]:
        """A job need not wait for the line: it is kept, and goes as RECORD."""
        if not self.open:
            self._unrelayed.append((token, "the line is not open"))
            return self._server.unsent(item, "the line is not open", at)
        return self._send(request, Relayed(token, item, _job_number(request)), at)

    def watch(self, at: Moment) -> list[Command]:
        """What time brings: requests that waited too long, silence, the next try to open it."""
        stream, timeout = self.stream, self._server.settings.answer_timeout
        commands: list[Command] = []
        if self.waiting:
            limit = at.now - timeout
            while self.waiting and self.waiting[0].since <= limit:
                self._unrelayed.append((self.waiting.popleft().token, "the line did not open in time"))
        if stream is None:
            commands += self._open_if_due(at)
        elif not stream.open or stream.under_way:
            commands += self._watch_stream(stream, at)
        return commands + self._tell(at) if self._unrelayed else commands

    def _watch_stream(self, stream: ServerStream, at: Moment) -> list[Command]:
        timeout = self._server.settings.answer_timeout
        commands: list[Command] = []
        limit = at.now - max(ANSWER_WITHIN, timeout)
        for asked in list(stream.under_way.values()):
            if asked.sent > limit:
                break
            if isinstance(job := asked.about, Relayed) and job.item is not None and not job.over:
                job.over = True
                commands += self._server.unanswered(job.item, at)
        if why := stream.dead(at.now, timeout):
            return commands + self._server.lose(stream, why, at)
        return commands + stream.doubt(at.now, timeout)

    def hasten(self, at: Moment) -> list[Command]:
        """The server is back: open it soon, or find out whether it has outlived the outage."""
        self.pauses.forget(at, self.device)
        return self.stream.ping(at.now) if self.stream is not None and self.stream.open else []

    def jobs(self) -> Iterator[OutboxItem]:
        """Let go of the records that are under way here; gives them. Late answers still reach the listener."""
        for asked in self.stream.under_way.values() if self.stream is not None else ():
            if isinstance(job := asked.about, Relayed) and job.item is not None and not job.over:
                job.over = True
                yield job.item

    def close(self, why: str, at: Moment) -> list[Command]:
        """The device is gone, or says HELLO anew: nobody waits for anything here."""
        commands = self._server.put_back([(item, None) for item in self.jobs()], why, at)
        stream, self.stream = self.stream, None
        self.waiting.clear()
        self._unrelayed.clear()
        return commands + (self._server.end(stream) if stream is not None else [])

    def opened(self, stream: ServerStream, welcome: Welcome, at: Moment) -> list[Command]:
        waiting, self.waiting = self.waiting, deque()
        commands: list[Command] = []
        for each in waiting:
            commands += self._send(each.request, Relayed(each.token, None), at)
        return commands

    def replied(
        self, stream: ServerStream, asked: Asked, reply: Frame, message: Message | None, at: Moment
    ) -> list[Command]:
        relayed = asked.about
        if not isinstance(relayed, Relayed):
            return []
        commands: list[Command] = []
        if relayed.item is not None:
            commands += self._settle(relayed, relayed.item, message, at)
        restored = Frame(reply.type, asked.sequence, reply.payload)
        return commands + self.owner.replied(self.device, relayed.token, restored, at)

    def lost(self, stream: ServerStream, why: str, at: Moment) -> list[Command]:
        items = [(item, None) for item in self.jobs()]
        for asked in stream.under_way.values():
            if isinstance(asked.about, Relayed):
                self._unrelayed.append((asked.about.token, why))
        self.stream = None
        self.pauses.lost(stream, at, self.device)
        return self._server.put_back([*items], why, at)

    def _settle(self, relayed: Relayed, item: OutboxItem, message: Message | None, at: Moment) -> list[Command]:
        if not relayed.over:
            relayed.over = True
            done = settled(self._server, item, message, relayed.number, at, again=False)
            return self._server.unanswered(item, at) if done is None else done
        stored = isinstance(message, JobAck) and message.status in (JobStatus.STORED, JobStatus.ALREADY)
        if not stored or self._server.records.in_flight(item.seq):
            return []
        return settled(self._server, item, message, relayed.number, at, again=False) or []

    def _send(self, request: Frame, relayed: Relayed, at: Moment) -> list[Command]:
        stream = self.stream
        if stream is None or stream.full:
            self._unrelayed.append((relayed.token, "too many requests are unanswered"))
            item = relayed.item
            return [] if item is None else self._server.unsent(item, "too many requests are unanswered", at)
        return stream.ask(request, relayed, at.now)

    def _open_if_due(self, at: Moment) -> list[Command]:
        server = self._server
        if self.stream is not None or not server.hosts:
            return []
        urgent = bool(self.waiting)
        if not (urgent or server.link.state.relays) or not self.pauses.over(at.now, urgent=urgent):
            return []
        self.pauses.dialled(at.now)
        about = ("line", self.device)
        host = server.hosts.towards(self.source)
        self.stream, commands = server.dial(about, host, self, self.hello, at, self.source)
        return commands

    def _tell(self, at: Moment) -> list[Command]:
        unrelayed, self._unrelayed = self._unrelayed, []
        commands: list[Command] = []
        for token, why in unrelayed:
            commands += self.owner.not_relayed(self.device, token, why, at)
        return commands


class DeviceLines:
    """All lines, by device."""

    def __init__(self, server: TerminalUpstream) -> None:
        self._server = server
        self._lines: dict[str, Line] = {}

    def __iter__(self) -> Iterator[Line]:
        return iter(list(self._lines.values()))

    def get(self, device: str) -> Line | None:
        return self._lines.get(device)

    def begin(
        self, device: str, hello: Frame, owner: LineOwner, at: Moment, source: Source | None = None
    ) -> list[Command]:
        """A device said HELLO; if it had a line, that one ends."""
        commands = self.end(device, at)
        line = self._lines[device] = Line(self._server, device, hello, owner, source)
        return commands + line.watch(at)

    def end(self, device: str, at: Moment) -> list[Command]:
        line = self._lines.pop(device, None)
        return [] if line is None else line.close("the device has left", at)

    def watch(self, at: Moment) -> list[Command]:
        commands: list[Command] = []
        for line in list(self._lines.values()):
            commands += line.watch(at)
        return commands

    def cut(self) -> list[OutboxItem]:
        """Let go of the records under way on all lines."""
        return [item for line in self._lines.values() for item in line.jobs()]

    def counts(self) -> tuple[int, int]:
        """How many there are, and how many of them are open."""
        return len(self._lines), sum(line.open for line in self._lines.values())


def _job_number(request: Frame) -> int:
    try:
        message = decode(request)
    except ProtocolError:
        return -1
    return message.job if isinstance(message, Job) else -1
