"""What was dropped and why: counted always, told at most once a minute per client and reason.

Whoever is flooded with bad packets needs a number, not a million lines; whoever set a wrong secret needs the line.
"""

from __future__ import annotations

from collections import Counter

from proxy.commands import Command, Tell

TELL_EVERY = 60.0
MOST_CLIENTS = 64


class Tally:
    """Counts by reason, and the lines about them. At most 64 pairs of client and reason have a line of their own in
    a minute, past that the clients share one: whoever forges source addresses fills no disk."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def note(self, reason: str, client: str, text: str, now: float) -> list[Command]:
        """Count one dropped packet of `client`; the line to tell, if one is due. `now`: monotonic seconds."""
        self.counts[reason] += 1
        key = (client, reason)
        if key not in self._told and len(self._told) >= MOST_CLIENTS:
            self._told = {k: v for k, v in self._told.items() if now - v[0] < TELL_EVERY}
            if len(self._told) >= MOST_CLIENTS:
                key = ("many clients", reason)
        last, silent = self._told.get(key, (-TELL_EVERY, 0))
        if now - last < TELL_EVERY:
            self._told[key] = (last, silent + 1)
            return []
        self._told[key] = (now, 0)
        context: dict[str, str | int] = {"client": key[0], "reason": reason}
        if silent:
            context["more_since_last"] = silent
        return [Tell("warning", text, context)]
