"""Which accounting records a capture holds: one for each that a device sent, however often it did, and whether the
server acknowledged it.

Only what is proven is taken: RADIUS with the right secret, terminals' jobs with the HELLO that names the device. What a
Locum forwarded is no device's word, and is left out. A record goes where the configuration sends that device's records;
what it says of no server is left out too. Everything that is left out is counted by reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from appliance.config import (
    Config,
    ListenConfig,
    PapercutUpstreamConfig,
    RadiusListenConfig,
    RadiusUpstreamConfig,
    TerminalListenConfig,
    TerminalUpstreamConfig,
    UpstreamConfig,
)
from appliance.seeing import radius, terminal
from appliance.seeing.radius import RadiusRequest
from appliance.seeing.said import Said
from protocols.capture.streams import Peer
from protocols.errors import Malformed
from protocols.radius.accounting import repeat_digests
from protocols.radius.packet import Code, LocumType, Packet
from protocols.terminal.frames import CHECKSUM_SIZE, HEADER_SIZE
from protocols.terminal.messages import (
    DUPLEX,
    Job,
    JobAck,
    JobStatus,
    Login,
    LoginResult,
    Method,
    RecordMessage,
    raw_contents,
)
from proxy.admission import normal_card
from proxy.dialects.terminal.jobs import KINDS, LAST_TIME, MOST_PAGES
from proxy.dialects.terminal.shared import mark_of
from storage.records import Counts, Mode, OutboxState, Personal, Record

TAKEN = frozenset({JobStatus.STORED, JobStatus.ALREADY})


@dataclass(slots=True)
class Recovered:
    """A record of a capture. `record.at` is when it was captured first; `told` says by what of the device's own a
    ledger knows it whose bytes are erased. `marks`: by which the ledger knows it as long as they are there.
    """

    record: Record
    marks: tuple[bytes, ...]
    told: tuple[object, ...]
    acknowledged: bool = False

    def kept_as(self, forward: bool) -> Record:
        """The record to keep. `forward`: it waits for the server unless that has acknowledged it."""
        waits = forward and not self.acknowledged and self.record.outbox is not None
        return replace(self.record, outbox=OutboxState.WAITING if waits else None)


class Recovery:
    """Gathers the records of a capture. `left_out`: how many were not taken, by reason."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._found: list[Recovered] = []
        self._by_mark: dict[tuple[str, bytes], Recovered] = {}
        self._by_request: dict[Said, Recovered] = {}
        self._owners: dict[tuple[str, int], tuple[str, str]] = {}
        self.left_out: Counter[str] = Counter()

    def records(self) -> list[Recovered]:
        """What was found so far, in the order of the capture."""
        return list(self._found)

    def heard(self, said: Said) -> None:
        """One message of the capture, in its order."""
        if said.dialect == radius.DIALECT:
            self._radius(said)
        elif said.dialect == terminal.DIALECT:
            self._terminal(said)

    def _radius(self, said: Said) -> None:
        if isinstance(said.message, Packet):
            found = self._by_request.pop(said.answers, None) if said.answers is not None else None
            if found is not None and said.message.code == Code.ACCOUNTING_RESPONSE and said.authentic:
                found.acknowledged = True
            return
        asked = said.message
        if not isinstance(asked, RadiusRequest) or asked.accounting is None:
            return
        if said.authentic is None:
            self.left_out["no-secret"] += 1
        elif not said.authentic:
            self.left_out["wrong-secret"] += 1
        elif self._is_forwarded(asked.packet):
            self.left_out["forwarded-by-locum"] += 1
        else:
            self._add(said, said.source[0], repeat_digests(asked.packet), self._radius_record(said, asked))

    def _is_forwarded(self, packet: Packet) -> bool:
        try:
            return any(number == LocumType.RECORD_ID for number, _ in packet.vendor(self._config.radius.vendor_id))
        except Malformed:
            return False

    def _radius_record(self, said: Said, asked: RadiusRequest) -> Record | None:
        read = asked.accounting
        server = _server_of(self._config, said.target, radius.DIALECT)
        if server is None or read is None:
            return None
        job, name, client = read.job, read.user_name or "", said.source[0]
        is_card = self._config.offline.card_pattern.fullmatch(name) is not None
        user = name if not is_card and isinstance(server, RadiusUpstreamConfig) else ""
        told = None if read.event_timestamp is None else read.event_timestamp * 1000
        ended = max(0, said.at - read.delay * 1000) if told is None else told
        digest = repeat_digests(asked.packet)[-1]
        counts = None
        if job is not None:
            counts = Counts(job.kind, job.pages, job.color_pages, job.sheets, job.copies, job.duplex, job.paper)
        personal = Personal(
            normal_card(name) if is_card else "",
            user,
            job.document if job else "",
            job.account if job else "",
            said.raw,
        )
        record = Record(
            at=said.at,
            dialect=radius.DIALECT,
            upstream=server.name,
            device=said.device,
            client=client,
            event=read.status.value,
            session=read.session_id,
            mode=Mode.RECOVERED,
            order_key="",
            personal=personal,
            job_number=job.job_id if job else "",
            counts=counts,
            started_at=None if read.session_time is None else max(0, ended - read.session_time * 1000),
            ended_at=ended,
            repeat_scope=f"capture {client}",
            repeat_keys=(digest, digest),
            for_ever=True,
        )
        return _placed(record, server)

    def _terminal(self, said: Said) -> None:
        match said.message:
            case Job() as job:
                self._job(said, job)
            case JobAck(status=status):
                found = self._by_request.pop(said.answers, None) if said.answers is not None else None
                if found is not None and status in TAKEN:
                    found.acknowledged = True
            case LoginResult() as result if result.session and said.answers is not None:
                asked = said.answers.message
                card = asked.credential if isinstance(asked, Login) and asked.method == Method.CARD else ""
                self._owners[said.device, result.session] = (normal_card(card), result.user)
            case RecordMessage():
                self.left_out["forwarded-by-locum"] += 1

    def _job(self, said: Said, job: Job) -> None:
        if not said.device:
            self.left_out["no-hello"] += 1
        elif job.kind not in KINDS or job.color_pages > job.pages or max(job.pages, job.sheets) > MOST_PAGES:
            self.left_out["impossible-job"] += 1
        else:
            content = raw_contents(said.raw[HEADER_SIZE:-CHECKSUM_SIZE])
            self._add(said, said.device, (content,), self._terminal_record(said, job, content))

    def _terminal_record(self, said: Said, job: Job, content: bytes) -> Record | None:
        server = _server_of(self._config, said.target, terminal.DIALECT)
        if server is None:
            return None
        card, user = self._owners.get((said.device, job.session), ("", ""))
        record = Record(
            at=said.at,
            dialect=terminal.DIALECT,
            upstream=server.name,
            device=said.device,
            client=said.source[0],
            event="job",
            session=mark_of(job.session),
            mode=Mode.RECOVERED,
            order_key="",
            personal=Personal(card, user, job.document, job.account, said.raw),
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
            started_at=job.started if 0 < job.started <= LAST_TIME else None,
            ended_at=job.ended if 0 < job.ended <= LAST_TIME else None,
            repeat_scope=said.device,
            repeat_keys=(content[:8], content),
            for_ever=True,
        )
        return _placed(record, server)

    def _add(self, said: Said, scope: str, marks: tuple[bytes, ...], record: Record | None) -> None:
        if record is None:
            self.left_out["unknown-server"] += 1
            return
        found = next((known for mark in marks if (known := self._by_mark.get((scope, mark)))), None)
        if found is None:
            found = Recovered(record, marks, told_by(record, said.message))
            self._found.append(found)
        for mark in marks:
            self._by_mark[scope, mark] = found
        self._by_request[said] = found


def told_by(record: Record, message: object) -> tuple[object, ...]:
    """What tells a record from others where its bytes are gone: the device's own words on it."""
    stamped = isinstance(message, RadiusRequest) and message.accounting and message.accounting.event_timestamp
    counts = record.counts
    return (
        record.client,
        record.session,
        record.event,
        record.job_number,
        counts.pages if counts else None,
        record.ended_at if stamped else None,
    )


def _placed(record: Record, server: UpstreamConfig) -> Record:
    """The record with its order key; and without a place in the outbox if the server takes no such records."""
    person, key = record.personal, f"{record.device}|{record.session}"
    if isinstance(server, PapercutUpstreamConfig):
        # as `PapercutUpstream.order_key`
        key = f"user|{person.user.casefold()}" if person.user else f"card|{person.card}" if person.card else key
        if record.counts is None or record.counts.pages <= 0:
            return replace(record, order_key=key, outbox=None)
    return replace(record, order_key=key)


def _server_of(config: Config, target: Peer, dialect: str) -> UpstreamConfig | None:
    """The upstream that takes the records which devices send to `target`: a server, or this appliance itself."""
    upstreams = {each.name: each for each in config.upstreams}
    listens = [each for each in config.listens if each.dialect == dialect]
    for upstream in config.upstreams:
        if upstream.dialect == dialect and target[0] in upstream.addresses and target[1] == _port(upstream):
            through = next((each for each in listens if each.upstream == upstream.name), None)
            return upstreams[through.records_to] if through is not None else upstream
    through = next((each for each in listens if _listens_at(each) == target[1]), None)
    return upstreams[through.records_to] if through is not None else None


def _port(upstream: UpstreamConfig) -> int:
    match upstream:
        case RadiusUpstreamConfig():
            return upstream.accounting_port
        case TerminalUpstreamConfig():
            return upstream.port
    return 0


def _listens_at(listen: ListenConfig) -> int:
    match listen:
        case RadiusListenConfig():
            return listen.accounting_port
        case TerminalListenConfig():
            return listen.port
    return 0
