"""What the Locum that works on the state directory now says of itself: its ports, and how it stands with the disk.

Asked over the control socket. An older one does not know the question about its ports.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.client import ClientError, ask, is_running


@dataclass(frozen=True, slots=True)
class Place:
    """A port on an address of this machine; `kind` is udp or tcp."""

    address: str
    port: int
    kind: str

    def takes(self, other: Place) -> bool:
        """Whether nobody can listen there while this is listened on."""
        if (self.port, self.kind) != (other.port, other.kind):
            return False
        return self.address == other.address or _is_any(self.address) or _is_any(other.address)


@dataclass(frozen=True, slots=True)
class Running:
    """A Locum that runs. `listens`: its own ports, None if it did not say. `level`: how full it takes the disk to be (a
    level of `storage.space` in small letters); `storing_fails`: why; `silent`: why it said nothing at all; each "" if
    there is nothing to say.
    """

    listens: tuple[Place, ...] | None = None
    level: str = ""
    storing_fails: str = ""
    silent: str = ""

    def holds(self, place: Place) -> bool | None:
        """Whether it listens there, so that nobody else can; None: it did not say."""
        return None if self.listens is None else any(own.takes(place) for own in self.listens)


def running_on(state_dir: Path) -> Running | None:
    """The Locum that answers on the control socket in `state_dir`; None if nobody listens there."""
    if not is_running(state_dir):
        return None
    try:
        status = ask(state_dir, "status")
    except ClientError as problem:
        return Running(silent=str(problem))
    try:
        listens = _places(ask(state_dir, "listeners"))
    except ClientError:
        listens = None
    storage = (status.get("storage") if isinstance(status, dict) else None) or {}
    return Running(listens, str(storage.get("level") or ""), str(storage.get("error") or ""))


def _places(told: Any) -> tuple[Place, ...] | None:
    if not isinstance(told, Iterable):
        return None
    try:
        return tuple(Place(str(each["address"]), int(each["port"]), str(each["kind"])) for each in told)
    except (KeyError, TypeError, ValueError):
        return None


def _is_any(address: str) -> bool:
    return address in ("0.0.0.0", "::")
