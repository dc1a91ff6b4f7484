"""Says to systemd how the service is: ready, reloading, alive, stopping. Elsewhere nobody is told anything.

A datagram of lines to the socket that NOTIFY_SOCKET names, sd_notify(3). Nothing here waits or fails: a message that
does not arrive is what systemd is to act on.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

FEED_EVERY = 1.0
"""Seconds between two words of life, far more often than WatchdogSec in the unit needs."""


class Supervisor:
    """`address`: the path of a Unix socket, or "@" and the name of an abstract one; "" for nobody."""

    def __init__(self, address: str | None = None) -> None:
        told = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = f"\0{told[1:]}" if told.startswith("@") else told
        self._fed = float("-inf")

    def ready(self) -> None:
        """The service works, or works again after a reload."""
        self._say("READY=1")

    def reloading(self, now: float) -> None:
        """`now`: monotonic seconds."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={int(now * 1_000_000)}")

    def alive(self, now: float) -> None:
        """Feed the watchdog; more often than every second is left out."""
        if now - self._fed >= FEED_EVERY:
            self._fed = now
            self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """From now on the service only finishes what it had begun."""
        self._say("STOPPING=1")

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.setblocking(False)
            to.sendto("\n".join(lines).encode(), self._address)
