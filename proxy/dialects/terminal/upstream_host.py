"""One address of a terminal server: what is known of contact with it, and the probes sent there.

A probe is a PING on a connection of its own, with a HELLO of its own: that of Locum's name would end the connection
that forwards records. Where a PING is unanswered at half-time the next probe is another connection, for the first may
be half open, and only a new one tells whether the server is there; two at most are open at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.terminal.frames import CHECKSUM_SIZE, HEADER_SIZE, Frame, Type
from protocols.terminal.messages import FORWARDER, Hello, Message, Pong, TerminalState, Welcome, clip, encode
from proxy.commands import Command
from proxy.contact import Contact, Steadiness
from proxy.dialects.terminal.upstream_stream import Asked, ServerStream, Settings
from proxy.events import Moment

if TYPE_CHECKING:
    from proxy.dialects.terminal.upstream import TerminalUpstream

PROBE_SOON = 0.5
MODEL = "Locum"
LONGEST_NAME = 240
"""Octets of Locum's own name in a HELLO; a probe's has something added."""
TROUBLES: dict[int, str] = {
    TerminalState.OFFLINE: "the server says that it is offline itself",
    TerminalState.LOCKED: "the server says that it is offline itself, and locked",
    TerminalState.UNAVAILABLE: "the server says that it cannot reach what it needs (server unavailable)",
}


def hello_of(name: str) -> Frame:
    """The HELLO of a connection of Locum's own."""
    data = encode(Hello(clip(name), MODEL, "", FORWARDER), 1)
    return Frame(Type.HELLO, 1, data[HEADER_SIZE:-CHECKSUM_SIZE])


def own_name(settings: Settings) -> str:
    """Locum's own name, cut so that something can be added to it."""
    return settings.appliance.encode()[:LONGEST_NAME].decode("utf-8", "ignore")


def trouble_of(state: int) -> str:
    """What the server's state byte says is wrong with it, "" nothing."""
    if state == TerminalState.ONLINE:
        return ""
    return TROUBLES.get(state, f"the server says that it is in a state that is not known here ({state})")


class Host:
    """One address: contact with it, and its probes. `number` tells its probes from those of other addresses."""

    def __init__(self, server: TerminalUpstream, address: str, number: int, fingerprint: str) -> None:
        self.address = address
        self.number = number
        self.fingerprint = fingerprint
        self.contact = Contact(server.settings.answer_timeout)
        self.steadiness = Steadiness(server.recover_after)
        self.failed = False
        self.probe_now = False
        self.trouble = ""
        self._server = server
        self._name = "-probe" if number == 0 else f"-probe-{number + 1}"
        self._streams: list[ServerStream] = []

    def probe(self, at: Moment) -> list[Command]:
        """Ask whether somebody is there. Nobody's login waits for this. In line a device must have been heard first."""
        self.probe_now = not self._server.may_speak(self.address)
        if self.probe_now:
            return []
        half = self.contact.timeout / 2
        newest = self._streams[-1] if self._streams else None
        if newest is None:
            return self._dial(at)
        if newest.open and (newest.waiting_since is None or at.now < newest.waiting_since + half):
            self.contact.probed(at.now)
            return newest.ping(at.now)
        if not newest.open and at.now < newest.since + half:
            # Under way already: as good a probe as another one would be.
            self.contact.asked(at.now)
            return []
        commands = self._end(self._streams[0]) if len(self._streams) > 1 else []
        return commands + self._dial(at)

    def watch(self, at: Moment) -> list[Command]:
        """Give up what went unanswered."""
        commands: list[Command] = []
        for stream in list(self._streams):
            since = stream.waiting_since if stream.waiting_since is not None else stream.since
            silent = stream.waiting_since is not None and at.now >= since + self.contact.timeout
            why = stream.dead(at.now, self.contact.timeout) or ("no answer to a probe" if silent else "")
            if why:
                self.steadiness.broken(since)
                commands += self._server.lose(stream, why, at)
        return commands

    def close(self) -> list[Command]:
        return [command for stream in list(self._streams) for command in self._end(stream)]

    def opened(self, stream: ServerStream, welcome: Welcome, at: Moment) -> list[Command]:
        others = [other for other in self._streams if other is not stream]
        commands = [command for other in others for command in self._end(other)]
        return commands + self._said(welcome.state, at)

    def replied(
        self, stream: ServerStream, asked: Asked, reply: Frame, message: Message | None, at: Moment
    ) -> list[Command]:
        return self._said(message.state, at) if isinstance(message, Pong) else []

    def lost(self, stream: ServerStream, why: str, at: Moment) -> list[Command]:
        self._streams.remove(stream)
        # One that had stood for a while was ended by the server, or with it: find out.
        if stream.opened_at is not None and at.now >= stream.opened_at + PROBE_SOON:
            self.probe_now = True
        return []

    def _said(self, state: int, at: Moment) -> list[Command]:
        self.trouble = trouble_of(state)
        return self._server.server_says(self, at)

    def _end(self, stream: ServerStream) -> list[Command]:
        self._streams.remove(stream)
        return self._server.end(stream)

    def _dial(self, at: Moment) -> list[Command]:
        self.contact.probed(at.now)
        hello = hello_of(own_name(self._server.settings) + self._name)
        source = self._server.own_source(self.address)
        stream, commands = self._server.dial(("probe", self.address), self, self, hello, at, source)
        self._streams.append(stream)
        return commands
