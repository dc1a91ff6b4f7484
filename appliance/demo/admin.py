"""What the admin does by hand in the demo: decides the records of which nobody knows whether the server took them.

A cut in the middle of `processJob` leaves that open, for the call has no key. Locum sends such a record never again by
itself; it shows what it knows (`locum outbox show`). The admin looks for the record's id in the server's job log, where
it stands in the comment, and says which it is (`locum outbox resolve`).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThread

from appliance.demo.stage import Stage
from appliance.demo.telling import Teller
from appliance.demo.watch import Watch
from appliance.simulator.book import jobs_in


class Admin:
    """The person with the commands; counts the records that were found to be at the server, and not."""

    def __init__(self, stage: Stage, watch: Watch, teller: Teller) -> None:
        self.found_sent = 0
        self.found_not_sent = 0
        self._stage = stage
        self._watch = watch
        self._teller = teller

    async def decide_doubts(self) -> int:
        """Decide every record in doubt, by the server's own job log; gives how many. Raises DemoFailed, BookError."""
        rows = await self._watch.ask("outbox-list", state="in_doubt", limit=None)
        if not rows:
            return 0
        named = "one record" if len(rows) == 1 else f"{len(rows)} records"
        self._tell(
            f"`locum outbox list` names {named} in doubt: on the way when the server died. Locum does not by itself "
            "send again what the server may have, or somebody would pay twice."
        )
        booked = {job.record_id for job in await deferToThread(jobs_in, self._stage.book_dir)}
        told: set[bool] = set()
        for row in rows:
            is_there = row["id"] in booked
            await self._decide(row["id"], is_there, told=is_there not in told)
            told.add(is_there)
        if len(rows) > len(told):
            self._tell(f"and so for the others: {self.found_sent} in the server's job log, {self.found_not_sent} not.")
        return len(rows)

    async def _decide(self, id: str, is_there: bool, *, told: bool) -> None:
        shown = await self._watch.ask("outbox-show", id=id)
        how, found = ("sent", "is there") if is_there else ("resend", "is not there")
        if is_there:
            self.found_sent += 1
        else:
            self.found_not_sent += 1
        reason = f"the id {found} in the server's job log"
        await self._watch.ask("outbox-resolve", id=id, how=how, reason=reason)
        if told:
            self._tell(f"`locum outbox show {id}`: {_evidence(shown)}. In the server's job log it {found}.")
            self._tell(f'`locum outbox resolve {id} --{how} --reason "{reason}"`')

    def _tell(self, text: str) -> None:
        self._teller.tell("admin", text)


def _evidence(shown: dict[str, Any]) -> str:
    """What Locum knows of a record in doubt, in words."""
    job, known = shown["job"], shown.get("evidence") or {}
    pages = job["counts"]["pages"]
    text = f"{'a page' if pages == 1 else f'{pages} pages'} at {shown['device']}"
    if known.get("job_count") is None:
        return text
    before = known["job_count"] + known.get("delivered_since", 0)
    return f"{text}; {known['user']} had {before} jobs at the server before"
