"""Accounting over RADIUS, the device's side: every record is kept, acknowledged, and handed to the upstream.

RFC 2866. While the server answers, a record is relayed once it is on stable storage and acknowledged with the server's
answer; else it is acknowledged when it is stored, and waits. What a repeat is, `protocols.radius.forwarding` says; the
ledger knows the earlier ones, also after a restart. Where nothing can be stored, records are relayed unrecorded while
the server answers (the gap is written down later), and left to the device while it does not.
"""

from __future__ import annotations

from dataclasses import replace

from protocols.errors import TooLarge
from protocols.radius.accounting import AccountingRequest, JobMapping, Status, read, repeat_digests
from protocols.radius.packet import Attributes, Code, Type
from protocols.radius.secrets import sign_response
from proxy.admission import normal_card
from proxy.commands import Command, Keep, Send
from proxy.dialects.radius.clients import Asked, device_of
from proxy.dialects.radius.requests import RelayedRecord
from proxy.dialects.radius.upstream import RadiusUpstream
from proxy.events import Channel, Event, Kept, Moment, NotKept, Peer
from proxy.site import Site
from proxy.tally import Tally
from proxy.upstream import Upstream
from storage.answers import OpenSession, Stored
from storage.records import Counts, Mode, Personal, Quarantined, Record

MOST_OPEN = 65536

Digest = tuple[str, bytes]


class DeviceRecord(RelayedRecord):
    """One record on its way to stable storage and the server, with everybody who waits for its acknowledgement."""

    def __init__(
        self, flow: AccountingFlow, asked: Asked, raw: bytes, record: Record, session: OpenSession | None
    ) -> None:
        super().__init__(asked)
        self.flow = flow
        self.session = session
        self.raw = raw
        self.record = record
        self.waiting: dict[tuple[Peer, int, bytes], Asked] = {_key(asked): asked}
        self.kept = False
        self.relayed_at = float("inf")

    def answered(self, attributes: object, at: Moment) -> list[Command]:
        """The server took it."""
        return self.flow.acknowledge(self, attributes if isinstance(attributes, tuple) else ())

    def unanswered(self, at: Moment) -> list[Command]:
        """The server did not say so in time. If it is kept, Locum says so; else the device keeps it."""
        return self.flow.acknowledge(self, ()) if self.kept else self.flow.give_up(self)


class AccountingFlow:
    """The accounting of one listener. `channel` is its accounting port, `upstream` where its records go.

    `logins_at` is the upstream of its logins. Where both are the same, a device may wait for the server's
    acknowledgement.
    """

    def __init__(
        self,
        channel: Channel,
        upstream: Upstream,
        site: Site,
        tally: Tally,
        mapping: JobMapping,
        *,
        logins_at: str,
    ) -> None:
        self.channel = channel
        self.upstream = upstream
        self.site = site
        self.mapping = mapping
        self.relays = logins_at == upstream.name
        self._logins_at = logins_at
        self._tally = tally
        self._open: dict[Digest, DeviceRecord] = {}

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, Kept) and isinstance(event.token, DeviceRecord):
            return self._kept(event.token, event)
        if isinstance(event, NotKept) and isinstance(event.token, DeviceRecord):
            return self._not_kept(event.token, event.error, event.at)
        return []

    def asked(self, asked: Asked, raw: bytes, at: Moment) -> list[Command]:
        """An authentic Accounting-Request."""
        client = asked.peer[0]
        digests = repeat_digests(asked.packet)
        for digest in digests:
            under_way = self._open.get((client, digest))
            if under_way is not None:
                under_way.waiting[_key(asked)] = asked
                return []
        if len(self._open) >= MOST_OPEN:
            return self._tally.note(
                "too-many-records", client, "too many records at once; some left to the device", at.now
            )
        request = read(asked.packet, self.mapping)
        device = device_of(request.nas_identifier, request.nas_address, client)
        session = self._session(device, request)
        record = self._record(asked, raw, request, device, session, digests, at)
        entry = DeviceRecord(self, asked, raw, record, session)
        if record.ends_repeats:
            # What is still open from the device's life before is no repeat of what comes in this one.
            self._open = {key: other for key, other in self._open.items() if key[0] != client}
        for digest in digests:
            self._open[client, digest] = entry
        commands: list[Command] = [Keep(record, self, entry)]
        if request.problem:
            commands += self._problem(record, raw, request.problem, at)
        return commands + self.site.heard(record.device, client, "radius", self._logins_at, at)

    def tick(self, at: Moment) -> list[Command]:
        """Acknowledge what the server has left unanswered too long: it is kept."""
        limit = at.now - self.upstream.answer_timeout
        late = {id(entry): entry for entry in self._open.values() if entry.relayed_at <= limit}
        return [command for entry in late.values() for command in entry.unanswered(at)]

    def acknowledge(self, entry: DeviceRecord, attributes: Attributes) -> list[Command]:
        """Tell every device's request that waits for this record; once."""
        waiting = self._close(entry)
        theirs = tuple(attribute for attribute in attributes if attribute[0] != Type.PROXY_STATE)
        return [Send(self.channel, self._sign(asked, theirs), asked.peer) for asked in waiting]

    def give_up(self, entry: DeviceRecord) -> list[Command]:
        """Nobody is acknowledged: the device sends it again."""
        self._close(entry)
        return []

    def _close(self, entry: DeviceRecord) -> list[Asked]:
        for digest in entry.record.repeat_keys:
            if self._open.get((entry.record.repeat_scope, digest)) is entry:
                del self._open[entry.record.repeat_scope, digest]
        waiting, entry.waiting = list(entry.waiting.values()), {}
        return waiting

    def _kept(self, entry: DeviceRecord, event: Kept) -> list[Command]:
        at, record = event.at, entry.record
        entry.kept = True
        commands = self.site.gaps.note(at)
        if not isinstance(event.outcome, Stored):
            return self.acknowledge(entry, ()) + commands
        commands += self._session_ends(entry, at) + self.site.job_kept(record, self.upstream)
        drill = self.site.drills.on(record.device)
        sent, waits = self.upstream.take_over(record, event.outcome, entry, at, drill=drill)
        if waits:
            entry.relayed_at = at.now
            return sent + commands
        return sent + self.acknowledge(entry, ()) + commands

    def _not_kept(self, entry: DeviceRecord, error: str, at: Moment) -> list[Command]:
        record = entry.record
        server = self.upstream
        if self.relays and isinstance(server, RadiusUpstream) and server.may_relay(record.order_key):
            self.site.gaps.missed(record, at)
            text = f"records are relayed but not written down: {error}"
            told = self._tally.note("relayed-not-kept", record.device, text, at.now)
            return server.relay_unkept(entry.raw, record, entry, at) + told
        text = f"a record was not stored and not acknowledged, the device keeps it: {error}"
        return self.give_up(entry) + self._tally.note("record-not-kept", record.device, text, at.now)

    def _session_ends(self, entry: DeviceRecord, at: Moment) -> list[Command]:
        record = entry.record
        if record.ends_repeats:
            self.site.logged_out_online(record.device)
            return self.site.end(record.device, "restart", at)
        if record.event == Status.STOP and entry.session is None:
            self.site.logged_out_online(record.device, normal_card(record.personal.card or record.personal.user))
        elif record.event == Status.STOP and entry.session is not None:
            return self.site.end_marked(record.device, entry.session.session, "stop", at)
        return []

    def _record(
        self,
        asked: Asked,
        raw: bytes,
        request: AccountingRequest,
        device: str,
        session: OpenSession | None,
        digests: tuple[bytes, ...],
        at: Moment,
    ) -> Record:
        job, name = request.job, request.user_name or ""
        card = session.card if session else self._card(device, name)
        ended = None if request.event_timestamp is None else request.event_timestamp * 1000
        started = None if ended is None or request.session_time is None else ended - request.session_time * 1000
        user = session.user if session else "" if card or not isinstance(self.upstream, RadiusUpstream) else name
        record = Record(
            at=at.wall,
            dialect="radius",
            upstream=self.upstream.name,
            device=device,
            client=asked.peer[0],
            event=request.status.value,
            session=request.session_id,
            mode=session.mode if session else self._mode(device, request),
            order_key=self.upstream.order_key(device, request.session_id, card, user),
            personal=Personal(
                card=card,
                user=user,
                document=job.document if job else "",
                account=job.account if job else "",
                raw=raw,
            ),
            job_number=job.job_id if job else "",
            counts=None
            if job is None
            else Counts(job.kind, job.pages, job.color_pages, job.sheets, job.copies, job.duplex, job.paper),
            started_at=started,
            ended_at=ended,
            repeat_scope=asked.peer[0],
            repeat_keys=digests,
            ends_repeats=request.status in (Status.ON, Status.OFF),
        )
        return replace(record, outbox=self.upstream.place_of(record, relays=self.relays))

    def _card(self, device: str, name: str) -> str:
        return normal_card(name) if self.site.policy_for(device).card_pattern.fullmatch(name) else ""

    def _session(self, device: str, request: AccountingRequest) -> OpenSession | None:
        """The session that Locum granted and this record is of: by its mark, or by the same card on the same device."""
        card = self._card(device, request.user_name or "")
        for mark in request.classes:
            session = self.site.sessions.marked(device, mark.hex())
            if session is not None and (not card or card == session.card):
                return session
        session = self.site.sessions.on(device)
        if session is not None and card and session.card == card:
            return session
        return None

    def _mode(self, device: str, request: AccountingRequest) -> Mode:
        """The mode of a record that belongs to no session of Locum's."""
        user = self.site.online_users.get(device)
        return Mode.ONLINE if user and user == normal_card(request.user_name or "") else Mode.UNKNOWN

    def _problem(self, record: Record, raw: bytes, problem: str, at: Moment) -> list[Command]:
        text = f"a record of {record.device} cannot be read in full ({problem}); it is kept and forwarded as it came"
        told = self._tally.note(f"record-{problem}", record.client, text, at.now)
        unread = Quarantined(at.wall, "radius", record.device, record.client, problem, raw)
        return [*told, self.site.gaps.keep(unread, self.upstream.name)] if told else []

    def _sign(self, asked: Asked, attributes: Attributes) -> bytes:
        states = asked.proxy_states()
        packet, secret = asked.packet, asked.client.secret
        try:
            return sign_response(
                Code.ACCOUNTING_RESPONSE,
                packet.identifier,
                (*attributes, *states),
                packet.authenticator,
                secret,
                message_authenticator=asked.signed,
            )
        except TooLarge:
            return sign_response(
                Code.ACCOUNTING_RESPONSE,
                packet.identifier,
                states,
                packet.authenticator,
                secret,
                message_authenticator=False,
            )


def _key(asked: Asked) -> tuple[Peer, int, bytes]:
    return asked.peer, asked.packet.identifier, asked.packet.authenticator
