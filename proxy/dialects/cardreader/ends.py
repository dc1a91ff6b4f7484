"""The two ends of a reader's line: the reader and its server. One of them connects to Locum, the other one Locum dials.

What comes for an end that is not connected yet is held for it, up to `MOST_HELD` bytes. Dialling again pauses longer
and longer, from half a second to half a minute.
"""

from __future__ import annotations

from proxy.commands import Close, Command, Connect, Send
from proxy.events import Channel, Flow

MOST_HELD = 4096
CONNECT_WITHIN = 3.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0


class End:
    """One end. `channel`: that of its connection, or of the one being made; None: there is none."""

    def __init__(self) -> None:
        self.channel: Channel | None = None
        self.open = False
        self._held = b""

    def send(self, data: bytes) -> list[Command]:
        """Send it now, or hold it until this end is there; what is too much is dropped."""
        if self.open and self.channel is not None:
            return [Send(self.channel, data)]
        if len(self._held) + len(data) <= MOST_HELD:
            self._held += data
        return []

    def say(self, data: bytes) -> list[Command]:
        """Send it, if this end is there: it is nothing for later."""
        return [Send(self.channel, data)] if self.open and self.channel is not None else []

    def opened(self, channel: Channel) -> list[Command]:
        """It is connected; what was held for it leaves."""
        self.channel, self.open = channel, True
        held, self._held = self._held, b""
        return [Send(channel, held)] if held else []

    def forget(self) -> None:
        """What is held for it is of no more use."""
        self._held = b""

    def lost(self) -> None:
        """Its connection has ended, or did not come to be."""
        self.channel, self.open = None, False

    def close(self, *, abort: bool = False) -> list[Command]:
        """End its connection, if there is one."""
        channel = self.channel
        self.lost()
        return [] if channel is None else [Close(channel, abort)]


class DialledEnd(End):
    """The end that Locum connects to. `failed`: the last try came to nothing."""

    def __init__(self, flow: Flow, channel: Channel) -> None:
        super().__init__()
        self.failed = False
        self._flow = flow
        self._about = channel
        self._dials = 0
        self._pause = FIRST_PAUSE
        self._next = float("-inf")

    def hasten(self) -> None:
        """Do not wait for the end of the pause."""
        self._pause, self._next = FIRST_PAUSE, float("-inf")

    def dial(self, address: str, port: int, now: float) -> list[Command]:
        """Connect, if there is no connection and the pause is over."""
        if self.channel is not None or now < self._next:
            return []
        self._dials += 1
        self.channel = (*self._about, "out", self._dials)
        return [Connect(self.channel, self._flow, address, port, CONNECT_WITHIN)]

    def opened(self, channel: Channel) -> list[Command]:
        self.failed, self._pause = False, FIRST_PAUSE
        return super().opened(channel)

    def gone(self, now: float) -> None:
        """The connection has ended, or could not be made."""
        self.failed = self.failed or not self.open
        self._next = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self.lost()
