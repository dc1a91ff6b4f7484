"""Who may speak to a listener: networks with their secret and role, and the checks that every datagram passes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from protocols.radius.packet import Attributes, Packet, Type
from proxy.commands import Source
from proxy.dialects.radius.lent import Sender
from proxy.events import Peer

MOST_CACHED = 8192


@dataclass(frozen=True, slots=True)
class Client:
    """A network of devices that share a secret. Only the role `copier` is ever let in offline."""

    network: IPv4Network | IPv6Network
    secret: bytes
    role: str
    require_signature: bool
    ignore_password_offline: bool


class Clients:
    """The configured clients; the narrowest network that holds an address counts."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self._clients = sorted(clients, key=lambda client: -client.network.prefixlen)
        self._found: dict[str, Client | None] = {}

    def find(self, address: str) -> Client | None:
        """The client at this address (text, IPv4 or IPv6, with or without a zone), or None if nobody configured it."""
        if address in self._found:
            return self._found[address]
        if len(self._found) >= MOST_CACHED:
            self._found.clear()
        ip = ip_address(address.partition("%")[0])
        found = next((c for c in self._clients if ip.version == c.network.version and ip in c.network), None)
        self._found[address] = found
        return found


@dataclass(frozen=True, slots=True)
class Asked:
    """A device's request as the answer needs it: who asked from where, and the packet (RFC 2865 section 3).

    `signed`: it carries a right Message-Authenticator, so its answer should carry one too.
    """

    client: Client
    peer: Peer
    packet: Packet
    signed: bool

    def proxy_states(self) -> Attributes:
        """The Proxy-State attributes that every answer must bring back (RFC 2865 section 5.33)."""
        return tuple(attribute for attribute in self.packet.attributes if attribute[0] == Type.PROXY_STATE)

    def sender(self) -> Sender:
        """As whom it goes on to the server in line: as it came."""
        return Sender(Source(self.peer[0], self.peer[1]), self.client.secret, self.packet.identifier)


def device_of(identifier: str | None, address: str | None, source: str) -> str:
    """How devices are told apart: NAS-Identifier, else NAS-IP-Address or NAS-IPv6-Address, else the source address."""
    return identifier or address or source
