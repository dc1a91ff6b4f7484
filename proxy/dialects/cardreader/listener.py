"""One network card reader: who serves it, the server or Locum, and what passes between the two ends of its line.

While the server serves, bytes pass both ways unchanged, and `online.py` reads along. While the copier is OFFLINE (and
offline mode is enabled there), or a session that Locum granted is open, Locum serves (`offline.py`): nothing passes,
and the reader is handed back between two swipes. A server's connection to which something was not passed on is closed
then, so that server and reader begin anew. In GRACE the server still serves; a card that nobody serves gets the error.
"""

from __future__ import annotations

from protocols import cardreader
from protocols.cardreader import CardRead, Noise, ReaderDecoder, ServerDecoder
from proxy.admission import Verdict
from proxy.commands import Close, Command, Tell
from proxy.dialects.cardreader.ends import DialledEnd, End
from proxy.dialects.cardreader.offline import Offline
from proxy.dialects.cardreader.online import Online
from proxy.dialects.cardreader.shared import DIALECT, Settings, Shared, Swipe
from proxy.events import Channel, Closed, Connected, Event, Kept, Moment, NotKept, Received, Ticked, Verified
from proxy.metering import Metered
from proxy.site import Site
from proxy.tally import Tally
from proxy.upstream import Upstream
from storage.answers import OpenSession
from storage.records import Mode

WHOLE_AFTER = 0.04
"""Seconds after which a server's message without an end is taken for whole."""
LOOKS_EVERY = 0.5
"""Seconds between two looks at a reader where nothing happens: there may be hundreds of them."""
LINE_WITHIN = 2.0
"""Seconds after which half a line from the reader holds nothing up any more."""


class ReaderListener:
    """One `[[reader]]`. `channel` is its own; that of a connection it takes has a number behind it."""

    def __init__(
        self, channel: Channel, upstream: Upstream, site: Site, tally: Tally, settings: Settings, metered: Metered
    ) -> None:
        self.channel = channel
        self.upstream = upstream
        self.settings = settings
        self._metered = metered
        self._shared = Shared(self, settings, upstream, site, tally, metered, settings.address)
        self._online = Online(self._shared, self._show_server)
        self._offline = Offline(self._shared, self._say, self._pass_on)
        self._dialled = DialledEnd(self, channel)
        self._accepted = End()
        self._server: End = self._dialled if settings.connects else self._accepted
        self._reader: End = self._accepted if settings.connects else self._dialled
        self._from_reader, self._from_server = ReaderDecoder(), ServerDecoder()
        self._reader_spoke = self._server_spoke = float("-inf")
        self._server_missed = False
        self._aligned = True
        self._told_away = False
        self._rests_until = float("-inf")
        self._active = float("-inf")
        self._active_in: OpenSession | None = None
        # After a restart a session that Locum granted goes on.
        self.locum_serves = self._is_ours
        upstream.subscribers.append(self)

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, Ticked):
            if event.at.now < self._rests_until:
                return []
            return self._tick(event.at)
        self._rests_until = float("-inf")
        if isinstance(event, Received):
            if event.channel == self._reader.channel:
                return self._reader_said(event.data, event.at)
            return self._server_said(event.data, event.at) if event.channel == self._server.channel else []
        if isinstance(event, Kept | NotKept | Verified):
            return self._offline.handle(event)
        if isinstance(event, Connected):
            return self._connected(event)
        return self._closed(event) if isinstance(event, Closed) else []

    def configure(self, settings: Settings) -> None:
        """A reload that leaves the addresses as they are."""
        self._rests_until = float("-inf")
        self.settings = self._shared.settings = settings

    def stop(self, at: Moment) -> list[Command]:
        """The reader is not in the config any more."""
        if self in self.upstream.subscribers:
            self.upstream.subscribers.remove(self)
        commands = self._online.cut(at, reader=True) + self._shared.end("restart", at)
        return commands + self._reader.close() + self._server.close()

    def state_changed(self, at: Moment) -> list[Command]:
        """The upstream's state has changed, or drills have begun or ended."""
        self._rests_until = float("-inf")
        return self._review(at)

    @property
    def device(self) -> str:
        return self.settings.device

    @property
    def connected(self) -> tuple[bool, bool]:
        """Whether the reader is connected, and its server."""
        return self._reader.open, self._server.open

    # Connections

    def _connected(self, event: Connected) -> list[Command]:
        if event.channel == self._dialled.channel:
            end: End = self._dialled
            commands: list[Command] = []
        elif self._is_stranger(event.peer[0]):
            text = f"{self._shared.device}: a connection from {event.peer[0]} is nobody's here; it was closed"
            return [Close(event.channel, abort=True), *self._shared.note("reader-stranger", text, event.at)]
        else:
            # The newest connection counts: the one before may be half open.
            end, commands = self._accepted, self._accepted.close(abort=True)
            self._dialled.hasten()
            commands += self._dial(event.at) if end is self._server else []
        if end is self._server:
            self._from_server, self._server_missed = ServerDecoder(), self.locum_serves
            self._aligned = self._from_reader.between
            return commands + end.opened(event.channel)
        self._from_reader = ReaderDecoder()
        self._shared.client = event.peer[0]
        commands += end.opened(event.channel)
        if self.locum_serves or not self._server.open:
            commands += self._reader.say(cardreader.GREETING)
        return commands + self._heard(event.at) + self._reader_is_back()

    def _is_stranger(self, address: str) -> bool:
        wanted = self.settings.address if self.settings.connects else self.settings.server
        return bool(wanted) and address != wanted

    def _closed(self, event: Closed) -> list[Command]:
        at = event.at
        if event.channel == self._dialled.channel:
            end: End = self._dialled
            self._dialled.gone(at.now)
        elif event.channel == self._accepted.channel:
            end = self._accepted
            end.lost()
        else:
            return []
        if end is self._server:
            # It may be gone altogether.
            return self._online.cut(at, reader=False) + self.upstream.doubted(at)
        self._reader.forget()
        self._server.forget()
        commands = self._online.cut(at, reader=True) + self._server.close()
        return commands + (self._reader_is_away(event.text) if self._dialled.failed else [])

    def _dial(self, at: Moment) -> list[Command]:
        """Connect to the end that listens: a reader always, a server for a reader that is there."""
        if not self.settings.connects:
            return self._dialled.dial(self.settings.address, self.settings.port, at.now)
        if not self._reader.open or self.locum_serves:
            return []
        return self._dialled.dial(self.settings.server, self.settings.server_port, at.now)

    def _reader_is_away(self, why: str) -> list[Command]:
        if self._told_away or self.settings.connects:
            return []
        self._told_away = True
        where = f"{self.settings.address} port {self.settings.port}"
        text = f"{self._shared.device}: no connection to its card reader at {where} ({why}); Locum tries on"
        return [Tell("warning", text, {"device": self._shared.device})]

    def _reader_is_back(self) -> list[Command]:
        if not self._told_away:
            return []
        self._told_away = False
        return [Tell("info", f"{self._shared.device}: its card reader is there", {"device": self._shared.device})]

    def _heard(self, at: Moment) -> list[Command]:
        client = self._shared.client
        commands = self.upstream.device_spoke(client, at)
        return commands + self._shared.site.heard(self._shared.device, client, DIALECT, self.upstream.name, at)

    # What comes in

    def _reader_said(self, data: bytes, at: Moment) -> list[Command]:
        locum_serves, self._reader_spoke = self.locum_serves, at.now
        passed = not locum_serves and self._server.open and self._aligned
        commands = self._heard(at) + (self._server.send(data) if passed else [])
        decoder = self._from_reader
        decoder.receive_data(data)
        while (found := decoder.next_event()) is not None:
            if isinstance(found, CardRead):
                swipe = Swipe(found.text, at.now, at.wall)
                if locum_serves:
                    commands += self._offline.swiped(swipe, at)
                else:
                    # A server that came in the middle of a line, or is not there yet, gets whole cards only.
                    commands += [] if passed else self._server.send(_line(swipe))
                    commands += self._online.swiped(swipe, at)
            elif isinstance(found, Noise):
                text = f"{self._shared.device}: what its card reader says is no card ({found.reason})"
                commands += self._shared.note(f"reader-{found.reason}", text, at)
        self._aligned = passed or decoder.between
        return commands

    def _server_said(self, data: bytes, at: Moment) -> list[Command]:
        self._server_spoke = at.now
        self._server_missed |= self.locum_serves
        self._from_server.receive_data(data)
        self._answers(at)
        return [] if self.locum_serves else self._reader.send(data)

    def _answers(self, at: Moment) -> None:
        while (answer := self._from_server.next_event()) is not None:
            self._online.answered(answer, at)

    # Time

    def _tick(self, at: Moment) -> list[Command]:
        if at.now - self._server_spoke >= WHOLE_AFTER:
            self._from_server.pause()
            self._answers(at)
        commands, unserved = self._online.tick(at)
        if unserved:
            self._server.forget()  # a card of a while ago must not let anybody in when the server is there
        if unserved and not (self._server.open and self._shared.state.relays):
            commands += self._say(Verdict.UNAVAILABLE)
        commands += self._review(at) + self._idle(at) + self._shared.followed(at) + self._dial(at)
        quiet = at.now - max(self._reader_spoke, self._server_spoke) > LINE_WITHIN
        if quiet and self._online.empty and self._offline.idle and not commands:
            self._rests_until = at.now + LOOKS_EVERY
        return commands

    def _idle(self, at: Moment) -> list[Command]:
        """A session ends when nobody has swiped and no meter has moved for long enough."""
        session = self._shared.session
        if session is not self._active_in:
            self._active_in, self._active = session, at.now
        if session is None:
            return []
        moved = self._metered.moved_at(session.session)
        self._active = max(self._active, moved if moved is not None else self._active)
        if at.now - self._active < self.settings.session_idle:
            return []
        return self._shared.end("silence", at) + (self._say(0) if self.locum_serves else [])

    # Who serves

    def _review(self, at: Moment) -> list[Command]:
        if self._shared.serves:
            return [] if self.locum_serves else self._take_over(at)
        line_open = not self._from_reader.between and at.now - self._reader_spoke < LINE_WITHIN
        if not self.locum_serves or self._is_ours or line_open or not self._offline.idle:
            return []
        return self._hand_back(at)

    @property
    def _is_ours(self) -> bool:
        """Whether a session is open that Locum granted."""
        session = self._shared.session
        return session is not None and session.mode is not Mode.ONLINE

    def _take_over(self, at: Moment) -> list[Command]:
        """Locum serves from now on; cards that the server has not answered are decided at once."""
        self.locum_serves = True
        self._server_missed |= self._server.open and not self._from_reader.between
        commands, swipes = self._online.taken_over(at)
        self._server.forget()
        self._reader.forget()
        commands += self._reader.say(cardreader.GREETING)
        for swipe in swipes:
            commands += self._offline.swiped(swipe, at)
        return commands

    def _hand_back(self, at: Moment) -> list[Command]:
        self.locum_serves, self._aligned = False, self._from_reader.between
        commands = self._server.close() if self._server_missed else []
        self._server_missed = False
        self._dialled.hasten()
        return commands + self._say(0) + self._dial(at)

    def _pass_on(self, swipe: Swipe, at: Moment) -> list[Command]:
        """A card that Locum was given, when it is the server's to decide again."""
        commands = self._hand_back(at) if self.locum_serves else []
        return commands + self._server.send(_line(swipe)) + self._online.swiped(swipe, at)

    # What is said

    def _say(self, what: Verdict | int) -> list[Command]:
        """Tell the reader: let in, not let in, or so many beeps; none: ready."""
        rfideas = self.settings.rfideas
        if rfideas is None:
            rfideas = self._from_reader.is_rfideas or self._from_server.is_rfideas
        if what is Verdict.GRANT:
            return self._reader.say(cardreader.granted(rfideas=rfideas))
        if isinstance(what, Verdict):
            return self._reader.say(cardreader.refused(rfideas=rfideas))
        beeps = cardreader.beeps(what, rfideas=rfideas) if what else b""
        return self._reader.say(beeps + cardreader.ready(rfideas=rfideas))

    def _show_server(self, swipe: Swipe) -> list[Command]:
        return self._server.say(_line(swipe))


def _line(swipe: Swipe) -> bytes:
    return swipe.text.encode("ascii") + b"\n"
