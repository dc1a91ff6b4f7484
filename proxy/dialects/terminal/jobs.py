"""Jobs from terminals: kept, acknowledged, and handed to the server; refused only for impossible values.

A job is known for ever by its device and the device's own number: the same again is acknowledged with "already stored"
and stored once, another content under the number is stored as a conflict. While the server answers, the device hears
when it has answered too, at most `answer_timeout` later; whatever it says, the job is kept, so the device is told that.
A job of a terminal server's own session goes there as JOB on the device's line; every other as RECORD. Where nothing
can be stored, such a job is relayed all the same, with the server's own acknowledgement, and the gap is written down
later; else the device keeps its job.
"""

from __future__ import annotations

from dataclasses import replace

from protocols.terminal.frames import Frame, Type, encode_frame
from protocols.terminal.messages import DUPLEX, Job, JobAck, JobStatus, Kind, raw_contents
from proxy.commands import Command, Keep, Send
from proxy.dialects.terminal.connection import Connection
from proxy.dialects.terminal.shared import DIALECT, Shared, is_locums, mark_of
from proxy.events import Kept, Moment, NotKept
from proxy.handover import item_of
from storage.answers import OpenSession, Stored
from storage.records import Counts, Mode, OutboxState, Personal, Quarantined, Record

KINDS: dict[int, str] = {kind: kind.name.lower() for kind in Kind}
MOST_PAGES = (1 << 31) - 1
"""More than any copier prints in its life; PaperCut's counts end here."""
LAST_TIME = 253_402_300_799_999
"""The end of the year 9999, in milliseconds. The ledger has no later times; the raw bytes hold what was said."""

Waiting = tuple[Connection, int, JobStatus]
"""Who waits for an acknowledgement: the connection, the sequence, and what to tell when all is well."""
Key = tuple[str, bytes]


class DeviceJob:
    """One job on its way to stable storage and the server, with all requests that wait for its acknowledgement."""

    __slots__ = ("frame", "job", "jobs", "kept", "key", "record", "servers", "waiting")

    def __init__(self, jobs: Jobs, frame: Frame, job: Job, record: Record, key: Key, servers: bool) -> None:
        self.jobs = jobs
        self.frame = frame
        self.job = job
        self.record = record
        self.key = key
        self.servers = servers
        self.waiting: list[Waiting] = []
        self.kept = False

    # It went as RECORD, or to a server of another dialect.

    def answered(self, attributes: object, at: Moment) -> list[Command]:
        """The server took it."""
        return self.jobs.acknowledge(self)

    def unanswered(self, at: Moment) -> list[Command]:
        """The server did not say so in time."""
        return self.timed_out(at)

    # It went as JOB, on the device's line.

    def replied(self, reply: Frame, at: Moment) -> list[Command]:
        """The server has said something; only a job that is not kept here depends on what."""
        if self.kept:
            return self.jobs.acknowledge(self)
        return self.jobs.pass_on(self, reply) if reply.type == Type.JOB_ACK else self.jobs.leave(self)

    def not_relayed(self, why: str, at: Moment) -> list[Command]:
        """The server will not reply."""
        return self.timed_out(at)

    def timed_out(self, at: Moment) -> list[Command]:
        """The server has not replied in time."""
        return self.jobs.acknowledge(self) if self.kept else self.jobs.leave(self)


class Jobs:
    """The jobs of one listener. `relays`: logins go where jobs go, so that a device may wait for the server."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._relays = shared.upstream is shared.records_to
        self._open: dict[Key, DeviceJob] = {}

    def asked(self, connection: Connection, frame: Frame, job: Job, at: Moment) -> list[Command]:
        """A JOB came in."""
        device, content = connection.device, raw_contents(frame.payload)
        if why := _impossible(job):
            reply = connection.reply(JobAck(job.job, JobStatus.REFUSED), frame.sequence)
            return reply + self.quarantine(connection, frame, "impossible-job", why, at)
        connection.unanswered += 1
        key = (device, content)
        entry = self._open.get(key)
        if entry is not None:
            entry.waiting.append((connection, frame.sequence, JobStatus.ALREADY))
            return []
        session = self._shared.site.sessions.marked(device, mark_of(job.session))
        record, servers = self._record(connection, frame, job, content, session, at)
        entry = self._open[key] = DeviceJob(self, frame, job, record, key, servers)
        entry.waiting.append((connection, frame.sequence, JobStatus.STORED))
        return [Keep(record, self._shared.flow, entry)]

    def quarantine(self, connection: Connection, frame: Frame, reason: str, why: str, at: Moment) -> list[Command]:
        """Count a job that cannot be stored as one; its bytes are kept with the line about it, so as rarely."""
        device, client = connection.device, connection.client
        text = f"a job of {device} was refused: {why}"
        commands = self._shared.tally.note(reason, device, text, at.now)
        if commands:
            kept = Quarantined(at.wall, DIALECT, device, client, reason, _raw(frame))
            commands.append(self._shared.site.gaps.keep(kept, self._shared.upstream.name))
        return commands

    # What storage says

    def kept(self, entry: DeviceJob, event: Kept) -> list[Command]:
        """The job is on stable storage, or was already."""
        at, record, outcome, shared = event.at, entry.record, event.outcome, self._shared
        entry.kept = True
        commands = shared.site.gaps.note(at)
        if not isinstance(outcome, Stored):
            return self.acknowledge(entry, JobStatus.ALREADY) + commands
        commands += shared.site.job_kept(record, shared.upstream)
        if outcome.conflict:
            text = f"{record.device} has sent job {entry.job.job} again with another content; both are kept"
            commands += shared.tally.note("job-conflict", record.device, text, at.now)
        if self._goes_as_job(entry):
            return self._relay_job(entry, outcome, at) + commands
        drill = shared.site.drills.on(record.device)
        sent, waits = shared.records_to.take_over(record, outcome, entry, at, drill=drill)
        if waits:
            self._shared.deadlines.add(entry, at.now + shared.records_to.answer_timeout)
            return sent + commands
        return sent + self.acknowledge(entry) + commands

    def not_kept(self, entry: DeviceJob, event: NotKept) -> list[Command]:
        """Relayed all the same where the server can acknowledge it; else the device keeps it."""
        at, shared, device = event.at, self._shared, entry.record.device
        if (
            self._goes_as_job(entry)
            and shared.lines is not None
            and shared.records_to.may_relay(entry.record.order_key)
        ):
            shared.site.gaps.missed(entry.record, at)
            text = f"jobs are relayed but not written down: {event.error}"
            told = shared.tally.note("relayed-not-kept", device, text, at.now)
            shared.deadlines.add(entry, at.now + shared.upstream.answer_timeout)
            return shared.lines.relay(device, entry.frame, entry, at) + told
        text = f"a job was not stored and not acknowledged, the device keeps it: {event.error}"
        return self.leave(entry) + shared.tally.note("record-not-kept", device, text, at.now)

    def _goes_as_job(self, entry: DeviceJob) -> bool:
        return entry.servers and any(not connection.closed for connection, _, _ in entry.waiting)

    def _relay_job(self, entry: DeviceJob, stored: Stored, at: Moment) -> list[Command]:
        shared, record = self._shared, entry.record
        outbox = shared.records_to.outbox
        if record.outbox is not OutboxState.SENT or not shared.records_to.may_relay(record.order_key):
            outbox.add(stored.seq, record.order_key)
            return self.acknowledge(entry)
        if shared.lines is None:
            return []
        outbox.add_sent(stored.seq, record.order_key)
        shared.deadlines.add(entry, at.now + shared.upstream.answer_timeout)
        return shared.lines.relay_job(record.device, entry.frame, item_of(record, stored), entry, at)

    # What the device is told

    def acknowledge(self, entry: DeviceJob, first: JobStatus | None = None) -> list[Command]:
        """It is kept: tell every request that waits for it, once. `first`: what to tell the first of them."""
        commands: list[Command] = []
        for connection, sequence, status in self._close(entry):
            told = status if first is None else first
            commands += connection.reply(JobAck(entry.job.job, told), sequence)
        return commands

    def leave(self, entry: DeviceJob) -> list[Command]:
        """It is not kept: the device shall keep it and send it again."""
        return self.acknowledge(entry, JobStatus.LATER)

    def pass_on(self, entry: DeviceJob, reply: Frame) -> list[Command]:
        """The server's own acknowledgement, of a job that is not kept here."""
        return [
            Send(connection.channel, encode_frame(reply.type, sequence, reply.payload))
            for connection, sequence, _ in self._close(entry)
            if not connection.closed
        ]

    def _close(self, entry: DeviceJob) -> list[Waiting]:
        if self._open.get(entry.key) is entry:
            del self._open[entry.key]
        waiting, entry.waiting = entry.waiting, []
        for connection, _, _ in waiting:
            connection.unanswered -= 1
        return waiting

    # What is kept

    def _record(
        self,
        connection: Connection,
        frame: Frame,
        job: Job,
        content: bytes,
        session: OpenSession | None,
        at: Moment,
    ) -> tuple[Record, bool]:
        """The record, and whether it belongs to a session of the terminal server that it goes to."""
        shared, device, mark = self._shared, connection.device, mark_of(job.session)
        card, user, mode = (session.card, session.user, session.mode) if session else ("", "", Mode.UNKNOWN)
        whose = user
        if not user and card and shared.records_to.dialect != DIALECT:
            facts = shared.site.facts(card)
            whose = facts.user if facts is not None else ""
        record = Record(
            at=at.wall,
            dialect=DIALECT,
            upstream=shared.records_to.name,
            device=device,
            client=connection.client,
            event="job",
            session=mark,
            mode=mode,
            order_key=shared.records_to.order_key(device, mark, card, whose),
            personal=Personal(card, user, job.document, job.account, _raw(frame)),
            job_number=str(job.job),
            counts=Counts(
                KINDS[job.kind],
                job.pages,
                job.color_pages,
                job.sheets,
                job.copies,
                bool(job.flags & DUPLEX),
                job.paper,
            ),
            started_at=_time(job.started),
            ended_at=_time(job.ended),
            repeat_scope=device,
            repeat_keys=(content[:8], content),
            for_ever=True,
        )
        place = shared.records_to.place_of(record, relays=self._relays)
        if place is not record.outbox:
            record = replace(record, outbox=place)
        servers = self._relays and shared.lines is not None and mode is Mode.ONLINE and not is_locums(job.session)
        return record, servers


def _impossible(job: Job) -> str:
    """What no copier can have done, in words; "" nothing."""
    if job.kind not in KINDS:
        return f"kind {job.kind} is unknown"
    if job.color_pages > job.pages:
        return f"{job.color_pages} of {job.pages} pages are in colour"
    if max(job.pages, job.sheets) > MOST_PAGES:
        return f"{job.pages} pages on {job.sheets} sheets"
    return ""


def _raw(frame: Frame) -> bytes:
    return encode_frame(frame.type, frame.sequence, frame.payload)


def _time(said: int) -> int | None:
    return said if 0 < said <= LAST_TIME else None
