"""Lines: what the listener and a terminal server as upstream have to do with each other.

For every device Locum has a connection of its own to the server, repeats the device's HELLO there and relays frame by
frame; such a connection is the device's line. The listener asks with the device's own frames; the server's replies come
back under the token that the listener gave.
"""

from __future__ import annotations

from typing import Protocol

from protocols.terminal.frames import Frame
from proxy.commands import Command, Source
from proxy.events import Moment
from storage.answers import OutboxItem


class LineOwner(Protocol):
    """The listener that a device's connection belongs to."""

    def replied(self, device: str, token: object, reply: Frame, at: Moment) -> list[Command]:
        """The server's reply to a relayed request, in time or late. An ERROR is a reply too."""

    def not_relayed(self, device: str, token: object, why: str, at: Moment) -> list[Command]:
        """The server will not reply to this request: the line is down or was lost. Told once, at most."""


class Lines(Protocol):
    """What a terminal server as upstream offers to a listener. `device` is the device's id."""

    def open_line(
        self, device: str, hello: Frame, owner: LineOwner, at: Moment, source: Source | None = None
    ) -> list[Command]:
        """A device said HELLO: have a line for it while the server is there, and open it again whenever it is lost.

        `source` is where the device's own connection comes from, and in line the line's too.
        """

    def close_line(self, device: str, at: Moment) -> list[Command]:
        """The device's connection has ended."""

    def relay(self, device: str, request: Frame, token: object, at: Moment) -> list[Command]:
        """Send the device's request to the server as it came; what is asked before the line is open waits for it.

        The server's sequence is the device's own. The reply is told to the owner.
        """

    def relay_job(self, device: str, request: Frame, item: OutboxItem, token: object, at: Moment) -> list[Command]:
        """The same for a JOB that was kept as sent (`Upstream.adopt` has counted it as in flight): the upstream settles
        the record (`delivered`, `refused`, or waiting again, to go as RECORD) and tells the owner the reply.
        """
