"""One LOGIN of a device, and what the ledger says of it.

Only the server's own word on a swipe card teaches the card memory. Neither a password nor what was entered as a PIN is
ever written down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from protocols.terminal.frames import Frame
from protocols.terminal.messages import Login, Method
from proxy.admission import normal_card
from proxy.commands import Command
from proxy.dialects.terminal.connection import Asked, Connection
from proxy.dialects.terminal.shared import DIALECT, Shared
from proxy.events import Moment
from proxy.link import State
from storage import records
from storage.answers import OpenSession
from storage.records import Mode, Personal

METHODS: dict[int, str] = {
    Method.CARD: "card",
    Method.PASSWORD: "password",
    Method.IDENTITY: "identity",
    Method.PIN: "pin",
}
WITH_NAMES = (Method.PASSWORD, Method.IDENTITY)
"""The methods whose credential says who somebody is; that of a PIN is the secret itself."""


class LoginOwner(Protocol):
    """The logins that a `DeviceLogin` is one of."""

    def server_replied(self, login: DeviceLogin, reply: Frame, at: Moment) -> list[Command]: ...

    def no_answer(self, login: DeviceLogin, why: str, at: Moment) -> list[Command]: ...

    def timed_out(self, login: DeviceLogin, at: Moment) -> list[Command]: ...


class DeviceLogin(Asked):
    """One LOGIN. `decided`: by the server, by Locum, or given up; `trouble`: why the server said nothing."""

    def __init__(self, owner: LoginOwner, connection: Connection, frame: Frame, login: Login) -> None:
        super().__init__(connection, frame)
        self.owner = owner
        self.login = login
        self.card = normal_card(login.credential) if login.method == Method.CARD else ""
        self.decided = False
        self.trouble = ""

    def replied(self, reply: Frame, at: Moment) -> list[Command]:
        return self.owner.server_replied(self, reply, at)

    def not_relayed(self, why: str, at: Moment) -> list[Command]:
        return self.owner.no_answer(self, why, at)

    def timed_out(self, at: Moment) -> list[Command]:
        return self.owner.timed_out(self, at)


@dataclass(frozen=True, slots=True)
class Word:
    """What was said to a login, by whom (server, locum, nobody) and why; the fields are those of `records.Login`."""

    outcome: str
    decided_by: str
    reason: str
    user: str
    teaches: bool
    late: bool


def entry_of(login: DeviceLogin, word: Word, session: OpenSession | None, shared: Shared, at: Moment) -> records.Login:
    """The login for the ledger; where it teaches, the site has learnt it already. `session`: the one that begins."""
    site, upstream, method = shared.site, shared.upstream, login.login.method
    if word.teaches:
        site.learn(login.card, granted=word.outcome == "granted", user=word.user, wall=at.wall)
    offline = word.decided_by == "locum" and shared.state(login.device) is State.OFFLINE
    mode = site.mode_of(login.device, upstream) if offline else Mode.ONLINE
    name = login.login.credential if method in WITH_NAMES else ""
    return records.Login(
        at=at.wall,
        dialect=DIALECT,
        upstream=upstream.name,
        device=login.device,
        client=login.connection.client,
        method=METHODS.get(method, "unknown"),
        outcome=word.outcome,
        decided_by=word.decided_by,
        reason=word.reason,
        mode=session.mode if session else mode,
        personal=Personal(card=login.card, user=word.user or name),
        session=session.session if session else "",
        expires_at=session.expires_at if session else None,
        late=word.late,
        teaches=word.teaches,
    )
