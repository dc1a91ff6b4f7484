"""Where a listener's logins go: to a RADIUS server as they came, or to a PaperCut server, which is asked about cards.

PaperCut's public API has no call for any other way to log in than a card, so the others are refused there; and what is
no person at a copier is met with silence, for nobody could decide it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from protocols.radius.secrets import relayed_request
from proxy.asking import CardAsker, CardQuestion
from proxy.commands import Command
from proxy.dialects.radius.clients import Asked
from proxy.dialects.radius.requests import RelayedLogin
from proxy.dialects.radius.upstream import RadiusUpstream
from proxy.events import Moment
from proxy.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked of the server about a login: the card as it was read, and the device."""

    card: str
    device: str
    asker: CardAsker


class Towards(ABC):
    """How a listener's logins reach their server."""

    upstream: Upstream

    @abstractmethod
    def body(self, asked: Asked, data: bytes) -> bytes:
        """A login's attributes as they go to the server. Raises ProtocolError if they cannot."""

    @abstractmethod
    def relay(self, login: RelayedLogin, asking: Asking, at: Moment) -> list[Command]:
        """Hand a login to the server, or once more if it is under way already."""

    @abstractmethod
    def forget(self, login: RelayedLogin) -> None:
        """Nobody waits for this login's answer any more; a late one is still told."""


class TowardsRadius(Towards):
    """The server speaks RADIUS: requests go there, and its answers back, unchanged."""

    def __init__(self, upstream: RadiusUpstream) -> None:
        self.upstream: RadiusUpstream = upstream

    def body(self, asked: Asked, data: bytes) -> bytes:
        server = self.upstream
        secrets = (asked.client.secret, server.secret_for(asked))
        return server.with_proxy_state(relayed_request(data, asked.packet, *secrets))

    def relay(self, login: RelayedLogin, asking: Asking, at: Moment) -> list[Command]:
        return self.upstream.relay(login, at)

    def forget(self, login: RelayedLogin) -> None:
        self.upstream.forget(login)


class TowardsCards(Towards):
    """The server is asked whose card it is (`Upstream.ask_card`)."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    def body(self, asked: Asked, data: bytes) -> bytes:
        return b""

    def relay(self, login: RelayedLogin, asking: Asking, at: Moment) -> list[Command]:
        if login.asked_about or not asking.card:
            return []
        login.asked_about = True
        return self.upstream.ask_card(CardQuestion(asking.card, asking.device, asking.asker, login), at)

    def forget(self, login: RelayedLogin) -> None:
        login.asked_about = False
