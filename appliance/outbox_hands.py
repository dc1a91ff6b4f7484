"""What people do to the outbox of the running appliance, through the control socket.

One record is named by its id or the beginning of one; many by their numbers, some hundred in a request (`outbox_deeds`
has what each deed is). An answer is given when all of a request is on stable storage; the flows are told of each change
then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from appliance import outbox_deeds
from appliance.assembly import Assembly
from appliance.control import Handler, Refusal
from appliance.ledger_deeds import BadRequest
from appliance.status import StatusBoard
from proxy.commands import Command, Keep
from proxy.events import Event, Kept, Moment, NotKept
from proxy.net.driver import Driver, this_moment
from storage.answers import Changed, Outcome
from storage.errors import StorageError
from storage.outbox import Outbox
from storage.records import Note, OutboxState

SHORTEST_PREFIX = 8


class OutboxHands:
    """The commands on the outbox."""

    def __init__(self, assembly: Assembly, driver: Driver, board: StatusBoard, connection: sqlite3.Connection) -> None:
        self._assembly = assembly
        self._driver = driver
        self._board = board
        self._connection = connection
        self._outbox = Outbox(connection)

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        made = {
            "outbox-list": self._list,
            "outbox-show": self._show,
            "outbox-retry": self._retry,
            "outbox-resolve": self._resolve,
            "outbox-drop": self._drop,
            "outbox-claim": self._claim,
        }
        return {name: _in_its_words(handler) for name, handler in made.items()}

    def handle(self, event: Event) -> list[Command]:
        """A part of a deed is on stable storage, or could not be stored."""
        if isinstance(event, Kept) and isinstance(event.token, _Deed):
            return event.token.kept(event.outcome, event.at)
        if isinstance(event, NotKept) and isinstance(event.token, _Deed):
            event.token.not_kept(event.error)
        return []

    def _list(self, request: dict[str, Any], who: str) -> list[dict[str, Any]]:
        return outbox_deeds.rows(self._connection, request)

    def _show(self, request: dict[str, Any], who: str) -> Any:
        try:
            detail = self._board.outbox_detail(self._seq(request.get("id")))
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

    def _retry(self, request: dict[str, Any], who: str) -> Any:
        if "seqs" in request:
            return self._many("outbox-retry", request, who, self._sent_again)
        identifiers = request.get("ids")
        if identifiers is not None and not isinstance(identifiers, list):
            raise Refusal("ids must be a list of ids, or null for all that were set aside")
        if identifiers is not None and not identifiers:
            raise Refusal("no record was named")
        if identifiers is None and request.get("set"):
            raise Refusal("name the records that are to be corrected")
        if identifiers is None:
            seqs = [row.seq for row in self._outbox.list(states=[OutboxState.REJECTED])]
        else:
            seqs = [self._seq(each) for each in identifiers]

        def retried(changed: int) -> dict[str, Any]:
            if identifiers is not None and not changed:
                raise Refusal("only what was refused can be sent once more; see 'locum outbox list'")
            return {"retried": changed}

        return self._do("outbox-retry", request, seqs, who, self._sent_again, retried)

    def _resolve(self, request: dict[str, Any], who: str) -> Any:
        effect = self._sent_again if request.get("how") == "resend" else _nothing_more
        if "seqs" in request:
            return self._many("outbox-resolve", request, who, effect)
        identifier = request.get("id")

        def resolved(changed: int) -> dict[str, Any]:
            if not changed:
                raise Refusal(f"{identifier} is not in doubt; see 'locum outbox list'")
            return {"retried": changed} if request.get("how") == "resend" else {"resolved": identifier}

        return self._do("outbox-resolve", request, [self._seq(identifier)], who, effect, resolved)

    def _drop(self, request: dict[str, Any], who: str) -> Any:
        if "seqs" in request:
            return self._many("outbox-drop", request, who, self._taken_out)
        identifier = request.get("id")

        def dropped(changed: int) -> dict[str, Any]:
            return {"dropped": identifier}

        return self._do("outbox-drop", request, [self._seq(identifier)], who, self._taken_out, dropped)

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

    def _many(self, command: str, request: dict[str, Any], who: str, effect: _Effect) -> Any:
        seqs = outbox_deeds.meant(self._connection, command, request)
        return self._do(command, request, list(seqs), who, effect, lambda changed: {"changed": changed})

    def _do(
        self, command: str, request: dict[str, Any], seqs: list[int], who: str, effect: _Effect, result: _Result
    ) -> Any:
        changes = outbox_deeds.plan(command, request, seqs, this_moment().wall, who)
        if not changes:
            return result(0)
        deed = _Deed(len(changes), effect, result)
        self._driver.run([Keep(change, self, deed) for change in changes])
        return deed.answer

    def _sent_again(self, changed: Changed, at: Moment) -> list[Command]:
        commands: list[Command] = []
        for seq, upstream, order_key in changed.items:
            flow = self._assembly.upstreams.get(upstream)
            if flow is not None:
                commands += flow.retry(seq, order_key, at)
        return commands

    def _taken_out(self, changed: Changed, at: Moment) -> list[Command]:
        for seq, upstream, order_key in changed.items:
            flow = self._assembly.upstreams.get(upstream)
            if flow is not None:
                flow.outbox.drop(seq, order_key)
        return []

    def _seq(self, identifier: object) -> int:
        """The record in the outbox that this id, or the beginning of one, names."""
        text = str(identifier)
        if len(text) < SHORTEST_PREFIX:
            raise Refusal(f"'{text}' is too short; give at least {SHORTEST_PREFIX} characters of the id")
        found = self._outbox.find(text)
        if not found:
            raise Refusal(f"no record in the outbox has the id {text}; see 'locum outbox list'")
        if len(found) > 1:
            raise Refusal(f"several records' ids begin with {text}; give more of it")
        return found[0]


_Effect = Callable[[Changed, Moment], list[Command]]
_Result = Callable[[int], dict[str, Any]]


def _nothing_more(changed: Changed, at: Moment) -> list[Command]:
    return []


def _in_its_words(handler: Handler) -> Handler:
    def handled(request: dict[str, Any], who: str) -> Any:
        try:
            return handler(request, who)
        except (BadRequest, StorageError) as error:
            raise Refusal(str(error)) from error

    return handled


@dataclass(slots=True, eq=False)
class _Deed:
    """Token: somebody's command in so many parts, what each does to the flows, and what to answer for all of them."""

    parts: int
    effect: _Effect
    result: _Result
    answer: Deferred[Any] = field(default_factory=Deferred)
    changed: int = 0
    done: int = 0
    failed: int = 0
    error: str = ""

    def kept(self, outcome: Outcome, at: Moment) -> list[Command]:
        """A part is on stable storage."""
        commands: list[Command] = []
        if isinstance(outcome, Changed):
            self.changed += len(outcome.items)
            commands = self.effect(outcome, at)
        self._one_more()
        return commands

    def not_kept(self, error: str) -> None:
        """A part could not be stored."""
        self.failed, self.error = self.failed + 1, error
        self._one_more()

    def _one_more(self) -> None:
        self.done += 1
        if self.done < self.parts:
            return
        if self.failed:
            how_much = "it" if self.failed == self.parts else f"{self.failed} of {self.parts}"
            self.answer.errback(Refusal(f"{how_much} could not be stored: {self.error}"))
            return
        try:
            result = self.result(self.changed)
        except Refusal as refusal:
            self.answer.errback(refusal)
            return
        self.answer.callback(result)
