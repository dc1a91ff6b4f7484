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
from storage.answers import Changed
from storage.outbox import Outbox
from storage.records import Drop, Note, OutboxState, Remember, Resolve, Retry
from storage.space import Level

SHORTEST_PREFIX = 8
CORRECTABLE = ("printer", "user")
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
            "outbox-show": self._show,
            "outbox-retry": self._retry,
            "outbox-resolve": self._resolve,
            "outbox-drop": self._drop,
            "outbox-claim": self._claim,
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
            severity = "error" if level is Level.FULL else "warning" if worse else "info"
            self._driver.run([Tell(severity, words, alarm="disk")])
        if keeper.error != self._error:
            self._error = keeper.error
            text = f"storing fails: {self._error}" if self._error else "storing works again"
            self._driver.run([Tell("error" if self._error else "info", text, alarm="disk")])

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
        corrections = request.get("set") or {}
        if not isinstance(corrections, dict) or not all(
            isinstance(text, str) and text for text in corrections.values()
        ):
            raise Refusal("a correction is a field and a text: --set printer=NAME")
        if unknown := corrections.keys() - CORRECTABLE:
            raise Refusal(f"{', '.join(sorted(unknown))} cannot be corrected; {' and '.join(CORRECTABLE)} can")
        if corrections and not seqs:
            raise Refusal("name the records that are to be corrected")

        def retried(changed: Changed, at: Moment) -> tuple[Any, list[Command]]:
            if seqs and not changed.items:
                raise Refusal("only what was refused can be sent once more; see 'locum outbox list'")
            return self._retried(changed, at)

        return self._do(Retry(this_moment().wall, seqs, who, tuple(sorted(corrections.items()))), retried)

    def _show(self, request: dict[str, Any], who: str) -> Any:
        try:
            detail = self._board.outbox_detail(self._seq(str(request.get("id"))))
        except LookupError:
            raise Refusal("the record has left the outbox meanwhile") from None
        flow, evidence = self._assembly.upstreams.get(detail["upstream"]), detail["evidence"] or {}
        if detail["state"] != OutboxState.IN_DOUBT or flow is None:
            return detail
        user = str(evidence.get("user") or detail["job"]["user"])
        answer: Deferred[Any] = Deferred()

        def told(jobs: int | None, at: Moment) -> list[Command]:
            answer.callback({**detail, "evidence": {"user": user, **evidence, "job_count_now": jobs}})
            return []

        self._driver.run(flow.count_jobs(user, told, this_moment()))
        return answer

    def _resolve(self, request: dict[str, Any], who: str) -> Deferred[Any]:
        how, identifier = request.get("how"), str(request.get("id"))
        if how not in ("sent", "resend"):
            raise Refusal("a record in doubt was sent, or is to be sent again: --sent or --resend")
        seq = self._seq(identifier)

        def resolved(changed: Changed, at: Moment) -> tuple[Any, list[Command]]:
            if not changed.items:
                raise Refusal(f"{identifier} is not in doubt; see 'locum outbox list'")
            return self._retried(changed, at) if how == "resend" else ({"resolved": identifier}, [])

        reason = str(request.get("reason") or "").strip()
        return self._do(Resolve(this_moment().wall, seq, str(how), who, reason), resolved)

    def _claim(self, request: dict[str, Any], who: str) -> dict[str, Any]:
        name, at = request.get("upstream"), this_moment()
        claimed = []
        for flow in self._assembly.upstreams.values():
            claim = getattr(flow, "claim", None)
            if claim is not None and name in (None, flow.name):
                self._driver.run([Keep(Note(at.wall, "by-hand", {"did": "outbox claim", "upstream": flow.name}, who))])
                self._driver.run(claim(at))
                claimed.append(flow.name)
        if not claimed:
            named = f"upstream '{name}' keeps no claim" if name else "no upstream keeps a claim"
            raise Refusal(f"{named}; only those of the dialect papercut do")
        return {"message": f"this appliance claims {', '.join(claimed)}: it goes on forwarding"}

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

    def _do(self, change: Retry | Resolve | Drop, then: Any) -> Deferred[Any]:
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
        try:
            result, commands = self._then(event.outcome, event.at)
        except Refusal as refusal:
            self.answer.errback(refusal)
            return []
        self.answer.callback(result)
        return list(commands)
