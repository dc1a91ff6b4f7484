"""What people do by hand through the control socket, and the few things that are learnt while running.

Every deed is kept in the ledger with who did it. An answer is given when the deed is on stable storage.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from twisted.internet.defer import Deferred

from appliance.assembly import Assembly
from appliance.control import Handler, Refusal
from appliance.keeper import Keeper
from appliance.status import StatusBoard
from proxy.commands import Command, Keep, Tell
from proxy.events import Event, Kept, Moment, NotKept
from proxy.net.driver import Driver, this_moment
from storage.outbox import Outbox
from storage.records import Changed, Drop, OutboxState, Remember, Retry
from storage.space import Level

SHORTEST_PREFIX = 8
LEVEL_WORDS = {
    Level.LOW: "the disk is getting full: less than 10 % is free",
    Level.VERY_LOW: "the disk is nearly full: less than 5 % is free; make room",
    Level.FULL: "the disk is full: nothing more is acknowledged or granted; make room now",
}


class Hands:
    """The commands of the control socket."""

    def __init__(self, assembly: Assembly, driver: Driver, board: StatusBoard, connection: sqlite3.Connection) -> None:
        self._assembly = assembly
        self._driver = driver
        self._board = board
        self._outbox = Outbox(connection)
        self._addresses: dict[str, list[str]] = {}
        self._level = Level.ENOUGH
        self._error = ""

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return {
            "status": lambda request, who: self._board.status(),
            "devices": lambda request, who: self._board.devices(),
            "outbox-list": self._list,
            "outbox-retry": self._retry,
            "outbox-drop": self._drop,
        }

    def handle(self, event: Event) -> list[Command]:
        """A deed is on stable storage, or could not be stored."""
        if isinstance(event, Kept) and isinstance(event.token, _Deed):
            return event.token.done(event)
        if isinstance(event, NotKept) and isinstance(event.token, _Deed):
            event.token.answer.errback(Refusal(f"it could not be stored: {event.error}"))
        return []

    def addresses_of(self, name: str) -> list[str]:
        """What a server's name resolved to last, in this run or an earlier one."""
        if name not in self._addresses:
            self._addresses[name] = self._assembly.remembered_addresses(name)
        return self._addresses[name]

    def forsaken(self) -> dict[str, int]:
        """Records that wait for an upstream that the config does not have any more, by its name."""
        return {
            name: found for name, found in self._outbox.by_upstream().items() if name not in self._assembly.upstreams
        }

    def learn(self, name: str, addresses: list[str]) -> bool:
        """A name was resolved; whether that is news."""
        if self._addresses.get(name) == addresses:
            return False
        self._addresses[name] = addresses
        return True

    def remember(self, name: str) -> Keep:
        return Keep(Remember(f"addresses:{name}", json.dumps(self._addresses[name])), wait=False)

    def storage_said(self, keeper: Keeper, at: Moment) -> None:
        """Tell at once when room runs out or storing fails, and when it is well again."""
        level = keeper.space.level if keeper.space is not None else Level.ENOUGH
        if level != self._level:
            worse, self._level = level > self._level, level
            words = LEVEL_WORDS.get(level, "the disk has room again")
            self._driver.run([Tell("error" if level is Level.FULL else "warning" if worse else "info", words)])
        if keeper.error != self._error:
            self._error = keeper.error
            text = f"storing fails: {self._error}" if self._error else "storing works again"
            self._driver.run([Tell("error" if self._error else "info", text)])

    def _list(self, request: dict[str, Any], who: str) -> list[dict[str, Any]]:
        state, limit = request.get("state"), request.get("limit")
        if state is not None and (not isinstance(state, str) or state not in set(OutboxState)):
            raise Refusal(f"no such state: {state}; known are {', '.join(OutboxState)}")
        return self._board.outbox_rows(state, limit if isinstance(limit, int) else None)

    def _retry(self, request: dict[str, Any], who: str) -> Deferred[Any]:
        identifiers = request.get("ids")
        if identifiers is not None and not isinstance(identifiers, list):
            raise Refusal("ids must be a list of ids, or null for all that were set aside")
        seqs = () if identifiers is None else tuple(self._seq(str(each)) for each in identifiers)
        if identifiers is not None and not seqs:
            raise Refusal("no record was named")
        return self._do(Retry(this_moment().wall, seqs, who), self._retried)

    def _retried(self, changed: Changed, at: Moment) -> tuple[Any, list[Command]]:
        commands: list[Command] = []
        for seq, upstream, order_key in changed.items:
            flow = self._assembly.upstreams.get(upstream)
            if flow is not None:
                commands += flow.retry(seq, order_key, at)
        return {"retried": len(changed.items)}, commands

    def _drop(self, request: dict[str, Any], who: str) -> Deferred[Any]:
        reason = str(request.get("reason") or "").strip()
        if not reason:
            raise Refusal("a reason is needed: --reason TEXT")
        identifier = str(request.get("id"))
        seq = self._seq(identifier)

        def dropped(changed: Changed, at: Moment) -> tuple[Any, list[Command]]:
            for found, upstream, order_key in changed.items:
                flow = self._assembly.upstreams.get(upstream)
                if flow is not None:
                    flow.outbox.drop(found, order_key)
            return {"dropped": identifier}, []

        return self._do(Drop(this_moment().wall, seq, reason, who), dropped)

    def _do(self, change: Retry | Drop, then: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self._driver.run([Keep(change, self, _Deed(answer, then))])
        return answer

    def _seq(self, identifier: str) -> int:
        """The record in the outbox that this id, or the beginning of one, names."""
        if len(identifier) < SHORTEST_PREFIX:
            raise Refusal(f"'{identifier}' is too short; give at least {SHORTEST_PREFIX} characters of the id")
        found = self._outbox.find(identifier)
        if not found:
            raise Refusal(f"no record in the outbox has the id {identifier}; see 'locum outbox list'")
        if len(found) > 1:
            raise Refusal(f"several records' ids begin with {identifier}; give more of it")
        return found[0]


class _Deed:
    """Token: somebody's command, and whom to tell."""

    def __init__(self, answer: Deferred[Any], then: Any) -> None:
        self.answer = answer
        self._then = then

    def done(self, event: Kept) -> list[Command]:
        result, commands = self._then(event.outcome, event.at)
        self.answer.callback(result)
        return list(commands)
