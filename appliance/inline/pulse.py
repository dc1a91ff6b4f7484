"""The beats by which the kernel knows that the appliance works: without one for a second it diverts nothing.

One datagram a family to the loopback interface, marked; the rules see and drop it (`rules.py`). Where they are gone it
is refused, for nobody listens there: so a beat tells whether there is anything that diverts. None is sent while routing
rules are missing: what is diverted would go nowhere. What makes a beat due is `appliance.heartbeat`'s to say. Where
IPv6 is switched off there is none of it.
"""

from __future__ import annotations

import errno
import socket

from appliance.inline.policy import leads_here
from appliance.inline.rules import BEAT_PORT, BEATS_TO
from proxy.net.transparent import MARK

_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class Pulse:
    """`mode`: that of [inline]. Raises OSError (EPERM) if this process may not mark packets: it needs CAP_NET_ADMIN."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._sockets: list[tuple[socket.socket, tuple[str, int]]] = []
        for version, family in _FAMILY.items():
            try:
                made = socket.socket(family, socket.SOCK_DGRAM)
            except OSError:
                continue
            made.setblocking(False)
            try:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
            except OSError:
                made.close()
                self.close()
                raise
            self._sockets.append((made, (BEATS_TO[version], BEAT_PORT)))

    def beat(self) -> bool:
        """Whether the rules took it, as far as can be told."""
        versions = {4 if made.family == socket.AF_INET else 6 for made, _ in self._sockets}
        if not all(leads_here(version, self._mode) for version in versions):
            return False
        taken = [_taken(made, to) for made, to in self._sockets]
        return all(taken)

    def close(self) -> None:
        for made, _ in self._sockets:
            made.close()
        self._sockets.clear()


def _taken(made: socket.socket, to: tuple[str, int]) -> bool:
    """A refusal is there when the datagram has been sent, or, on a busy machine, before the next one is."""
    try:
        made.connect(to)
        made.send(b"")
    except OSError as error:
        return error.errno != errno.ECONNREFUSED
    return made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != errno.ECONNREFUSED
