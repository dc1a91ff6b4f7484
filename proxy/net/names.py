"""Names of servers, resolved ahead and remembered: DNS often dies with the link.

Names are resolved in the reactor's threads, again every five minutes, and every ten seconds while that fails. The last
good answer stays in force until there is another.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from twisted.internet.threads import deferToThreadPool

AGAIN = 300.0
AGAIN_AFTER_FAILURE = 10.0


def is_numeric(name: str) -> bool:
    """Whether it is an IP address and no name."""
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def look_up(name: str) -> list[str]:
    """The addresses of a name, in the resolver's order. Blocks; raises OSError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Names:
    """Keeps names resolved. `changed(name, addresses)` is called with every answer, `failed(name, why)` without one."""

    def __init__(
        self, reactor: Any, changed: Callable[[str, list[str]], None], failed: Callable[[str, str], None]
    ) -> None:
        self._reactor = reactor
        self._changed = changed
        self._failed = failed
        self._due: dict[str, float] = {}

    def watch(self, names: set[str]) -> None:
        """Keep exactly these names resolved."""
        self._due = {name: self._due.get(name, 0.0) for name in names}

    def tick(self, now: float) -> None:
        """Resolve what is due. `now`: monotonic seconds."""
        for name in [name for name, due in self._due.items() if now >= due]:
            self._due[name] = now + AGAIN
            looking = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), look_up, name)
            looking.addCallbacks(self._found, self._not_found, callbackArgs=(name,), errbackArgs=(name, now))

    def _found(self, addresses: list[str], name: str) -> None:
        if name in self._due:
            self._changed(name, addresses)

    def _not_found(self, failure: Any, name: str, asked: float) -> None:
        failure.trap(OSError)
        if name in self._due:
            self._due[name] = asked + AGAIN_AFTER_FAILURE
            self._failed(name, str(failure.value.strerror or failure.value))
