"""A terminal server as upstream: devices' requests relayed on their lines, records forwarded, the server watched.

`docs/terminal.md`, "Between Locum and a server". What counts as contact is a whole reply to something that was asked,
with a right checksum and a payload that can be read, an ERROR too; neither a connection nor a TLS handshake is one, for
something in front of a dead server may accept both. A server that answers anything else is not there: the connection is
closed, and said once a minute. With several addresses the first that answers is used until it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from protocols.errors import Malformed
from protocols.terminal.frames import Broken, ErrorCode, Frame, Type
from protocols.terminal.messages import Error, Message, UnknownType, Welcome, decode
from proxy.commands import Close, Command, Keep, Source, Tell
from proxy.dialects.terminal.lines import LineOwner
from proxy.dialects.terminal.upstream_host import PROBE_SOON, Host
from proxy.dialects.terminal.upstream_lines import DeviceLines
from proxy.dialects.terminal.upstream_records import DIALECT, OTHER_DIALECT, Records
from proxy.dialects.terminal.upstream_stream import Phase, ServerStream, Settings, StreamUser
from proxy.events import Channel, Closed, Connected, Event, Kept, Moment, NotKept, Received, Ticked
from proxy.handover import UNKEPT, Waiter
from proxy.hosts import Hosts
from proxy.link import Link, State
from proxy.tally import Tally
from proxy.upstream import Upstream
from storage.answers import OutboxItem
from storage.records import Delivery, OutboxState, Record, Remember

__all__ = ["Settings", "TerminalUpstream"]

JUST_NOW = 0.1
ENDS_CONNECTION = frozenset(ErrorCode) - {ErrorCode.UNKNOWN_TYPE}
"""After these ERRORs the server reads no more of a connection."""


class TerminalUpstream(Upstream):
    """One terminal server. `fingerprint` names an address with port and TLS, to know it again after a restart.

    `proven_by`: the fingerprints under which it was heard, of earlier runs too.
    """

    wants_facts = True

    def __init__(
        self,
        name: str,
        link: Link,
        settings: Settings,
        tally: Tally,
        fingerprint: Callable[[str], str],
        window: int = 256,
    ) -> None:
        super().__init__(name, DIALECT, link, window)
        self.settings = settings
        self.answer_timeout = settings.answer_timeout
        self.recover_after = settings.recover_after
        self.proven_by: set[str] = set()
        self.hosts: Hosts[Host] = Hosts()
        self.lines = DeviceLines(self)
        self.records = Records(self)
        self._tally = tally
        self._fingerprint = fingerprint
        self._streams: dict[Channel, ServerStream] = {}
        self._opened = 0
        self._relayed = link.state.relays

    # Lines (proxy.dialects.terminal.lines)

    def open_line(
        self, device: str, hello: Frame, owner: LineOwner, at: Moment, source: Source | None = None
    ) -> list[Command]:
        """A device said HELLO: have a line for it while the server is there. One that it had ends."""
        return self.lines.begin(device, hello, owner, at, None if self.lender is None else source)

    def close_line(self, device: str, at: Moment) -> list[Command]:
        """The device's connection has ended; nothing is told about it any more."""
        return self.lines.end(device, at)

    def relay(self, device: str, request: Frame, token: object, at: Moment) -> list[Command]:
        """Send a request on the device's line. A device that has none is told nothing."""
        line = self.lines.get(device)
        return [] if line is None else line.relay(request, token, at)

    def relay_job(self, device: str, request: Frame, item: OutboxItem, token: object, at: Moment) -> list[Command]:
        """Send a JOB on the device's line; where that cannot be, its record goes as RECORD."""
        line = self.lines.get(device)
        if line is None:
            return self.unsent(item, "the device has no line", at)
        return line.relay_job(request, item, token, at)

    # What the base asks for

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, Received):
            return self._received(event)
        if isinstance(event, Kept):
            return self.kept(event)
        if isinstance(event, Ticked):
            return self._ticked(event.at)
        if isinstance(event, Connected):
            stream = self._streams.get(event.channel)
            return [] if stream is None or stream.phase is not Phase.DIALLING else stream.connected(event.at.now)
        if isinstance(event, Closed):
            return self._closed(event)
        return self.not_kept(event) if isinstance(event, NotKept) else []

    def send_record(self, item: OutboxItem, at: Moment, waiter: Waiter | None) -> list[Command]:
        return self.records.send(item, waiter, at)

    def cut_records(self) -> list[tuple[OutboxItem, Waiter | None]]:
        return [*self.records.cut(), *((item, None) for item in self.lines.cut())]

    def cut(self, why: str, at: Moment) -> list[Command]:
        """Contact was lost: records in flight wait again. The lines stay, for late answers may come on them."""
        return super().cut(why, at) + self.records.close()

    def unforwardable(self, record: Record) -> str:
        return "" if record.dialect == DIALECT else OTHER_DIALECT

    def tries_first(self, now: float) -> bool:
        return any(host.steadiness.succeeding for host in self.hosts)

    @property
    def takes_records(self) -> bool:
        return self.link.state.relays and self.records.open and not self.records.stopped

    @property
    def relays_records(self) -> bool:
        return self.link.state.relays and bool(self.hosts)

    def window(self) -> int:
        return 1 if self.records.careful else self.outbox.window

    def reach(self, addresses: Sequence[str], at: Moment) -> list[Command]:
        """Use these addresses, in this order. Those that stay keep what is known of them."""
        commands = self._replace_hosts(addresses, at)
        return commands + self.set_proven(any(host.fingerprint in self.proven_by for host in self.hosts), at)

    def _replace_hosts(self, addresses: Sequence[str], at: Moment) -> list[Command]:
        known = {host.address: host for host in self.hosts}
        left = [host for address, host in known.items() if address not in addresses]
        commands = [command for host in left for command in host.close()]
        numbers = {host.number for host in self.hosts if host not in left}
        hosts = []
        for address in dict.fromkeys(addresses):
            if address not in known:
                number = next(n for n in count() if n not in numbers)
                numbers.add(number)
                known[address] = Host(self, address, number, self._fingerprint(address))
            hosts.append(known[address])
        self.hosts.replace(hosts)
        return commands + [command for host in left for command in self._leave(host, at)]

    def unreachable(self, cause: str, at: Moment) -> list[Command]:
        return [] if self.hosts else self.contact_failed(cause, at)

    def doubted(self, at: Moment) -> list[Command]:
        for host in self.hosts:
            host.probe_now = True
        return []

    def configure(self, settings: Settings, at: Moment) -> list[Command]:
        """A reload. Another port, other TLS: everything known of the server counts no more."""
        before, self.settings = self.settings, settings
        self.answer_timeout, self.recover_after = settings.answer_timeout, settings.recover_after
        addresses = [host.address for host in self.hosts]
        commands: list[Command] = []
        if (before.port, before.tls, before.appliance) != (settings.port, settings.tls, settings.appliance):
            commands += self._replace_hosts([], at)
        commands += self.reach(addresses, at)
        for host in self.hosts:
            host.contact.timeout = settings.answer_timeout
            host.steadiness.recover_after = settings.recover_after
        return commands

    def details(self) -> dict[str, Any]:
        lines, opened = self.lines.counts()
        address = self.hosts.used.address if self.hosts else ""
        return {"address": address, "lines": lines, "lines_open": opened, "forwarding": self.records.open}

    # What probes, lines and records need

    def dial(
        self, about: Channel, host: Host, user: StreamUser, hello: Frame, at: Moment, source: Source | None
    ) -> tuple[ServerStream, list[Command]]:
        """Open a connection to an address; `about` goes into its channel. `source`: see `Connect`."""
        self._opened += 1
        stream = ServerStream((self.name, *about, self._opened), host, user, hello)
        self._streams[stream.channel] = stream
        return stream, stream.dial(self, self.settings, source, at.now)

    def end(self, stream: ServerStream) -> list[Command]:
        """Close a connection on our side; its user is not told. What was sent still leaves."""
        stream.phase = Phase.CLOSED
        return [Close(stream.channel)] if self._streams.pop(stream.channel, None) is not None else []

    def lose(self, stream: ServerStream, why: str, at: Moment) -> list[Command]:
        """Give up a connection that is of no more use."""
        if stream.phase is Phase.CLOSED:
            return []
        stream.phase = Phase.CLOSED
        self._streams.pop(stream.channel, None)
        return [Close(stream.channel, abort=True), *stream.user.lost(stream, why, at)]

    def unsent(self, item: OutboxItem, why: str, at: Moment) -> list[Command]:
        """A record that counts as sent was not put on the wire: it waits again."""
        if item.seq == UNKEPT:
            return []
        self.outbox.cut(item.seq)
        return [
            Keep(Delivery(at.wall, item.seq, self.name, "unsent", OutboxState.WAITING, item.tries, why), wait=False)
        ]

    def told_once(self, reason: str, text: str, at: Moment) -> list[Command]:
        """Count it, and say it at most once a minute."""
        return self._tally.note(reason, self.name, text, at.now)

    def server_says(self, host: Host, at: Moment) -> list[Command]:
        """What the address in use says of itself has come in: tell if it has changed."""
        if host is not self.hosts.used or host.trouble == self.trouble:
            return []
        self.trouble = host.trouble
        if self.trouble:
            return [Tell("warning", f"{self.name}: {self.trouble}", {"upstream": self.name}, alarm="server")]
        return [Tell("info", f"{self.name}: the server says that all is well again", {"upstream": self.name})]

    # The wire

    def _received(self, event: Received) -> list[Command]:
        stream = self._streams.get(event.channel)
        if stream is None:
            return []
        stream.decoder.receive_data(event.data)
        commands: list[Command] = []
        while stream.phase in (Phase.GREETING, Phase.OPEN):
            got = stream.decoder.next_event()
            if got is None:
                break
            commands += self._broken(stream, got.text, event.at) if isinstance(got, Broken) else self._frame(
                stream, got, event.at
            )  # fmt: skip
        return commands

    def _frame(self, stream: ServerStream, frame: Frame, at: Moment) -> list[Command]:
        message: Message | None = None
        try:
            message = decode(frame)
        except UnknownType:
            pass
        except Malformed as error:
            return self._broken(stream, str(error), at)
        asked = stream.answered(frame)
        if asked is None:
            return self._unasked(stream, message, at)
        stream.settle(frame, at.now)
        commands = self._heard(stream.host, at)
        if isinstance(message, Error):
            commands += self._said_error(stream, message, at)
        if stream.phase is Phase.GREETING and asked.type == Type.HELLO:
            if not isinstance(message, Welcome):
                return commands + self.lose(stream, "the server refused HELLO", at)
            stream.welcomed(at.now)
            return commands + stream.user.opened(stream, message, at)
        commands += stream.user.replied(stream, asked, frame, message, at)
        if isinstance(message, Error) and message.code in ENDS_CONNECTION:
            commands += self.lose(stream, f"the server answered ERROR {message.code}", at)
        return commands

    def _unasked(self, stream: ServerStream, message: Message | None, at: Moment) -> list[Command]:
        """Not a reply. An ERROR without sequence says that the server cannot read this connection any more."""
        if isinstance(message, Error):
            commands = self._heard(stream.host, at) if stream.under_way else []
            commands += self._said_error(stream, message, at)
            return commands + self.lose(stream, f"the server answered ERROR {message.code}", at)
        words = f"{self.name}: something that answers nothing came from {stream.host.address}; it was dropped"
        return self.told_once("answers-nothing", words, at)

    def _said_error(self, stream: ServerStream, error: Error, at: Moment) -> list[Command]:
        # What it says to a device's request may name a card, so only the number is repeated.
        words = f"{self.name}: {stream.host.address} answered ERROR {error.code}"
        commands = self.told_once(f"server-error-{min(error.code, 7)}", words, at)
        if stream.user is stream.host:
            stream.host.trouble = f"the server answers Locum's probes with ERROR {error.code}"
            commands += self.server_says(stream.host, at)
        return commands

    def _broken(self, stream: ServerStream, text: str, at: Moment) -> list[Command]:
        words = f"{self.name}: what {stream.host.address} answers is not the terminal dialect ({text})"
        return self.told_once("server-garbage", words, at) + self.lose(stream, f"it was not readable: {text}", at)

    def _closed(self, event: Closed) -> list[Command]:
        stream, at = self._streams.pop(event.channel, None), event.at
        if stream is None:
            return []
        opened, stream.phase = stream.opened_at is not None, Phase.CLOSED
        host = stream.host
        commands = stream.user.lost(stream, event.text, at)
        probe = stream.user is host
        if probe and (event.refused or not opened):
            host.steadiness.broken()
        if not event.refused:
            # Somebody ended a line: ask whether the server is going.
            host.probe_now |= not probe
            return commands
        # What is reset with the server proves no more than its other connections: only a new one tells.
        follows = host.contact.refused(probe=probe and not opened)
        if follows == "probe":
            return commands + host.probe(at)
        if follows == "failed":
            cause = f"{host.address} port {self.settings.port}: {event.text}"
            return commands + self._failed(host, cause, at, asked_since=at.now - JUST_NOW)
        return commands

    # Contact

    def _heard(self, host: Host, at: Moment) -> list[Command]:
        host.contact.heard(at.now)
        host.failed = False
        commands: list[Command] = []
        used = self.hosts.used
        if used is not host and used.failed:
            commands += self._switch(host, at)
        elif not self.may_speak(used.address):
            self.hosts.use(host)
        if host.fingerprint not in self.proven_by:
            self.proven_by.add(host.fingerprint)
            commands.append(Keep(Remember(f"proven:{self.name}:{host.fingerprint}", "1"), wait=False))
        if self.link.proven and self.link.state is State.ONLINE:
            return commands
        return commands + self.contact(host.steadiness.contact(at.now), at)

    def _failed(self, host: Host, cause: str, at: Moment, *, asked_since: float) -> list[Command]:
        """Contact with this address has failed. Another is used instead; also one that had failed, if it was not asked
        since then: it may have come back.
        """
        host.failed = True
        host.steadiness.broken()
        if self.hosts.used is not host:
            return []
        others = self.hosts.alive()
        if not others and self.link.state is State.ONLINE:
            others = [other for other in self.hosts if other.contact.probe_sent < asked_since]
        others = [other for other in others if self.may_speak(other.address)]
        return self._switch(others[0], at) if others else self.contact_failed(cause, at)

    def _switch(self, to: Host, at: Moment) -> list[Command]:
        before = self.hosts.used
        self.hosts.use(to)
        told = Tell("warning", f"{self.name}: {before.address} does not answer, using {to.address}")
        return [told, *to.probe(at), *self._leave(before, at), *self.server_says(to, at)]

    def _leave(self, host: Host, at: Moment) -> list[Command]:
        """Lines and records move to the address in use now."""
        commands: list[Command] = []
        for stream in [stream for stream in self._streams.values() if stream.host is host and stream.user is not host]:
            commands += self.lose(stream, f"{host.address} left", at)
        for line in self.lines if commands else ():
            line.pauses.forget(at, line.device)
        return commands

    def _ticked(self, at: Moment) -> list[Command]:
        commands: list[Command] = []
        for host in self.hosts:
            commands += self._watch(host, at)
        relays, self._relayed = self.link.state.relays and not self._relayed, self.link.state.relays
        if relays:
            self.records.hasten(at)
            for line in self.lines:
                commands += line.hasten(at)
        return commands + self.lines.watch(at) + self.records.watch(at) + self.tick(at)

    def _watch(self, host: Host, at: Moment) -> list[Command]:
        commands = host.watch(at)
        contact, settings = host.contact, self.settings
        if contact.has_failed(at.now):
            cause = f"no answer from {host.address} port {settings.port} in {settings.answer_timeout:g} s"
            commands += self._failed(host, cause, at, asked_since=at.now - settings.answer_timeout)
        if contact.wants_probe(at.now):
            for other in self.hosts:
                other.probe_now = True
        well = self.link.state is State.ONLINE and not host.failed
        quiet_since = max(contact.probe_sent, contact.last_heard) if well else contact.probe_sent
        asked_for = host.probe_now and at.now >= contact.probe_sent + min(PROBE_SOON, settings.answer_timeout / 4)
        if asked_for or at.now >= quiet_since + (settings.probe_interval if well else PROBE_SOON):
            commands += host.probe(at)
        return commands
