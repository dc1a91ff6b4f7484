"""Who is let in while offline: one pure function, the checks in their fixed order.

The order matters and is the product's promise (see docs/offline-mode.md): what the admin switched off, what is no
person at a copier, then whether the device is locked, then what is no card, then what is known of the card, then what a
card may still overrun.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from storage.answers import CardFacts

OFFLINE_LINE = "Offline: activity is logged to your card"
METHOD_LINE = "this method is not available offline"
CARDS_ONLY_LINE = "Only swipe cards can be used here"
LOCKED_LINE = "Offline mode is locked"
CARD_UNKNOWN_LINE = "Offline: this card is not known here"
CARD_REFUSED_LINE = "Offline: this card was refused by the server"


class Verdict(StrEnum):
    """What is decided. METHOD and LIMIT are refusals too, told apart for dialects that can say so."""

    GRANT = "granted"
    REFUSE = "refused"
    UNAVAILABLE = "unavailable"
    LOCKED = "locked"
    METHOD = "method"
    LIMIT = "limit"

    @property
    def outcome(self) -> str:
        """The outcome of the login, as the ledger has it."""
        return self.value if self in (Verdict.GRANT, Verdict.UNAVAILABLE, Verdict.LOCKED) else Verdict.REFUSE.value


@dataclass(frozen=True, slots=True)
class Policy:
    """The offline settings in force for one device. `card_memory` in seconds; `admission`: any-card or known-cards.

    `asks_code`: offline mode must be unlocked (environment education). The limits hold for one card in one outage;
    None: no limit.
    """

    enabled: bool
    admission: str
    card_memory: float
    refuse_known_bad: bool
    card_pattern: re.Pattern[str]
    asks_code: bool = False
    max_pages_per_card: int | None = None
    max_sessions_per_card: int | None = None


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who asks, told by the dialect. `person`: a person at a copier, as far as the dialect can tell; else `why_not`."""

    person: bool
    why_not: str
    card: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict, the reason for the ledger, and the line for the person (empty when nothing is answered)."""

    verdict: Verdict
    reason: str
    line: str


def normal_card(name: str) -> str:
    """A card number as it is compared: upper-case, leading zeros kept."""
    return name.upper()


def decide(
    policy: Policy, applicant: Applicant, facts: CardFacts | None, wall: int, *, locked: bool = False, limit: str = ""
) -> Decision:
    """Decide an offline login. `facts`: what is remembered of the card; `wall`: milliseconds UTC; `locked`: the device
    waits for the code; `limit`: which exposure limit this card has reached, in words, "" none.
    """
    if not policy.enabled:
        return Decision(Verdict.UNAVAILABLE, "offline mode is disabled for this device", "")
    if not applicant.person:
        return Decision(Verdict.UNAVAILABLE, applicant.why_not, "")
    if locked:
        return Decision(Verdict.LOCKED, "offline mode is locked on this device", LOCKED_LINE)
    if not applicant.card:
        return Decision(Verdict.METHOD, "no swipe card", METHOD_LINE)
    if policy.admission == "known-cards" and not _known(facts, policy.card_memory, wall):
        return Decision(Verdict.REFUSE, "card not seen online within card_memory", CARD_UNKNOWN_LINE)
    if policy.refuse_known_bad and facts is not None and not facts.last_word_granted:
        return Decision(Verdict.REFUSE, "the server's last word on this card was a refusal", CARD_REFUSED_LINE)
    if limit:
        return Decision(Verdict.LIMIT, limit, f"Offline: {limit}")
    return Decision(Verdict.GRANT, policy.admission, OFFLINE_LINE)


def _known(facts: CardFacts | None, card_memory: float, wall: int) -> bool:
    return facts is not None and facts.granted_at is not None and wall - facts.granted_at <= card_memory * 1000
