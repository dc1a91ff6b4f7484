"""Notices a connection on which nothing has come for a while, with one timer that is not moved at every byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Silence:
    """Calls `fell_silent` once nothing was `heard` for `limit` seconds, and again for each such time until `stop`."""

    def __init__(self, reactor: Any, limit: float, fell_silent: Callable[[], None]) -> None:
        self._reactor = reactor
        self._limit = limit
        self._fell_silent = fell_silent
        self._last = reactor.seconds()
        self._timer = reactor.callLater(limit, self._look)

    def heard(self) -> None:
        """Something came."""
        self._last = self._reactor.seconds()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _look(self) -> None:
        left = self._last + self._limit - self._reactor.seconds()
        if left <= 0:
            self._last = self._reactor.seconds()
            left = self._limit
            self._fell_silent()
        if self._timer is not None:
            self._timer = self._reactor.callLater(left, self._look)
