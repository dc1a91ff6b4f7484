"""Records on their way to a terminal server: one connection under Locum's own name, RECORD by RECORD.

`docs/terminal.md`, "Between Locum and a server". A record's key is (device, job), as for JOB: a server that has it
already answers 1, so sending again after a loss does no harm. On one connection nothing is sent twice: TCP does that.
A connection that is lost with records in flight and none answered may have been lost because of one of them: the next
one carries one at a time, until something is answered, and the record that it is lost with waits out a pause.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

from protocols.errors import Malformed, ProtocolError
from protocols.terminal.frames import CHECKSUM_SIZE, HEADER_SIZE, MAGIC, Decoder, Frame, Type
from protocols.terminal.messages import (
    OFFLINE_SESSION_BIT,
    Error,
    ErrorCode,
    Job,
    JobAck,
    JobStatus,
    Message,
    RecordAck,
    RecordMessage,
    Welcome,
    clip,
    decode,
    encode,
)
from proxy.commands import Command
from proxy.dialects.terminal.upstream_host import hello_of, own_name
from proxy.dialects.terminal.upstream_stream import Asked, Pauses, ServerStream
from proxy.events import Moment
from proxy.handover import Waiter
from storage.answers import OutboxItem

if TYPE_CHECKING:
    from proxy.dialects.terminal.upstream import TerminalUpstream

DIALECT = "terminal"
ANSWER_WITHIN = 5.0
ASK_NOT_FOR = 60.0
OTHER_DIALECT = "a terminal server takes jobs of terminals only"


@dataclass(slots=True)
class RecordSent:
    """What a RECORD under way is about. `over`: it was given up, and only a late answer may still settle it."""

    item: OutboxItem
    waiter: Waiter | None
    number: int
    over: bool = False


@dataclass(frozen=True, slots=True)
class Unsent:
    """A record that waits for the connection."""

    item: OutboxItem
    waiter: Waiter | None
    frame: Frame
    number: int
    since: float


def job_of(raw: bytes) -> Job:
    """The job in the bytes that were kept: the device's whole frame, or its payload. Raises Malformed."""
    frame = Frame(Type.JOB, 0, raw)
    if raw[:2] == MAGIC:
        decoder = Decoder()
        decoder.receive_data(raw)
        whole = decoder.next_event()
        if isinstance(whole, Frame) and len(raw) == HEADER_SIZE + len(whole.payload) + CHECKSUM_SIZE:
            frame = whole
    message = decode(frame)
    if not isinstance(message, Job):
        raise Malformed("no-job", "what was kept is no JOB")
    return message


def record_of(item: OutboxItem) -> tuple[Frame, int]:
    """The RECORD of an item, its sequence 0, and its job number. A session that Locum granted is not named to the
    server. Raises ProtocolError, or ValueError for an id that is no UUID.
    """
    if item.dialect != DIALECT:
        raise Malformed("other-dialect", OTHER_DIALECT)
    job = job_of(item.raw)
    if job.session & OFFLINE_SESSION_BIT:
        job = replace(job, session=0)
    corrections = dict(item.corrections)
    card, user = (item.facts.card, item.facts.user) if item.facts else ("", "")
    if "user" in corrections:
        # The card would lead the server to somebody else.
        card, user = "", corrections["user"]
    device = corrections.get("printer") or item.device
    message = RecordMessage(UUID(item.id).bytes, clip(device), clip(card), clip(user), item.at, job)
    return Frame(Type.RECORD, 0, encode(message, 0)[HEADER_SIZE:-CHECKSUM_SIZE]), job.job


def settled(
    server: TerminalUpstream, item: OutboxItem, message: Message | None, number: int, at: Moment, *, again: bool
) -> list[Command] | None:
    """What the server's answer to a JOB or RECORD means for the record. None: it is no answer to this one.

    ERROR 5 says that the record itself cannot be read; other ERRORs are the server's trouble, not the record's.
    """
    if isinstance(message, Error):
        words = f"the server answered ERROR {message.code}: {message.message}"
        if message.code == ErrorCode.MALFORMED:
            return server.refused(item, words, at)
        return server.unanswered(item, at)
    if not isinstance(message, JobAck | RecordAck) or message.job != number:
        return None
    if isinstance(message, RecordAck) and message.record_id != UUID(item.id).bytes:
        return None
    if message.status in (JobStatus.STORED, JobStatus.ALREADY):
        user = message.user if isinstance(message, RecordAck) else ""
        return server.delivered(item, at, user=user, maybe_twice=again)
    if message.status == JobStatus.LATER:
        return server.unanswered(item, at)
    return server.refused(item, f"the server refused it (status {message.status})", at)


class Records:
    """The connection that forwards. `careful`: one at a time. `stopped`: the server takes no RECORDs at all, and is
    not asked for a while.
    """

    def __init__(self, server: TerminalUpstream) -> None:
        self.careful = False
        self.stopped = False
        self._stopped_until = float("-inf")
        self._server = server
        self._stream: ServerStream | None = None
        self._pauses = Pauses()
        self._queue: deque[Unsent] = deque()
        self._answered = 0

    @property
    def open(self) -> bool:
        return self._stream is not None and self._stream.open

    def in_flight(self, seq: int) -> bool:
        """Whether a record is under way here, its answer waited for."""
        return any(sent.item.seq == seq and not sent.over for sent in self._sent())

    def send(self, item: OutboxItem, waiter: Waiter | None, at: Moment) -> list[Command]:
        """Send a record, now or when the connection is there; one that cannot be sent is set aside."""
        try:
            frame, number = record_of(item)
        except (ProtocolError, ValueError) as error:
            commands = self._server.refused(item, f"it cannot be sent: {error}", at)
            return commands + (waiter.unanswered(at) if waiter else [])
        self._queue.append(Unsent(item, waiter, frame, number, at.now))
        return self._flush(at) if self.open else self._open_if_due(at)

    def cut(self) -> list[tuple[OutboxItem, Waiter | None]]:
        """Wait for no answer any more: gives what was in flight or queued."""
        found = [sent for sent in self._sent() if not sent.over]
        for sent in found:
            sent.over = True
        queued, self._queue = self._queue, deque()
        return [(sent.item, sent.waiter) for sent in found] + [(unsent.item, unsent.waiter) for unsent in queued]

    def close(self) -> list[Command]:
        """End the connection; only after `cut`."""
        stream, self._stream = self._stream, None
        return self._server.end(stream) if stream is not None else []

    def hasten(self, at: Moment) -> None:
        """The server is back."""
        self._pauses.forget(at, "records")
        self._stopped_until = float("-inf")

    def watch(self, at: Moment) -> list[Command]:
        self.stopped = at.now < self._stopped_until
        commands = self._expire_queue(at)
        stream, timeout = self._stream, self._server.settings.answer_timeout
        if stream is None:
            return commands + self._open_if_due(at)
        commands += self._expire_sent(stream, at)
        if why := stream.dead(at.now, timeout):
            return commands + self._server.lose(stream, why, at)
        commands += stream.doubt(at.now, timeout)
        return commands + (self._flush(at) if stream.open and self._queue else [])

    def opened(self, stream: ServerStream, welcome: Welcome, at: Moment) -> list[Command]:
        self._answered = 0
        return self._flush(at)

    def replied(
        self, stream: ServerStream, asked: Asked, reply: Frame, message: Message | None, at: Moment
    ) -> list[Command]:
        sent = asked.about
        if not isinstance(sent, RecordSent):
            return []
        commands: list[Command] = []
        if isinstance(message, Error) and message.code == ErrorCode.UNKNOWN_TYPE:
            self.stopped, self._stopped_until = True, at.now + ASK_NOT_FOR
            words = f"{self._server.name}: the server does not know RECORD, so nothing that was kept can be forwarded"
            commands += self._server.told_once("no-records", words, at)
        if sent.over:
            return commands + self._late(sent, message, at)
        again = sent.item.first_try > 0 or sent.item.tries > 0
        done = settled(self._server, sent.item, message, sent.number, at, again=again)
        if done is None:
            words = f"{self._server.name}: an answer to a record was dropped: it is about another one"
            commands += self._server.told_once("answers-another", words, at)
            done = self._server.unanswered(sent.item, at)
        self.careful, self._answered = False, self._answered + 1
        sent.over = True
        commands += done
        if sent.waiter is not None:
            stored = isinstance(message, RecordAck) and message.status in (JobStatus.STORED, JobStatus.ALREADY)
            commands += sent.waiter.answered(message, at) if stored else sent.waiter.unanswered(at)
        return commands

    def lost(self, stream: ServerStream, why: str, at: Moment) -> list[Command]:
        self._stream = None
        self._pauses.lost(stream, at, "records")
        cut = [sent for sent in _records(stream) if not sent.over]
        for sent in cut:
            sent.over = True
        if not cut:
            return []
        alone = self.careful and len(cut) == 1
        self.careful = not self._answered
        if alone and not self._answered:
            waiter = cut[0].waiter
            return self._server.unanswered(cut[0].item, at) + (waiter.unanswered(at) if waiter else [])
        return self._server.put_back([(sent.item, sent.waiter) for sent in cut], why, at)

    def _late(self, sent: RecordSent, message: Message | None, at: Moment) -> list[Command]:
        """It was given up and waits again; a late word that it is stored settles it, if it is not under way anew."""
        stored = isinstance(message, RecordAck) and message.status in (JobStatus.STORED, JobStatus.ALREADY)
        if not stored or self.in_flight(sent.item.seq):
            return []
        return settled(self._server, sent.item, message, sent.number, at, again=True) or []

    def _flush(self, at: Moment) -> list[Command]:
        commands: list[Command] = []
        stream = self._stream
        while self._queue and stream is not None and stream.open and not stream.full:
            if self.careful and any(not sent.over for sent in self._sent()):
                break
            unsent = self._queue.popleft()
            about = RecordSent(unsent.item, unsent.waiter, unsent.number)
            commands += stream.ask(unsent.frame, about, at.now)
        return commands

    def _open_if_due(self, at: Moment) -> list[Command]:
        server = self._server
        wanted = bool(self._queue) or (server.link.state.relays and not server.outbox.empty)
        if not wanted or not server.hosts or self._stream is not None or self.stopped:
            return []
        address = server.hosts.used.address
        if not server.may_speak(address):
            return []
        if not self._pauses.over(at.now, urgent=bool(self._queue)):
            return []
        self._pauses.dialled(at.now)
        hello = hello_of(own_name(server.settings))
        source = server.own_source(address)
        self._stream, commands = server.dial(("records",), server.hosts.used, self, hello, at, source)
        return commands

    def _expire_sent(self, stream: ServerStream, at: Moment) -> list[Command]:
        commands: list[Command] = []
        limit = at.now - max(ANSWER_WITHIN, self._server.settings.answer_timeout)
        for asked in list(stream.under_way.values()):
            if asked.sent > limit:
                break
            sent = asked.about
            if isinstance(sent, RecordSent) and not sent.over:
                sent.over = True
                commands += self._server.unanswered(sent.item, at)
                commands += sent.waiter.unanswered(at) if sent.waiter else []
        return commands

    def _expire_queue(self, at: Moment) -> list[Command]:
        commands: list[Command] = []
        limit = at.now - self._server.settings.answer_timeout
        while self._queue and self._queue[0].since <= limit:
            unsent = self._queue.popleft()
            commands += self._server.unsent(unsent.item, "no connection to forward records on", at)
            commands += unsent.waiter.unanswered(at) if unsent.waiter else []
        return commands

    def _sent(self) -> list[RecordSent]:
        return _records(self._stream) if self._stream is not None else []


def _records(stream: ServerStream) -> list[RecordSent]:
    return [asked.about for asked in stream.under_way.values() if isinstance(asked.about, RecordSent)]
