"""Questions that a listener puts to a server of another dialect: whose card is this, and may that person copy?

RADIUS and terminal listeners may have a PaperCut server, which knows nothing of their logins but answers about cards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from proxy.commands import Command
from proxy.events import Moment


@dataclass(frozen=True, slots=True)
class CardAnswer:
    """What the server says of a card. `user` "" without `trouble`: nobody has it. `balance`: hundredths, None: unknown.

    `refused`: why this person may not copy, in words for them; "": they may. `trouble`: the server is there but could
    not say (its error in words); nothing else counts then.
    """

    user: str = ""
    full_name: str = ""
    balance: int | None = None
    refused: str = ""
    trouble: str = ""


class CardAsker(Protocol):
    """A listener of another dialect than the server's, which has asked about a card."""

    def card_answered(self, question: CardQuestion, answer: CardAnswer, at: Moment) -> list[Command]:
        """The server's own word; it may come late, and never comes if the server does not answer."""


@dataclass(frozen=True, slots=True)
class CardQuestion:
    """Who is this? `card` as it was read, not normalised. `token` is the asker's own."""

    card: str
    device: str
    asker: CardAsker
    token: object
