"""One login of a device, from its first datagram on, and who it is that asks.

What is no person at a copier (RFC 2865 sections 5.6 and 5.41: administrative and framed services, Ethernet and wireless
ports; EAP, RFC 3579) is never let in offline.
"""

from __future__ import annotations

from typing import Protocol

from protocols.radius.packet import Packet, Type
from protocols.radius.request import AccessRequest, Method
from proxy.commands import Command
from proxy.dialects.radius.challenges import is_ours
from proxy.dialects.radius.clients import Asked, device_of
from proxy.dialects.radius.requests import RelayedLogin
from proxy.events import Moment, Peer

COPIER = "copier"
NO_PERSON_SERVICES = {2: "Framed", 4: "Callback-Framed", 6: "Administrative", 7: "NAS-Prompt"}
NO_PERSON_SERVICES |= {9: "Callback-NAS-Prompt", 10: "Call-Check", 11: "Callback-Administrative"}
NO_PERSON_PORTS = {15: "Ethernet", 18: "other wireless", 19: "802.11"}

Key = tuple[Peer, bytes]


class Listener(Protocol):
    """Whose login it is."""

    def server_answered(self, login: DeviceLogin, packet: Packet, data: bytes, at: Moment) -> list[Command]: ...


class DeviceLogin(RelayedLogin):
    """One Access-Request of a device, from its first datagram to ten seconds after its last."""

    def __init__(
        self,
        flow: Listener,
        key: Key,
        asked: Asked,
        request: AccessRequest,
        body: bytes,
        at: Moment,
    ) -> None:
        super().__init__(body, asked)
        self.flow = flow
        self.key = key
        self.request = request
        self.device = device_of(request.nas_identifier, request.nas_address, asked.peer[0])
        self.last_heard = at.now
        self.decided = False
        self.unavailable = False
        self.try_until = float("inf")
        self.unlocking_card = ""
        self.challenged = False
        self.holds_code = is_ours(request.state)

    def answered(self, packet: Packet, data: bytes, at: Moment) -> list[Command]:
        return self.flow.server_answered(self, packet, data, at)


def why_no_person(asked: Asked, request: AccessRequest) -> str:
    """Why this is no person at a copier, as far as the request tells; "" if it may be one."""
    if asked.client.role != COPIER:
        return f"a client in the role {asked.client.role}"
    if request.method is Method.EAP:
        return "EAP"
    if request.service_type in NO_PERSON_SERVICES:
        return f"service type {NO_PERSON_SERVICES[request.service_type]}"
    if asked.packet.get(Type.FRAMED_PROTOCOL) is not None:
        return "a framed protocol"
    if len(asked.packet.get_all(Type.USER_NAME)) > 1:
        return "more than one User-Name"
    if request.nas_port_type in NO_PERSON_PORTS:
        return f"port type {NO_PERSON_PORTS[request.nas_port_type]}"
    return ""


def is_bare(asked: Asked, request: AccessRequest) -> bool:
    """Whether the request holds a name and nothing that would prove who has it, as a swipe does."""
    if request.method is Method.EAP:
        return False
    return request.method is Method.NONE or asked.client.ignore_password_offline


def fresh_part(packet: Packet) -> bytes:
    """What tells a repeated request from another of the same client and port (RFC 5080 section 2.2.2)."""
    return bytes((packet.identifier,)) + packet.authenticator
