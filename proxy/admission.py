"""Who is let in while offline: one pure function, the checks in their fixed order.

The order matters and is the product's promise (see docs/offline-mode.md): what the admin switched off, what is no
person at a copier, then (with unlocking) whether the device is locked, then what is no card, then what is known of the
card, then (with limits) what a card may still overrun.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from storage.records import CardFacts

OFFLINE_LINE = "Offline: activity is logged to your card"
METHOD_LINE = "this method is not available offline"
CARD_UNKNOWN_LINE = "Offline: this card is not known here"
CARD_REFUSED_LINE = "Offline: this card was refused by the server"


class Verdict(StrEnum):
    GRANT = "granted"
    REFUSE = "refused"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Policy:
    """The offline settings in force for one device. `card_memory` in seconds; `admission`: any-card or known-cards."""

    enabled: bool
    admission: str
    card_memory: float
    refuse_known_bad: bool
    card_pattern: re.Pattern[str]


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


def decide(policy: Policy, applicant: Applicant, facts: CardFacts | None, wall: int) -> Decision:
    """Decide an offline login. `facts`: what is remembered of the card; `wall`: milliseconds UTC."""
    if not policy.enabled:
        return Decision(Verdict.UNAVAILABLE, "offline mode is disabled for this device", "")
    if not applicant.person:
        return Decision(Verdict.UNAVAILABLE, applicant.why_not, "")
    if not applicant.card:
        return Decision(Verdict.REFUSE, "no swipe card", METHOD_LINE)
    if policy.admission == "known-cards" and not _known(facts, policy.card_memory, wall):
        return Decision(Verdict.REFUSE, "card not seen online within card_memory", CARD_UNKNOWN_LINE)
    if policy.refuse_known_bad and facts is not None and not facts.last_word_granted:
        return Decision(Verdict.REFUSE, "the server's last word on this card was a refusal", CARD_REFUSED_LINE)
    return Decision(Verdict.GRANT, policy.admission, OFFLINE_LINE)


def _known(facts: CardFacts | None, card_memory: float, wall: int) -> bool:
    return facts is not None and facts.granted_at is not None and wall - facts.granted_at <= card_memory * 1000
