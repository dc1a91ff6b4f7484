"""In line, whose address Locum borrows for what it must ask a server itself: that of the device that was heard last.

The server knows its copiers and must not see anybody else. Probes, calls to a PaperCut server and the connections that
forward terminals' records go out from such an address, with any port; before a first device was heard nothing does. It
is remembered, so that a restart need not wait for a device. IPv4 and IPv6 each have their own; an address with a zone
(RFC 4007) is never lent, for it says nothing on the other side.
"""

from __future__ import annotations

from proxy.commands import Command, Keep, Source
from proxy.events import Moment
from storage.records import Remember

REMEMBER_EVERY = 60.0


class Lender:
    """The lender of one upstream. `remembered`: what was last kept under each of `keys`, in that order."""

    def __init__(self, upstream: str, remembered: tuple[str, ...] = ()) -> None:
        self._upstream = upstream
        self._kept = dict(zip((False, True), remembered, strict=False))
        self._heard = {v6: address for v6, address in self._kept.items() if address}
        self._keep_again = {False: float("-inf"), True: float("-inf")}

    def heard(self, address: str, at: Moment) -> list[Command]:
        """A device of this upstream has spoken from this address; gives what is to be remembered, once a minute."""
        if "%" in address:
            return []
        v6 = _is_v6(address)
        self._heard[v6] = address
        if self._kept.get(v6) == address or at.now < self._keep_again[v6]:
            return []
        self._kept[v6], self._keep_again[v6] = address, at.now + REMEMBER_EVERY
        return [Keep(Remember(keys(self._upstream)[v6], address), wait=False)]

    def towards(self, server: str) -> Source | None:
        """As whom to speak to this address (numeric); None while nobody was heard that could have spoken to it."""
        address = self._heard.get(_is_v6(server))
        return None if address is None else Source(address)


def same_version(one: str, other: str) -> bool:
    """Whether both addresses (numeric) are of IPv4, or both of IPv6: else neither can speak to the other."""
    return _is_v6(one) == _is_v6(other)


def keys(upstream: str) -> tuple[str, str]:
    """Under which the addresses are remembered: that of IPv4, that of IPv6."""
    return f"lender:{upstream}:4", f"lender:{upstream}:6"


def _is_v6(address: str) -> bool:
    return ":" in address
