"""Which traffic is Locum's: from a listener's clients, to its servers' addresses, to the listener's ports.

A PaperCut server, and any other that is written by name, is looked up when the rules are made.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from appliance.config import Config, ListenConfig, RadiusListenConfig, ReaderConfig, TerminalListenConfig

EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


class NotResolved(Exception):
    """A server's name has no address now; the text is one line."""


@dataclass(frozen=True, slots=True)
class Diverted:
    """`version`: 4 or 6. `protocol`: udp or tcp. `ports`: those that devices send to. `clients`: networks. `servers`:
    addresses. `bind`: the listener's address, "" for any.
    """

    version: int
    protocol: str
    ports: tuple[int, ...]
    clients: tuple[str, ...]
    servers: tuple[str, ...]
    bind: str = ""


def diverted(config: Config) -> list[Diverted]:
    """What is Locum's, by the configuration. Raises NotResolved."""
    found = (_of(config, listen) for listen in _in_line(config))
    return [each for each in found if each is not None]


def idle(config: Config) -> list[str]:
    """The addresses of listeners for which nothing is diverted: no client, or no server, of their IP version. Raises
    NotResolved.
    """
    return [listen.bind for listen in _in_line(config) if _of(config, listen) is None]


def _in_line(config: Config) -> Iterator[ListenConfig]:
    """Card readers are reached at Locum's own address."""
    return (listen for listen in config.listens if not isinstance(listen, ReaderConfig))


def _of(config: Config, listen: ListenConfig) -> Diverted | None:
    here = ip_address(listen.bind)
    version = here.version
    servers = tuple(each for each in servers_of(config, listen) if ip_address(each).version == version)
    clients = _clients(listen, version)
    if not servers or not clients:
        return None
    protocol, ports = _ports(listen)
    return Diverted(version, protocol, ports, clients, servers, "" if here.is_unspecified else listen.bind)


def servers_of(config: Config, listen: ListenConfig) -> list[str]:
    """The addresses of the servers behind a listener, names looked up. Raises NotResolved."""
    wanted = {listen.upstream, listen.records_to}
    written = [each for upstream in config.upstreams if upstream.name in wanted for each in upstream.addresses]
    return list(dict.fromkeys(address for name in written for address in _looked_up(name)))


def _looked_up(name: str) -> Iterator[str]:
    try:
        yield str(ip_address(name))
        return
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NotResolved(f"the name {name} does not resolve ({error.strerror}); write the server's address") from error
    yield from dict.fromkeys(str(entry[4][0]) for entry in found)


def _clients(listen: ListenConfig, version: int) -> tuple[str, ...]:
    if not isinstance(listen, RadiusListenConfig):
        return (EVERYWHERE[version],)
    return tuple(str(client.network) for client in listen.clients if client.network.version == version)


def _ports(listen: ListenConfig) -> tuple[str, tuple[int, ...]]:
    match listen:
        case RadiusListenConfig():
            return "udp", tuple(dict.fromkeys((listen.auth_port, listen.accounting_port)))
        case TerminalListenConfig():
            return "tcp", (listen.port,)
    raise TypeError(f"a listener for {listen.dialect} has no ports that are known here")
