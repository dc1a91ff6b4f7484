"""The heartbeat: that the appliance works, and not only that its process is there.

A round goes through all that a login or a record takes. It begins at a tick of the reactor. The writer's thread gets
an empty batch, which leaves nothing in the ledger; a datagram with random bytes goes to a port of our own on the
loopback interface, and comes back by the kernel, the reactor and the driver to a flow. When both have answered, the
next tick is a beat. systemd's watchdog and, in line, the kernel's dead man's switch live on beats.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from appliance.keeper import Keeper
from proxy.commands import Command
from proxy.events import Event, Moment, Peer, Received
from proxy.net.driver import Driver, this_moment
from proxy.net.udp import DevicePort

CHANNEL = ("heartbeat",)
LOOPBACK = "127.0.0.1"
TOKEN = 16
ASK_AGAIN = 1.0


class Heartbeat:
    """Which rounds have ended. A round begins `every` seconds at the earliest; 0.0: as soon as the last has ended.

    Times are monotonic seconds.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._began = self._asked = self._writer = self._path = float("-inf")
        self._open = False

    def ticked(self, at: float) -> bool:
        """The reactor goes round; whether writer and data path are to be asked now, for a new round or once more."""
        if not self._open and at - self._began >= self._every:
            self._open, self._began = True, at
        elif not self._open or at - self._asked < ASK_AGAIN:
            return False
        self._asked = at
        return True

    def writer_answered(self, at: float) -> None:
        """The writer's thread has ended a batch at `at`."""
        self._writer = max(self._writer, at)

    def path_answered(self, at: float) -> None:
        """What was sent in this round has come back to a flow at `at`."""
        self._path = max(self._path, at)

    def beat(self) -> bool:
        """Whether a whole round has ended; True once a round."""
        if not self._open or min(self._writer, self._path) < self._began:
            return False
        self._open = False
        return True


class Rounds:
    """Sends the heartbeat round. A flow: what was sent comes back to it."""

    def __init__(self, reactor: Any, driver: Driver, keeper: Keeper, every: float) -> None:
        self.heart = Heartbeat(every)
        self._driver = driver
        self._keeper = keeper
        self._reactor = reactor
        self._port: DevicePort | None = None
        self._own: Peer = ("", 0, "")
        self._token = b""

    def open(self) -> None:
        """Open our port on the loopback interface. Raises OSError."""
        self._port = DevicePort(self._reactor, LOOPBACK, 0, self._came)
        with socket.socket(fileno=os.dup(self._port.fileno())) as same:
            self._own = (LOOPBACK, same.getsockname()[1], "")
        self._port.start()

    def tick(self, at: Moment) -> bool:
        """To be called at each tick; whether it is a beat."""
        self.heart.writer_answered(self._keeper.answered)
        beat = self.heart.beat()
        if self._port is not None and self.heart.ticked(at.now):
            self._token = at.random(TOKEN, "heartbeat")
            self._driver.writer.look()
            self._port.send(self._token, self._own)
        return beat

    def handle(self, event: Event) -> list[Command]:
        """What came back counts only if it is what was sent last."""
        if isinstance(event, Received) and event.data == self._token:
            self.heart.path_answered(event.at.now)
        return []

    def close(self) -> None:
        """Close the port; no beat comes afterwards."""
        if self._port is not None:
            self._port.close()
            self._port = None

    def _came(self, data: bytes, peer: Peer) -> None:
        self._driver.dispatch(self, Received(CHANNEL, peer, data, this_moment()))
