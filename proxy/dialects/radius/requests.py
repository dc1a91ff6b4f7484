"""What is sent to a RADIUS server, and by which settings: a device's login on its way, a record on its way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from protocols.radius.packet import Packet
from proxy.commands import Command
from proxy.dialects.radius.clients import Asked
from proxy.dialects.radius.exchange import Pending
from proxy.dialects.radius.host import ProbeLogin
from proxy.events import Moment
from proxy.handover import Waiter
from storage.answers import OutboxItem


@dataclass(frozen=True, slots=True)
class Settings:
    """What the config says of a RADIUS upstream. Times in seconds; `require_signature`: auto, true or false."""

    auth_port: int
    accounting_port: int
    secret: bytes
    answer_timeout: float
    probe_interval: float
    require_signature: str
    test_login: ProbeLogin | None
    vendor_id: int
    roles: frozenset[str]


class RelayedLogin(ABC):
    """A device's Access-Request on its way to the server: `body`, the attributes' octets as they go there, the request
    under way (`asked_about`: a question about its card is), and what kept it from being sent.
    """

    def __init__(self, body: bytes, asked: Asked) -> None:
        self.body = body
        self.asked = asked
        self.authenticator = asked.packet.authenticator
        self.pending: Pending | None = None
        self.trouble = ""
        self.asked_about = False

    @abstractmethod
    def answered(self, packet: Packet, data: bytes, at: Moment) -> list[Command]:
        """The server's own answer, in time or late; `data` is the datagram."""


class RelayedRecord(ABC):
    """A device's Accounting-Request that waits for the server's answer; a `Waiter` that says who asked."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    @abstractmethod
    def answered(self, attributes: object, at: Moment) -> list[Command]: ...

    @abstractmethod
    def unanswered(self, at: Moment) -> list[Command]: ...


@dataclass(frozen=True, slots=True)
class RecordSent:
    """What a pending request is about: a record on its way."""

    item: OutboxItem
    waiter: Waiter | None
