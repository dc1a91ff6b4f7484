"""Locum's own agent: read-only, from figures that were made at most `FRESH` seconds ago.

Making them costs the reactor a look into the ledger, so a storm of questions costs no more than one look in that time.
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.errors import ProtocolError
from proxy.commands import Command, Send
from proxy.events import Event, Moment, Received
from proxy.snmp.engine import WORDS, Engine, Reported
from proxy.snmp.tree import Tree
from proxy.tally import Tally

FRESH = 2.0


class AgentFlow:
    """`make` gives the objects as they are now."""

    def __init__(self, engine: Engine, make: Callable[[Moment], Tree], tally: Tally) -> None:
        self.engine = engine
        self._make = make
        self._tally = tally
        self._tree: Tree | None = None
        self._made = 0.0

    def handle(self, event: Event) -> list[Command]:
        if not isinstance(event, Received):
            return []
        try:
            asked = self.engine.read(event.data, event.at)
        except ProtocolError as error:
            return refused(self._tally, error.reason, event, str(error))
        if isinstance(asked, Reported):
            return reported(self._tally, asked, event)
        if self._tree is None or event.at.now - self._made >= FRESH:
            self._tree, self._made = self._make(event.at), event.at.now
        answer = self._tree.answer(asked.message, asked.largest)
        if answer is None:
            return refused(self._tally, "snmp-pdu", event, "what is no request")
        return [Send(event.channel, self.engine.answer(asked, *answer, event.at), event.peer)]


def refused(tally: Tally, reason: str, event: Received, why: str) -> list[Command]:
    """Count what was not let in, and tell of it now and then."""
    return tally.note(reason, event.peer[0], f"SNMP from {event.peer[0]} was refused: {why}", event.at.now)


def reported(tally: Tally, found: Reported, event: Received) -> list[Command]:
    """The report for the other side; what is more than a first contact is counted too."""
    commands: list[Command] = [Send(event.channel, found.data, event.peer)] if found.data else []
    words = WORDS[found.reason]
    return commands + refused(tally, found.reason, event, words) if words else commands
