"""The addresses of one server, in the order of the config, and which of them is in use.

The first that answers is used until it fails; another that answers then takes its place. What is known of contact with
each is the dialect's to keep. (RADIUS has two ports an address, each with a life of its own: its own `hosts.py`.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from proxy.commands import Source
from proxy.lender import same_version


class Addressed(Protocol):
    address: str


class Host(Addressed, Protocol):
    """One address of a server."""

    failed: bool


A = TypeVar("A", bound=Addressed)
H = TypeVar("H", bound=Host)


class Hosts(Generic[H]):
    """Empty until the server's name was resolved; `used` wants at least one address."""

    def __init__(self) -> None:
        self._all: list[H] = []
        self._used: H | None = None

    def __iter__(self) -> Iterator[H]:
        return iter(self._all)

    def __bool__(self) -> bool:
        return bool(self._all)

    def replace(self, hosts: Sequence[H]) -> None:
        """These from now on. The one that was in use stays so, if it is among them."""
        self._all = list(hosts)
        if self._used not in self._all:
            self._used = self._all[0] if self._all else None

    @property
    def used(self) -> H:
        if self._used is None:
            raise LookupError("no address is known")
        return self._used

    def use(self, host: H) -> None:
        self._used = host

    def towards(self, source: Source | None) -> H:
        """The one to speak to from here: the one in use, or where that is of another IP version, one of this."""
        return self.used if source is None else nearest(source, self.used, self._all, lambda host: host.failed)

    def at(self, address: str) -> H | None:
        """The host with this address; None if it is not used any more."""
        return next((host for host in self._all if host.address == address), None)

    def alive(self) -> list[H]:
        """Those that have not failed, as far as is known."""
        return [host for host in self._all if not host.failed]


def nearest(source: Source, used: A, every: Sequence[A], failed: Callable[[A], bool]) -> A:
    """`used` if it can be spoken to from `source`; else another that can, one that has not failed if there is one."""
    if same_version(used.address, source.address):
        return used
    others = [host for host in every if same_version(host.address, source.address)]
    return next((host for host in others if not failed(host)), others[0] if others else used)
