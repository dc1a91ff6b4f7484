"""How the commands reach the outbox: the running appliance's, or the ledger itself where none runs.

Two classes of one shape, so that a command need not know which of them it has. Both do the deeds of `outbox_deeds`, and
the ledger says who did them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from appliance import outbox_deeds
from appliance.client import ClientError, NotRunning, ask
from appliance.ledger_access import by_hand, committed, opened_by_hand
from appliance.ledger_deeds import BadRequest
from appliance.state_dir import LEDGER_NAME
from storage.answers import Changed
from storage.database import reading
from storage.ledger import Ledger
from storage.outbox import Outbox

T = TypeVar("T")


class Running:
    """The outbox of the appliance that works with a state directory. Every method raises ClientError."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def rows(self, **wanted: Any) -> list[dict[str, Any]]:
        """Records as `outbox_deeds.rows` has them."""
        found: list[dict[str, Any]] = ask(self._state_dir, "outbox-list", **wanted)
        return found

    def one(self, command: str, identifier: str, **arguments: Any) -> dict[str, Any]:
        """Do a deed to one record; the appliance's answer."""
        answer = ask(self._state_dir, command, id=identifier, **arguments)
        return answer if isinstance(answer, dict) else {}

    def retry(self, identifiers: Sequence[str], corrections: dict[str, str]) -> int:
        """Send these once more; how many were."""
        return int(ask(self._state_dir, "outbox-retry", ids=list(identifiers), set=corrections)["retried"])

    def many(self, command: str, seqs: Sequence[int], **arguments: Any) -> int:
        """Do a deed to at most `outbox_deeds.AT_ONCE` records; how many it changed."""
        return int(ask(self._state_dir, command, seqs=list(seqs), **arguments)["changed"])


class Stopped:
    """The outbox of a ledger that no appliance works with. Every method raises ClientError, or StorageError."""

    def __init__(self, ledger: Ledger, connection: sqlite3.Connection) -> None:
        self._ledger = ledger
        self._connection = connection

    def rows(self, **wanted: Any) -> list[dict[str, Any]]:
        return self._said(outbox_deeds.rows, self._connection, wanted)

    def one(self, command: str, identifier: str, **arguments: Any) -> dict[str, Any]:
        found = Outbox(self._connection).find(identifier)
        if not found or not self.many(command, found, **arguments):
            states = " or ".join(outbox_deeds.CHANGED_BY[command])
            raise ClientError(f"{identifier} is in the outbox no more, or not {states}; nothing was changed")
        return {}

    def retry(self, identifiers: Sequence[str], corrections: dict[str, str]) -> int:
        for identifier in identifiers:
            self.one("outbox-retry", identifier, set=corrections)
        return len(identifiers)

    def many(self, command: str, seqs: Sequence[int], **arguments: Any) -> int:
        there = self._said(outbox_deeds.meant, self._connection, command, {"seqs": list(seqs), **arguments})
        at = time.time_ns() // 1_000_000
        changes = self._said(outbox_deeds.plan, command, arguments, there, at, by_hand())
        outcomes = committed(self._ledger, changes)
        return sum(len(each.items) for each in outcomes if isinstance(each, Changed))

    @staticmethod
    def _said(function: Callable[..., T], *arguments: Any) -> T:
        try:
            return function(*arguments)
        except BadRequest as error:
            raise ClientError(str(error)) from error


Queue = Running | Stopped


def with_outbox(state_dir: Path, work: Callable[[Queue], T]) -> T:
    """Do `work` with the outbox of a state directory. If the appliance ends meanwhile, it is begun anew on the ledger.

    Raises ClientError or Failed.
    """
    try:
        return work(Running(state_dir))
    except NotRunning:
        file = state_dir / LEDGER_NAME
        if not file.exists():
            raise
    with opened_by_hand(state_dir) as ledger, reading(file) as connection:
        return work(Stopped(ledger, connection))
