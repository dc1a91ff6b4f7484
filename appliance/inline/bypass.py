"""What passed by Locum in line: between two runs, when its next heartbeat took longer than the kernel waits, and while
the rules were gone from the kernel.

The time of the last beat that the rules took stands beside the ledger as the modification time of a file, written once
a second, so that a start knows since when everything passed. What passed is in no ledger; the note `bypass` says
between which times.
"""

from __future__ import annotations

import os
from pathlib import Path

from appliance.inline.pulse import Pulse
from appliance.inline.rules import ALIVE_MS
from proxy.commands import Command, Keep, Tell
from proxy.events import Moment
from storage import times
from storage.records import Note

NAME = "inline.beat"
NOTE_EVERY = 1.0


class Bypass:
    """`pulse` makes the kernel divert for another moment."""

    def __init__(self, state_dir: Path, pulse: Pulse) -> None:
        self._file = state_dir / NAME
        self._pulse = pulse
        self._last = self._noted()
        self._now: float | None = None
        self._write_at = float("-inf")
        self._gone = False

    @property
    def everything_passes(self) -> bool:
        """Whether the rules were gone when it beat last."""
        return self._gone

    def beats(self, at: Moment) -> list[Command]:
        """The appliance works: say so to the kernel, and note what has passed by since it was last said."""
        if not self._pulse.beat():
            return self._rules_are_gone()
        last, self._last = self._last, at.wall
        why = self._passed(at)
        self._now, self._gone = at.now, False
        if at.now >= self._write_at:
            self._write_at = at.now + NOTE_EVERY
            self._write(at)
        if not last or not why:
            return []
        last = min(last, at.wall)  # a clock that was set back
        note = Note(at.wall, "bypass", {"first": last, "last": at.wall, "why": why})
        text = f"{why} from {times.text(last)} to {times.text(at.wall)}: what passed in line is not in the ledger"
        return [Keep(note, wait=False), Tell("warning", text, keep=False)]

    def _passed(self, at: Moment) -> str:
        """Why something may have passed since the last beat, "" if nothing can have."""
        if self._now is None:
            return "Locum did not run"
        if self._gone:
            return "Locum's rules were not in the kernel"
        hung = (at.now - self._now) * 1000 > ALIVE_MS
        return "Locum was not quick enough, or the machine stood still" if hung else ""

    def _rules_are_gone(self) -> list[Command]:
        if self._gone:
            return []
        self._gone = True
        text = "Locum's rules are not in the kernel: in line, everything passes; put them back with: locum inline up"
        return [Tell("warning", text, keep=False)]

    def _noted(self) -> int:
        """Milliseconds UTC of the last beat of an earlier run, 0 if there was none."""
        try:
            return self._file.stat().st_mtime_ns // 1_000_000
        except OSError:
            return 0

    def _write(self, at: Moment) -> None:
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
            os.close(descriptor)
            os.utime(self._file, ns=(at.wall * 1_000_000,) * 2)
        except OSError:
            # A full disk: the next start believes the gap to be longer than it was, which is the safe side.
            return
