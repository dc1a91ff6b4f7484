"""A mark at the server that keeps cloned and restored appliances honest: the config value `locum.<appliance>`.

It holds a claim, drawn anew at every start, the lowest record that was unsettled, the highest one that might be sent,
and the hash of that one's entry in the ledger. Before each batch it is read: it must be what this ledger remembers to
have written, or else another appliance has delivered these records, or this ledger is an older copy. Then the new one
is remembered on stable storage, then written, and only then may the batch be sent. The next batch is prepared while
one is being sent. `locum outbox claim` makes this appliance take over whatever is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from protocols.papercut.calls import Fault, Value
from proxy.commands import Command, Keep, Tell
from proxy.dialects.papercut.calls import Ended, Kind, Lost, Server, ask, text_of, words_of
from proxy.dialects.papercut.http import Nonsense
from proxy.events import Flow, Moment
from storage.records import Remember

BATCH = 2048
MOST_REMEMBERED = 8
AGAIN_AFTER_FAULT = 10.0
AGAIN = 1.0
HOLDS_FOR = 60.0
"""Seconds after which a mark must be read again before more is sent under it."""
WHAT_TO_DO = "nothing is forwarded; if this appliance is the one to go on: locum outbox claim"


@dataclass(frozen=True, slots=True)
class Mark:
    """What stands at the server. Sequences of this ledger; `head`: the hash of the entry `highest`, in hex."""

    claim: str
    lowest: int
    highest: int
    head: str

    @property
    def text(self) -> str:
        fields = {"claim": self.claim, "lowest": self.lowest, "highest": self.highest, "head": self.head}
        return json.dumps(fields, separators=(",", ":"))


def mark_from(text: str) -> Mark | None:
    """The mark that such a text stands for; None if it is none."""
    try:
        said = json.loads(text)
        mark = Mark(said["claim"], said["lowest"], said["highest"], said["head"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    whole = isinstance(mark.claim, str) and isinstance(mark.head, str)
    return mark if whole and type(mark.lowest) is int and type(mark.highest) is int else None


@dataclass(frozen=True, slots=True)
class MarkKept:
    """Token: the mark was to be remembered before it is written to the server."""

    mark: Mark


class Watermark:
    """`stopped`: why nothing may be forwarded until a person decides, "" if it may. `hash_of` gives the hash of an
    entry of this ledger, None if there is none. `remembered`: what `Remember` last kept under `key`, "" nothing.
    """

    def __init__(
        self,
        server: Server,
        owner: Flow,
        upstream: str,
        appliance: str,
        hash_of: Callable[[int], bytes | None],
        remembered: str,
    ) -> None:
        self.value = f"locum.{appliance}"
        self.key = f"claim:{upstream}"
        self.stopped = ""
        self.hindered = ""
        """What keeps it from being read or written now, in words; it is tried again."""
        self._server, self._owner, self._upstream = server, owner, upstream
        self._hash_of = hash_of
        self._known = _remembered(remembered)
        self._claim = ""
        self._highest = -1
        self._left = 0
        self._granted = float("-inf")
        self._next: Mark | None = None
        self._written: Mark | None = None
        self._busy = False
        self._again_at = 0.0
        self._take_over = False
        self._read_again = False

    def allows(self, seq: int, now: float) -> bool:
        """Whether this record may be sent under the mark that stands at the server."""
        fresh = now < self._granted + HOLDS_FOR
        return fresh and not self.stopped and seq <= self._highest and self._left > 0

    def used(self, records: int) -> None:
        """So many records were sent under it."""
        self._left -= records

    def wants(self, needed: int, now: float) -> bool:
        """Whether a new mark should be written, for records up to `needed`."""
        if self._busy or self.stopped or now < self._again_at:
            return False
        return needed > self._highest or self._left <= BATCH // 2 or now >= self._granted + HOLDS_FOR / 2

    def lapse(self) -> None:
        """Contact was lost, or the server is another one: nothing more goes under the mark that was written, and what
        it said of the mark counts no more.
        """
        self._highest = -1
        self.hindered = ""

    @property
    def left(self) -> int:
        """How many records may still be sent under the mark."""
        return self._left

    @property
    def unsettled(self) -> bool:
        """Whether the mark at the server still says that something is being sent."""
        written = self._written
        return written is not None and written.lowest <= written.highest and not self.stopped and not self._busy

    def begin(self, lowest: int, highest: int, at: Moment) -> list[Command]:
        """Read, check and write the mark for records from `lowest` to `highest`; lowest above highest: all settled."""
        head = self._hash_of(highest)
        if self._busy or self.stopped or at.now < self._again_at:
            return []
        if head is None:
            return self._failed(f"the ledger has no entry {highest}", AGAIN_AFTER_FAULT, at)
        self._claim = self._claim or at.random(16, "claim").hex()
        self._busy = True
        self._next = Mark(self._claim, lowest, highest, head.hex())
        return ask(self._server, Kind.RECORD, self._read, at, "getConfigValue", self.value)

    def claim(self) -> None:
        """A person has decided: this appliance goes on, whatever stands at the server."""
        self._take_over = True
        self.stopped = self.hindered = ""
        self._again_at = 0.0

    def kept(self, mark: Mark, at: Moment) -> list[Command]:
        """The mark is remembered: write it to the server."""
        if mark is not self._next:
            return []
        return ask(self._server, Kind.RECORD, self._set, at, "setConfigValue", self.value, mark.text)

    def not_kept(self, mark: Mark, at: Moment) -> list[Command]:
        """It could not be remembered: nothing is written."""
        return self._failed("the ledger cannot store", AGAIN, at) if mark is self._next else []

    def _read(self, ended: Ended, at: Moment) -> list[Command]:
        if not isinstance(ended, Value):
            return self._hindered("read", ended, at)
        said = text_of(ended).strip()
        commands: list[Command] = []
        found = mark_from(said)
        expected = found in self._known if said else not self._known
        if not expected and not self._take_over and not self._read_again:
            # It may be the answer to another call: what stops forwarding, or makes Locum write, is read twice.
            self._read_again = True
            return ask(self._server, Kind.RECORD, self._read, at, "getConfigValue", self.value, fresh=True)
        self._read_again = False
        if self._take_over:
            text = f"{self._upstream}: this appliance has taken over the mark '{self.value}' at the server"
            commands.append(Tell("warning", text, {"upstream": self._upstream}))
        elif not said:
            if self._known:
                text = f"{self._upstream}: the mark '{self.value}' at the server is gone; was the server restored?"
                commands.append(Tell("warning", text, {"upstream": self._upstream}))
        else:
            wrong = self._wrong(found)
            if wrong:
                return self._stop(wrong)
        self._take_over = False
        return commands + self._remember(found)

    def _wrong(self, found: Mark | None) -> str:
        if found is None:
            return "holds something that Locum did not write"
        head = self._hash_of(found.highest)
        if head is None and found in self._known:
            return ""  # this ledger wrote it; the entry has gone into an archive since
        if head is None:
            return (
                f"names record {found.highest}, which this ledger does not have: this ledger is an older copy, or new, "
                "or another appliance has the same name"
            )
        if head.hex() != found.head:
            return "names records that are other ones here: another appliance has the same name"
        if found not in self._known:
            return "was written by another run of Locum than this ledger knows of: there is a copy of this ledger"
        return ""

    def _stop(self, wrong: str) -> list[Command]:
        self._busy, self._next = False, None
        self.stopped = f"the mark '{self.value}' at the server {wrong}"
        self._highest, self._left = -1, 0
        text = f"{self._upstream}: {self.stopped}; {WHAT_TO_DO}"
        return [Tell("error", text, {"upstream": self._upstream}, alarm="server")]

    def _remember(self, found: Mark | None) -> list[Command]:
        mark = self._next
        if mark is None:
            return []
        # A write whose fate is unknown may still land, so each that was not confirmed stays remembered for a while.
        stands = [found] if found is not None else []
        others = [each for each in self._known if each not in (found, mark)]
        self._known = [*others[-(MOST_REMEMBERED - 2) :], *stands, mark]
        remember = Remember(self.key, json.dumps([each.text for each in self._known]))
        return [Keep(remember, self._owner, MarkKept(mark))]

    def _set(self, ended: Ended, at: Moment) -> list[Command]:
        mark = self._next
        if not isinstance(ended, Value) or mark is None:
            return self._hindered("write", ended, at)
        self._busy, self._next, self.hindered = False, None, ""
        self._written, self._highest, self._left, self._granted = mark, mark.highest, BATCH, at.now
        return []

    def _hindered(self, did: str, ended: Ended, at: Moment) -> list[Command]:
        words = "an answer that makes no sense" if isinstance(ended, Value) else words_of(ended)
        silent = isinstance(ended, Lost | Nonsense)
        pause = AGAIN_AFTER_FAULT if isinstance(ended, Fault) else AGAIN
        return self._failed("" if silent else f"the mark '{self.value}' cannot be {did}: {words}", pause, at)

    def _failed(self, words: str, pause: float, at: Moment) -> list[Command]:
        self._busy, self._next, self._read_again = False, None, False
        self.hindered = words
        self._again_at = at.now + pause
        return []


def _remembered(text: str) -> list[Mark]:
    if not text:
        return []
    try:
        texts = json.loads(text)
    except ValueError:
        return []
    found = [mark_from(each) for each in texts if isinstance(each, str)] if isinstance(texts, list) else []
    return [mark for mark in found if mark is not None]
