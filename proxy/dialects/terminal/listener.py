"""Where terminals reach Locum: their connections, the order in which frames are checked, and who is connected.

`docs/terminal.md`, "Rules". A connection says HELLO first, and belongs to that device from then on; a HELLO again with
the same name gets WELCOME again, with another name ERROR 6. WELCOME is always Locum's own, so that no device waits for
the server to be known; the device's line to a terminal server repeats its HELLO. An ERROR from a device is counted and
not answered, its RECORD is refused, and a request above 256 unanswered ones of its connection gets at once the reply
that asks for another try.
"""

from __future__ import annotations

from protocols.errors import Malformed
from protocols.terminal.frames import Broken, ErrorCode, Frame, Type
from protocols.terminal.messages import (
    Error,
    Hello,
    Job,
    JobStatus,
    Login,
    Logout,
    Message,
    Ping,
    Query,
    RecordAck,
    RecordMessage,
    UnknownType,
    Unlock,
    Welcome,
    clip,
)
from proxy.commands import Close, Command, Source, Tell
from proxy.dialects.terminal.connection import MOST_UNANSWERED, Asked, Connection, Presence
from proxy.dialects.terminal.jobs import DeviceJob, Jobs
from proxy.dialects.terminal.logins import GrantAsked, Logins
from proxy.dialects.terminal.queries import Queries
from proxy.dialects.terminal.requests import put_off, read
from proxy.dialects.terminal.shared import DIALECT, Shared
from proxy.dialects.terminal.unlocks import Unlocks
from proxy.events import Channel, Closed, Connected, Event, Kept, Moment, NotKept, Received, Ticked
from proxy.site import MOST_REMEMBERED, Site
from proxy.tally import Tally
from proxy.upstream import Upstream

HEARTBEAT = 30.0
SILENT_AFTER = 3
"""How many heartbeats of silence are a logout."""
HELLO_WITHIN = 30.0
LOOK_EVERY = 1.0
MOST_CONNECTIONS = 8192


class TerminalListener:
    """One `[[listen]]` of the dialect terminal. `channel` is its own; a connection's has a number behind it.

    `name` is told to the devices; `heartbeat` in seconds, 0: none is asked for, and nobody is taken to be silent.
    """

    def __init__(
        self,
        channel: Channel,
        upstream: Upstream,
        records_to: Upstream,
        site: Site,
        tally: Tally,
        *,
        name: str,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self.channel = channel
        self.upstream = upstream
        self.records_to = records_to
        self.site = site
        self.name = name
        self.heartbeat = heartbeat
        self._tally = tally
        self._connections: dict[Channel, Connection] = {}
        self._presences: dict[str, Presence] = {}
        self._look_at = float("-inf")
        self._shared = shared = Shared(self, upstream, records_to, site, tally)
        self._logins, self._jobs = Logins(shared), Jobs(shared)
        self._unlocks, self._queries = Unlocks(shared), Queries(shared)
        upstream.subscribers.append(self)

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, Received):
            return self._received(event)
        if isinstance(event, Kept):
            return self._kept(event)
        if isinstance(event, Ticked):
            return self.tick(event.at)
        if isinstance(event, Connected):
            return self._connected(event)
        if isinstance(event, Closed):
            connection = self._connections.get(event.channel)
            return [] if connection is None else self._gone(connection, event.at)
        return self._not_kept(event) if isinstance(event, NotKept) else []

    def configure(self, *, name: str, heartbeat: float = HEARTBEAT) -> None:
        """A reload; connections stay."""
        self.name, self.heartbeat = name, heartbeat

    def stop(self, at: Moment) -> list[Command]:
        """The listener is not in the config any more: its devices and their lines are let go."""
        if self in self.upstream.subscribers:
            self.upstream.subscribers.remove(self)
        commands: list[Command] = []
        for connection in list(self._connections.values()):
            commands += [*self._gone(connection, at), Close(connection.channel)]
        return commands

    @property
    def connected(self) -> int:
        """How many devices are connected."""
        return sum(presence.connection is not None for presence in self._presences.values())

    def state_changed(self, at: Moment) -> list[Command]:
        """The upstream's state has changed, or drills have ended."""
        return self._logins.state_changed(at)

    # What the lines bring

    def replied(self, device: str, token: object, reply: Frame, at: Moment) -> list[Command]:
        """The server's reply to a relayed request."""
        return token.replied(reply, at) if isinstance(token, Asked | DeviceJob) else []

    def not_relayed(self, device: str, token: object, why: str, at: Moment) -> list[Command]:
        """The server will not reply to a request."""
        return token.not_relayed(why, at) if isinstance(token, Asked | DeviceJob) else []

    # What storage says

    def _kept(self, event: Kept) -> list[Command]:
        token = event.token
        if isinstance(token, DeviceJob):
            return self._jobs.kept(token, event)
        return self._logins.kept(token, event) if isinstance(token, GrantAsked) else []

    def _not_kept(self, event: NotKept) -> list[Command]:
        token = event.token
        if isinstance(token, DeviceJob):
            return self._jobs.not_kept(token, event)
        return self._logins.not_kept(token, event) if isinstance(token, GrantAsked) else []

    # Time

    def tick(self, at: Moment) -> list[Command]:
        """What the server has left unanswered; and, once a second, who has gone silent."""
        commands = self._shared.deadlines.tick(at)
        if at.now >= self._look_at:
            if self._look_at == float("-inf"):
                self._expect(at)
            self._look_at = at.now + LOOK_EVERY
            commands += self._look_for_silence(at)
        return commands

    def _look_for_silence(self, at: Moment) -> list[Command]:
        commands: list[Command] = []
        mute = [each for each in self._connections.values() if not each.device and at.now - each.opened >= HELLO_WITHIN]
        for connection in mute:
            text = f"a connection from {connection.client} did not say HELLO"
            commands += self._end(connection, None, at) + self._note("no-hello", connection, text, at)
        limit = at.now - SILENT_AFTER * self.heartbeat if self.heartbeat else float("-inf")
        silent = [device for device, presence in self._presences.items() if presence.heard <= limit]
        for device in silent:
            presence = self._presences[device]
            commands += [] if self._heard_elsewhere(device, at) else self.site.end(device, "silence", at)
            if presence.connection is not None:
                commands += self._end(presence.connection, None, at)
            self._presences.pop(device, None)
        return commands

    def _expect(self, at: Moment) -> None:
        """After a restart: devices with a session that is open are to come back in time."""
        for device, seen in self.site.seen.items():
            here = seen.dialect == DIALECT and seen.upstream == self.upstream.name
            if here and device not in self._presences and self.site.sessions.on(device) is not None:
                self._presences[device] = Presence(None, at.now)

    def _heard_elsewhere(self, device: str, at: Moment) -> bool:
        """Whether another listener hears the device."""
        seen = self.site.seen.get(device)
        return seen is not None and at.wall - seen.heard < SILENT_AFTER * self.heartbeat * 1000 / 2

    # Connections

    def _connected(self, event: Connected) -> list[Command]:
        if len(self._connections) >= MOST_CONNECTIONS:
            text = f"{MOST_CONNECTIONS} terminals are connected; more are turned away"
            told = self._tally.note("too-many-connections", event.peer[0], text, event.at.now)
            return [Close(event.channel, abort=True), *told]
        self._connections[event.channel] = Connection(event)
        return []

    def _received(self, event: Received) -> list[Command]:
        connection, at = self._connections.get(event.channel), event.at
        if connection is None:
            return []
        connection.presence.heard = at.now
        decoder, commands = connection.decoder, self._heard(connection, at)
        decoder.receive_data(event.data)
        while not connection.closed and (found := decoder.next_event()) is not None:
            if isinstance(found, Broken):
                commands += self._broken(connection, found, at)
            else:
                commands += self._frame(connection, found, at)
        return commands

    def _heard(self, connection: Connection, at: Moment) -> list[Command]:
        if not connection.device:
            return []
        client, commands = connection.client, self.upstream.device_spoke(connection.client, at)
        if self.records_to is not self.upstream:
            commands += self.records_to.device_spoke(client, at)
        return commands + self.site.heard(connection.device, client, DIALECT, self.upstream.name, at)

    def _broken(self, connection: Connection, broken: Broken, at: Moment) -> list[Command]:
        text = f"a connection from {connection.client} was closed: {broken.text}"
        told = self._note(f"terminal-{broken.code.name.lower()}", connection, text, at)
        return self._refuse(connection, broken.code, broken.sequence, broken.text, at) + told

    def _refuse(self, connection: Connection, code: ErrorCode, sequence: int, words: str, at: Moment) -> list[Command]:
        return self._end(connection, Error(code, clip(words)), at, sequence)

    def _end(self, connection: Connection, last: Message | None, at: Moment, sequence: int = 0) -> list[Command]:
        """Close a connection, after a last word."""
        said = [] if last is None else connection.reply(last, sequence)
        return [*said, Close(connection.channel), *self._gone(connection, at)]

    def _gone(self, connection: Connection, at: Moment) -> list[Command]:
        """A connection has ended. Its device's session goes on until the device has been silent for long enough."""
        connection.closed = True
        self._connections.pop(connection.channel, None)
        presence = connection.presence
        if presence.connection is not connection or not connection.device:
            return []
        presence.connection = None
        commands: list[Command] = []
        if len(self._presences) > MOST_REMEMBERED:
            del self._presences[connection.device]
            commands = self.site.end(connection.device, "silence", at)
        lines = self._shared.lines
        return commands if lines is None else commands + lines.close_line(connection.device, at)

    def _note(self, reason: str, connection: Connection, text: str, at: Moment) -> list[Command]:
        return self._tally.note(reason, connection.client, text, at.now)

    # HELLO

    def _hello(self, connection: Connection, frame: Frame, hello: Hello, at: Moment) -> list[Command]:
        device = hello.device_id
        if connection.device:
            if device == connection.device:
                return self._welcome(connection, frame, at)
            words = f"this connection is of {connection.device}"
            told = self._note("second-hello", connection, f"{words}, and said HELLO as {device}; closed", at)
            return self._refuse(connection, ErrorCode.HELLO, frame.sequence, words, at) + told
        if words := self._elsewhere(connection, device):
            text = f"a HELLO as {device} from {connection.client} was refused: {words}"
            told = self._note("pinned-elsewhere", connection, text, at)
            return self._refuse(connection, ErrorCode.HELLO, frame.sequence, words, at) + told
        commands = self._flagged(connection, device) + self._takes_over(connection, device, at)
        commands += self._heard(connection, at) + self._welcome(connection, frame, at)
        lines = self._shared.lines
        if lines is None:
            return commands
        return commands + lines.open_line(device, frame, self, at, Source(connection.client, connection.port))

    def _elsewhere(self, connection: Connection, device: str) -> str:
        """Why this device cannot be at the other end; "" it can."""
        if self.site.pinned_elsewhere(device, connection.client):
            return "the device is pinned to another address"
        wanted = self.site.certificates.get(device)
        if wanted and wanted != connection.certificate:
            return "the device is pinned to another certificate"
        return ""

    def _flagged(self, connection: Connection, device: str) -> list[Command]:
        known = device in self.site.seen or device in self.site.pins or device in self.site.certificates
        if known or len(self.site.seen) >= MOST_REMEMBERED:
            return []
        text = f"{device} was seen for the first time, from {connection.client}; [[device]] can pin it"
        return [Tell("info", text, {"device": device, "client": connection.client})]

    def _takes_over(self, connection: Connection, device: str, at: Moment) -> list[Command]:
        """The newest connection of a device is the device's."""
        presence = self._presences.get(device)
        older = presence.connection if presence is not None else None
        if presence is None:
            presence = self._presences[device] = connection.presence
        commands: list[Command] = []
        if older is not None:
            text = f"{device} has connected again, from {connection.client}; the connection before is closed"
            commands += self._end(older, None, at) + self._tally.note("connected-twice", device, text, at.now)
        presence.connection, presence.heard = connection, at.now
        connection.device, connection.presence = device, presence
        return commands

    def _welcome(self, connection: Connection, frame: Frame, at: Moment) -> list[Command]:
        state = self._shared.shown(connection.device)
        return connection.reply(Welcome(clip(self.name), int(self.heartbeat), at.wall, state), frame.sequence)

    # Requests

    def _frame(self, connection: Connection, frame: Frame, at: Moment) -> list[Command]:
        """The checks in their order: HELLO, type, payload."""
        if not connection.device and frame.type != Type.HELLO:
            told = self._note("hello-expected", connection, f"{connection.client} did not begin with HELLO", at)
            return self._refuse(connection, ErrorCode.HELLO, frame.sequence, "HELLO expected", at) + told
        if frame.type == Type.ERROR:
            return self._note("error-from-device", connection, f"{connection.device} sent an ERROR", at)
        try:
            message = read(frame)
        except UnknownType as error:
            told = self._note(error.reason, connection, f"{connection.device} sent an unknown type: {error}", at)
            return connection.reply(Error(ErrorCode.UNKNOWN_TYPE, clip(str(error))), frame.sequence) + told
        except Malformed as error:
            return self._malformed(connection, frame, error, at)
        if connection.crowded and (busy := put_off(message)) is not None:
            text = f"{connection.device} has {MOST_UNANSWERED} requests unanswered; others are put off"
            return connection.reply(busy, frame.sequence) + self._note("too-many-requests", connection, text, at)
        return self._request(connection, frame, message, at)

    def _malformed(self, connection: Connection, frame: Frame, error: Malformed, at: Moment) -> list[Command]:
        if frame.type == Type.JOB:
            told = self._jobs.quarantine(connection, frame, error.reason, str(error), at)
        else:
            text = f"{connection.device or connection.client} sent what cannot be read: {error}"
            told = self._note(error.reason, connection, text, at)
        return self._refuse(connection, ErrorCode.MALFORMED, frame.sequence, str(error), at) + told

    def _request(self, connection: Connection, frame: Frame, message: Message, at: Moment) -> list[Command]:
        match message:
            case Job():
                return self._jobs.asked(connection, frame, message, at)
            case Login():
                return self._logins.asked(connection, frame, message, at)
            case Ping():
                return self._queries.pinged(connection, frame, at)
            case Logout():
                return self._queries.logged_out(connection, frame, message, at)
            case Query():
                return self._queries.queried(connection, frame, message, at)
            case Unlock():
                return self._unlocks.asked(connection, frame, message, at)
            case Hello():
                return self._hello(connection, frame, message, at)
            case RecordMessage():
                told = self._note("record-from-device", connection, f"{connection.device} sent a RECORD; refused", at)
                ack = RecordAck(message.record_id, message.job.job, JobStatus.REFUSED, "")
                return connection.reply(ack, frame.sequence) + told
            case _:
                return []
