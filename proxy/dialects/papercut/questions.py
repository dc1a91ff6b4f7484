"""What a terminal or RADIUS listener asks about a card: who is this, and may that person copy?

`lookUpUserNameByCardNo` with the converted number, then with the one that was read, then `getUserProperties`. Nothing
is remembered here: each login gets the server's word of that moment.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal, InvalidOperation

from protocols.papercut.calls import Value
from proxy.asking import CardAnswer, CardQuestion
from proxy.commands import Command
from proxy.dialects.papercut.calls import Ended, Kind, Server, ask, is_true
from proxy.dialects.papercut.resolving import Answer, CardRules, Failed, LookUp, failure
from proxy.events import Moment

PROPERTIES = ["full-name", "balance", "restricted", "disabled-print"]
NOBODY_HAS_IT = "this card is not known"
DISABLED = "your account is disabled"
NO_CREDIT = "no credit is left on your account"
LARGEST_BALANCE = 1 << 62


def ask_about(server: Server, rules: CardRules, question: CardQuestion, at: Moment) -> list[Command]:
    """Put the question; the asker is told when the server has answered, and never if it does not."""

    def answer(said: CardAnswer, at: Moment) -> list[Command]:
        return question.asker.card_answered(question, said, at)

    def failed(what: Failed, at: Moment) -> list[Command]:
        return answer(CardAnswer(trouble=what.words), at) if what.said else []

    def looked_up(owner: Answer, at: Moment) -> list[Command]:
        if isinstance(owner, Failed):
            return failed(owner, at)
        if not owner.user:
            return answer(CardAnswer(refused=NOBODY_HAS_IT), at)
        user = owner.user

        def told(ended: Ended, at: Moment) -> list[Command]:
            if not isinstance(ended, Value) or not isinstance(ended.value, list) or len(ended.value) != len(PROPERTIES):
                return failed(failure(ended), at)
            return answer(_person(user, ended.value), at)

        return ask(server, Kind.LOGIN, told, at, "getUserProperties", user, PROPERTIES)

    return LookUp(server, Kind.LOGIN, rules.numbers(question.card), looked_up).go_on(at)


def hundredths(said: object) -> int | None:
    """A balance in hundredths, rounded down: a person has no more than that. None if it is no number."""
    try:
        value = Decimal(str(said).strip())
        if not value.is_finite() or abs(value) >= LARGEST_BALANCE // 100:
            return None
        return int((value * 100).to_integral_value(ROUND_FLOOR))
    except (InvalidOperation, ValueError):
        return None


def _person(user: str, properties: list[object]) -> CardAnswer:
    full_name, said, restricted, disabled = properties
    balance, refused = hundredths(said), ""
    if is_true(disabled):
        refused = DISABLED
    elif is_true(restricted) and balance is not None and balance <= 0:
        refused = NO_CREDIT
    return CardAnswer(user, full_name if isinstance(full_name, str) else "", balance, refused)
