"""What a dialect brings: its upstream, its listener, and how they take over another configuration.

Locum's own three are in this package. Another distribution adds one through the entry-point group `locum.dialects`: the
entry point names an object with the methods of `Dialect`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from appliance.config import Config, ListenConfig, UpstreamConfig
from proxy.commands import Command, Tls
from proxy.events import Channel, Flow, Moment
from proxy.link import Link
from proxy.metering import Metered, NoMeters
from proxy.site import Site
from proxy.tally import Tally
from proxy.upstream import Subscriber, Upstream


@dataclass(frozen=True, slots=True)
class Port:
    """Where a listener is to be reached: a datagram port, or with `stream` a TCP port (`tls`: over TLS). `own_address`:
    at an address of this machine also where Locum stands in line.
    """

    channel: Channel
    address: str
    number: int
    stream: bool = False
    tls: Tls | None = None
    own_address: bool = False

    def __str__(self) -> str:
        return f"{self.address} port {self.number} ({'TCP' if self.stream else 'UDP'})"


def _nothing(at: Moment) -> list[Command]:
    return []


@dataclass(frozen=True, slots=True)
class Listening:
    """A listener of one `[[listen]]`: its flow, its ports, whose state it follows and with what, and what is to be done
    when it ends.
    """

    flow: Flow
    ports: tuple[Port, ...]
    upstream: Upstream
    subscriber: Subscriber
    stop: Callable[[Moment], list[Command]] = _nothing


@dataclass(slots=True)
class Parts:
    """What dialects are given to build with. `memories`: what follows a prefix in the keys of remembered facts;
    `memory`: the value of one; `hash_of`: the hash of a ledger entry; `key` is this installation's own and secret.
    `metered`: the page meters of a copier, by its device and the upstream that takes its jobs.
    """

    config: Config
    site: Site
    tally: Tally
    upstreams: Mapping[str, Upstream]
    memories: Callable[[str], list[str]]
    memory: Callable[[str], str | None]
    hash_of: Callable[[int], bytes | None]
    key: bytes = field(repr=False)
    proxy_state: bytes = b""
    metered: Callable[[str, Upstream], Metered] = lambda device, records_to: NoMeters()

    def fingerprint(self, told: bytes) -> str:
        """A name for (address, secret, ...) that gives nothing away: a ledger may leave the house."""
        return hmac.new(self.key, told, hashlib.sha256).hexdigest()[:32]


class Dialect(Protocol):
    """One wire protocol. `repeats_are_known`: the server recognises a record that it is sent twice."""

    name: str
    repeats_are_known: bool

    def new_upstream(self, upstream: UpstreamConfig, link: Link, parts: Parts, at: Moment) -> Upstream:
        """The upstream's flow, without any address yet."""

    def configure(self, flow: Upstream, upstream: UpstreamConfig, parts: Parts, at: Moment) -> list[Command]:
        """A reload: take over what has changed."""

    def channel_of(self, listen: ListenConfig) -> Channel:
        """What a listener is known by: what it binds and where it leads. Another of these is another listener."""

    def new_listener(self, listen: ListenConfig, parts: Parts) -> Listening:
        """A listener, which is then its upstream's subscriber."""

    def configure_listener(self, listening: Listening, listen: ListenConfig, parts: Parts) -> None:
        """A reload: take over what has changed."""
