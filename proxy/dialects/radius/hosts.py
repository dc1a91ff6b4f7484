"""The addresses of one RADIUS server, in the order of the config, and which of them is in use for each of its two
ports.

The first that answers is used until it fails; another that answers then takes its place. What a failure is, `Contact`
says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxy.commands import Source
from proxy.dialects.radius.host import ACCT, AUTH, Host, Port
from proxy.events import Channel
from proxy.hosts import nearest


class Hosts:
    """Empty until the server's name was resolved; `used` and `towards` want at least one address."""

    def __init__(self) -> None:
        self._all: list[Host] = []
        self._used: dict[str, Host] = {}

    def __iter__(self) -> Iterator[Host]:
        return iter(self._all)

    def __bool__(self) -> bool:
        return bool(self._all)

    def replace(self, hosts: Sequence[Host]) -> None:
        """These from now on. One that was in use stays so, if it is among them."""
        self._all = list(hosts)
        self._used = {
            role: self._used[role] if self._used.get(role) in self._all else self._all[0]
            for role in (AUTH, ACCT)
            if self._all
        }

    def used(self, role: str) -> Host:
        """The address in use for this port."""
        return self._used[role]

    def use(self, role: str, host: Host) -> None:
        self._used[role] = host

    def towards(self, role: str, source: Source | None) -> Port:
        """The port to send to from here: the one in use, or where that is of another IP version, one of this."""
        used = self._used[role]
        host = used if source is None else nearest(source, used, self._all, lambda each: each.ports[role].failed)
        return host.ports[role]

    def alive(self, role: str) -> list[Host]:
        """Those whose port has not failed, as far as is known."""
        return [host for host in self._all if not host.ports[role].failed]

    def behind(self, channel: Channel) -> tuple[Host, Port] | None:
        """The address and port that a channel leads to; None if it is not used any more."""
        for host in self._all:
            if host.address == channel[1]:
                return host, host.ports[str(channel[2])]
        return None
