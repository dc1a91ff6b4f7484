"""The addresses of one PaperCut server: what is known of contact with each, and which one is in use.

The first that answers is used until it fails; another that answers then takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxy.contact import Contact, Steadiness


class Host:
    """One address. `strange`: in words, what it last answered that proves nothing; "" since it was heard."""

    def __init__(self, address: str, fingerprint: str, timeout: float, recover_after: int) -> None:
        self.address = address
        self.fingerprint = fingerprint
        self.contact = Contact(timeout)
        self.steadiness = Steadiness(recover_after)
        self.failed = False
        self.probe_now = False
        self.strange = ""


class Hosts:
    """In the order of the config. Empty until the server's name was resolved; `used` wants at least one address."""

    def __init__(self) -> None:
        self._all: list[Host] = []
        self._used: Host | None = None

    def __iter__(self) -> Iterator[Host]:
        return iter(self._all)

    def __bool__(self) -> bool:
        return bool(self._all)

    def replace(self, hosts: Sequence[Host]) -> None:
        """These from now on. One that was in use stays so, if it is among them."""
        self._all = list(hosts)
        if self._used not in self._all:
            self._used = self._all[0] if self._all else None

    @property
    def used(self) -> Host:
        if self._used is None:
            raise LookupError("no address is known")
        return self._used

    def use(self, host: Host) -> None:
        self._used = host

    def at(self, address: str) -> Host | None:
        return next((host for host in self._all if host.address == address), None)
