"""What flows ask for, in the imperative. The driver runs them in order.

Commit before send: what must not happen before something is on stable storage stands in that `Keep`'s `then`, or is
given in answer to `Kept`. The driver runs neither earlier, and neither at all where it could not be stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storage.records import Keepable

if TYPE_CHECKING:
    from proxy.events import Channel, Flow, Peer


@dataclass(frozen=True, slots=True)
class Keep:
    """Put `change` on stable storage; run `then` when it is there, and only then.

    With a `token`, `owner` is told `Kept` with the outcome, or `NotKept`. `wait` False: nobody waits for this one, and
    the writer may gather such changes for some tens of milliseconds.
    """

    change: Keepable
    owner: Flow | None = None
    token: object = None
    wait: bool = True
    then: tuple[Command, ...] = ()


@dataclass(frozen=True, slots=True)
class Send:
    """Send a datagram on `channel`; `peer` None means the address that the channel was opened to."""

    channel: Channel
    data: bytes
    peer: Peer | None = None


@dataclass(frozen=True, slots=True)
class Open:
    """Open a datagram channel to one address; `owner` is told what comes in."""

    channel: Channel
    owner: Flow
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Close:
    """Close a channel; what still comes in on it is nobody's."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the admin: a line in the log, and (from warning on, or where `keep` says so) in App.Log."""

    level: str
    text: str
    context: dict[str, str | int] = field(default_factory=dict)
    keep: bool = True


Command = Keep | Send | Open | Close | Tell
