"""What the running appliance does to stand in line, beside its flows: it beats, and on a bridge it answers for servers
that are gone, and for copiers that are off while it speaks as them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from appliance.config import Config, InlineConfig, ListenConfig, RadiusListenConfig, ReaderConfig
from appliance.inline.bypass import Bypass
from appliance.inline.diverted import EVERYWHERE
from appliance.inline.pulse import Pulse
from proxy.commands import Side
from proxy.events import Moment
from proxy.neighbours import Guarded, Neighbours
from proxy.net.driver import Driver
from proxy.presence import REMEMBERED
from proxy.upstream import Upstream
from storage.reader import Reader


class Working:
    """`reader`: of what the ledger remembers. Raises OSError, with words, if the kernel does not allow it."""

    def __init__(self, config: Config, inline: InlineConfig, driver: Driver, reader: Reader) -> None:
        self._bypass = Bypass(config.state_dir, Pulse(inline.mode))
        self._driver = driver
        self._upstreams: list[Upstream] = []
        self._neighbours: Neighbours | None = None
        if inline.mode == "bridge":
            self._neighbours = Neighbours(reader.memory, reader.memories(REMEMBERED), driver.spoken_as)
            driver.open_lessons()
            driver.open_packets(Side.COPIERS, inline.copier_side, self._neighbours)
            driver.open_packets(Side.SERVERS, inline.server_side, self._neighbours)

    @property
    def flows(self) -> list[Any]:
        """Those that are to be told of time."""
        return [self._neighbours] if self._neighbours is not None else []

    def beats(self, at: Moment) -> None:
        """Reactor, writer and data path have gone round once more."""
        self._driver.run(self._bypass.beats(at))
        if self._bypass.everything_passes:
            for upstream in self._upstreams:
                upstream.passed_by(at)

    def guard(
        self, config: Config, upstreams: Mapping[str, Upstream], addresses_of: Callable[[str], Sequence[str]]
    ) -> None:
        """These servers are answered for from now on, when they are gone; `addresses_of` an upstream, as known now."""
        self._upstreams = list(upstreams.values())
        if self._neighbours is not None:
            guarded = [
                Guarded(upstreams[name].link, address, _clients(listen, ip_address(address).version))
                for listen in config.listens
                if not isinstance(listen, ReaderConfig)
                for name in dict.fromkeys((listen.upstream, listen.records_to))
                for address in addresses_of(name)
            ]
            self._driver.run(self._neighbours.configure(guarded))


def _clients(listen: ListenConfig, version: int) -> tuple[IPv4Network | IPv6Network, ...]:
    if isinstance(listen, RadiusListenConfig):
        return tuple(client.network for client in listen.clients)
    return (ip_network(EVERYWHERE[version]),)
