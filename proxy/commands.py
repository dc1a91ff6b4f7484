"""What flows ask for, in the imperative. The driver runs them in order.

Commit before send: what must not happen before something is on stable storage stands in that `Keep`'s `then`, or is
given in answer to `Kept`. The driver runs neither earlier, and neither at all where it could not be stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from storage.records import NOBODY, Keepable, Personal

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
    """Send a datagram, or the next piece of a stream, on `channel`; `peer` None means the other end that the channel
    was opened to. What is sent on a channel that is closed goes nowhere.
    """

    channel: Channel
    data: bytes
    peer: Peer | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Whom the other end is to see, in line: a device's address, and its port; 0: any."""

    address: str
    port: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """Open a datagram channel to one address; `owner` is told what comes in. `source` None: as this machine. `largest`:
    octets of a datagram that are read.
    """

    channel: Channel
    owner: Flow
    address: str
    port: int
    source: Source | None = None
    largest: int = 4097


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS for one end of a stream, in PEM. `name`: the server's name, which its certificate must have ("" at a server).

    `ca`: whom the other side's certificate must be signed by; empty: the system's at a client, no certificate wanted at
    a server. `certificate` (a chain) and `key`: shown to the other side, empty: none.
    """

    name: str = ""
    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a stream to one address; `owner` is told `Connected`, `Received`, `Closed`. `timeout`: seconds, TLS
    handshake included. `source` None: as this machine.
    """

    channel: Channel
    owner: Flow
    address: str
    port: int
    timeout: float
    tls: Tls | None = None
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """Close a channel; what still comes in on it is nobody's, and its owner is not told `Closed`.

    A stream first sends what it was given, for at most a few seconds; with `abort` it is reset at once.
    """

    channel: Channel
    abort: bool = False


@dataclass(frozen=True, slots=True)
class Verify:
    """Compare a code with its Argon2id hash, off the reactor's thread, one at a time; `owner` is told `Verified`."""

    code: str
    hash: str
    owner: Flow
    token: object


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the admin: a line in the log, and (from warning on, or where `keep` says so) in App.Log.

    `personal` (a card number) goes into App.Log's personal part only, never into the log. `alarm`: the kind of alarm
    that leaves the box with it: outage, recovery, refused, in-doubt, wrong-codes, disk, unproven, unlock, drill,
    limit, server, checkpoint; "" for none.
    """

    level: str
    text: str
    context: dict[str, str | int] = field(default_factory=dict)
    keep: bool = True
    personal: Personal = NOBODY
    alarm: str = ""


class Side(StrEnum):
    """Where a frame comes from or goes to, in line."""

    COPIERS = "copiers"
    SERVERS = "servers"


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Send an Ethernet frame as it is, to one side only."""

    side: Side
    data: bytes


@dataclass(frozen=True, slots=True)
class TeachRules:
    """Show this frame to the kernel's rules alone, on the loopback interface: they learn whose MAC address it has."""

    data: bytes


@dataclass(frozen=True, slots=True)
class WatchFrames:
    """Tell the flow of this side's frames: those of ARP and neighbour discovery that are from or about `addresses`
    (4 or 16 octets each) and those from or to the MAC addresses `partners`; all from the MAC addresses `stations`; and
    all IP packets from the addresses `senders`. Replaces what was watched before.
    """

    side: Side
    addresses: frozenset[bytes]
    stations: frozenset[bytes] = frozenset()
    senders: frozenset[bytes] = frozenset()
    partners: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class ReadMeters:
    """Read these objects of a device's SNMP agent, and the columns in `walks` whole; `owner` is told `MetersRead` or
    `MetersUnread`. One at a time for each device.
    """

    device: str
    owner: Flow
    token: object
    oids: tuple[str, ...]
    walks: tuple[str, ...] = ()


Command = Keep | Send | Open | Connect | Close | Verify | Tell | SendFrame | TeachRules | WatchFrames | ReadMeters
