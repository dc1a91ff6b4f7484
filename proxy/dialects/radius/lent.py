"""In line: source ports with devices' own addresses, towards one port of a server.

What a device asks goes out from its address and port, under its own identifier where that is free there, so the server
sees what it has always seen. What has no port of its own (forwarded records, probes) takes any of the device's address;
so does what finds all 256 identifiers of a port in use (RFC 2865 section 3). A port that has carried nothing for half a
minute is closed. At most 4,096 are open at a time: the one that was used longest ago makes room, if nothing is under
way on it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy.commands import Close, Command, Open, Source
from proxy.events import Channel, Flow

IDLE_FOR = 30.0
MOST_PORTS = 4096
MOST_ANY = 16
"""Ports of one address that are not a device's own, beside its probes'."""
IDENTIFIERS = 256

Slot = tuple[Channel, int]


@dataclass(frozen=True, slots=True)
class Sender:
    """As whom a request goes out: whose address and port (0: any), with which secret, and the identifier that it has
    there already; None: none.
    """

    source: Source
    secret: bytes
    identifier: int | None = None


@dataclass(slots=True)
class _Port:
    used: set[int] = field(default_factory=set)
    after: int = 0
    last: float = 0.0

    def take(self, wanted: int | None) -> int | None:
        """A free identifier, the wanted one if it is; None if there is none."""
        if len(self.used) >= IDENTIFIERS:
            return None
        if wanted is None or wanted in self.used:
            # In turn: a late answer to another one of the same number is to be long over.
            wanted = self.after
            while wanted in self.used:
                wanted = (wanted + 1) % IDENTIFIERS
            self.after = (wanted + 1) % IDENTIFIERS
        self.used.add(wanted)
        return wanted


class LentPorts:
    """`owner` is told what comes in; channels begin with `prefix`. `server`: address and port."""

    def __init__(self, owner: Flow, prefix: Channel, server: tuple[str, int]) -> None:
        self._owner = owner
        self._prefix = prefix
        self._server = server
        self._ports: OrderedDict[Channel, _Port] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ports)

    def take(self, sender: Sender, now: float, *, probe: bool) -> tuple[Slot | None, list[Command]]:
        """A port and an identifier for a request; None if all are under way."""
        commands: list[Command] = []
        for channel, source in self._places(sender.source, probe):
            port = self._ports.get(channel)
            if port is None:
                if not self._make_room(commands):
                    break
                port = self._ports[channel] = _Port()
                commands.append(Open(channel, self._owner, *self._server, source))
            identifier = port.take(sender.identifier)
            if identifier is not None:
                port.last = now
                self._ports.move_to_end(channel)
                return (channel, identifier), commands
        return None, commands

    def free(self, slot: Slot) -> bool:
        """The identifier may serve again; False if the port is none of these."""
        port = self._ports.get(slot[0])
        if port is not None:
            port.used.discard(slot[1])
        return port is not None

    def expire(self, now: float) -> list[Command]:
        """Close what nobody has used for a while."""
        idle: list[Channel] = []
        for channel, port in self._ports.items():
            if port.last > now - IDLE_FOR:
                break
            if not port.used:
                idle.append(channel)
        return [self._close(channel) for channel in idle]

    def close(self) -> list[Command]:
        return [self._close(channel) for channel in list(self._ports)]

    def _places(self, source: Source, probe: bool) -> Iterator[tuple[Channel, Source]]:
        begins, any_port = (*self._prefix, source.address), Source(source.address)
        if probe:
            yield (*begins, "probe"), any_port
            return
        if source.port:
            yield (*begins, source.port), source
        for number in range(MOST_ANY):
            yield (*begins, "any", number), any_port

    def _make_room(self, commands: list[Command]) -> bool:
        if len(self._ports) < MOST_PORTS:
            return True
        idle = next((channel for channel, port in self._ports.items() if not port.used), None)
        if idle is not None:
            commands.append(self._close(idle))
        return idle is not None

    def _close(self, channel: Channel) -> Close:
        del self._ports[channel]
        return Close(channel)
