"""What people do to the ledger by hand, through the control socket of the running appliance.

The deeds are those of `ledger_deeds`; each is answered when all of it is on stable storage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from appliance import ledger_deeds
from appliance.control import Handler, Refusal
from appliance.device_hands import Runner
from proxy.commands import Command, Keep
from proxy.events import Event, Kept, NotKept
from proxy.net.driver import this_moment
from storage.answers import Outcome, Stored
from storage.records import EraseCard, Keepable, OutboxState, Record

Waits = Callable[[str, int, str], None]
"""Is told of a record that came into the outbox: its upstream, sequence and order key."""


class LedgerHands:
    """The commands on the ledger. `forget` is told of each card that was erased from it, `waits` of each record that is
    to be forwarded.
    """

    def __init__(
        self, driver: Runner, forget: Callable[[str], None], waits: Waits = lambda upstream, seq, order_key: None
    ) -> None:
        self._driver = driver
        self._forget = forget
        self._waits = waits

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return {command: partial(self._do, command) for command in ledger_deeds.COMMANDS}

    def handle(self, event: Event) -> list[Command]:
        """A part of a deed is on stable storage, or could not be stored."""
        if isinstance(event, Kept) and isinstance(event.token, _Part):
            self._came_in(event.token.change, event.outcome)
            event.token.kept(event.outcome)
        elif isinstance(event, NotKept) and isinstance(event.token, _Part):
            event.token.kept(event.error)
        return []

    def _do(self, command: str, request: dict[str, Any], who: str) -> Deferred[Any]:
        try:
            changes, answer = ledger_deeds.plan(command, request, this_moment().wall, who)
        except ledger_deeds.BadRequest as error:
            raise Refusal(str(error)) from error
        deed = _Deed(Deferred(), answer, [], len(changes))
        for erasure in [change for change in changes if isinstance(change, EraseCard)]:
            deed.promised.addCallback(self._erased, erasure.card)
        self._driver.run([Keep(change, self, _Part(deed, change)) for change in changes])
        return deed.promised

    def _came_in(self, change: Keepable, outcome: Outcome) -> None:
        if isinstance(change, Record) and isinstance(outcome, Stored) and change.outbox is OutboxState.WAITING:
            self._waits(change.upstream, outcome.seq, change.order_key)

    def _erased(self, answer: dict[str, Any], card: str) -> dict[str, Any]:
        if not answer["waiting"]:
            self._forget(card)
        return answer


@dataclass(slots=True, eq=False)
class _Deed:
    """Somebody's command: what became of its parts so far, in their order, and whom to tell."""

    promised: Deferred[Any]
    answer: ledger_deeds.Answer
    became: list[Outcome | str]
    parts: int


@dataclass(frozen=True, slots=True)
class _Part:
    """Token: one of the changes of a deed. A text in place of an outcome says why it could not be stored."""

    deed: _Deed
    change: Keepable

    def kept(self, outcome: Outcome | str) -> None:
        deed = self.deed
        deed.became.append(outcome)
        if len(deed.became) < deed.parts:
            return
        outcomes = [each for each in deed.became if not isinstance(each, str)]
        failed = [each for each in deed.became if isinstance(each, str)]
        if not failed:
            deed.promised.callback(deed.answer(outcomes))
            return
        how_much = "it" if not outcomes else f"{len(failed)} of {deed.parts}"
        deed.promised.errback(Refusal(f"{how_much} could not be stored: {failed[0]}"))
