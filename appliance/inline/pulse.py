"""The beats by which the kernel knows that the appliance works: without one for a second it diverts nothing.

One datagram a family to the loopback interface, marked; the rules see and drop it (`rules.py`). What makes a beat due
is `appliance.heartbeat`'s to say. Where IPv6 is switched off there is none of it.
"""

from __future__ import annotations

import socket
from contextlib import suppress

from appliance.inline.rules import BEAT_PORT, BEATS_TO
from proxy.net.transparent import MARK

_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class Pulse:
    """Raises OSError (EPERM) if this process may not mark packets: it needs CAP_NET_ADMIN."""

    def __init__(self) -> None:
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

    def beat(self) -> None:
        for made, to in self._sockets:
            with suppress(OSError):
                made.sendto(b"", to)

    def close(self) -> None:
        for made, _ in self._sockets:
            made.close()
        self._sockets.clear()
