"""The ledger's checkpoints on their way off the box: to syslog, and into `checkpoints.log` beside the ledger.

Whoever has such a line can show that a ledger was cut or replaced, so each leaves as soon as it stands in the ledger.
`checkpoints.log` is the witness nearest at hand; what it lacks at a start (the process was killed before it wrote, or
a command signed while it was stopped) is made good then. Between checkpoints, `ledger.head` says how far the ledger has
come, so that a start notices a copy of a minute ago. Here is also the clock that asks for a checkpoint.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path

from proxy.commands import Command, Keep, Tell
from proxy.events import Moment
from storage.checkpoints import EVERY_MS, Checkpoint, lines_in
from storage.records import Sign
from storage.witness import Mark, mark_of, pair_of

NAME = "checkpoints.log"
HEAD_NAME = "ledger.head"
MOST_MISSING = 1_000
"""So many of the newest checkpoints are looked for in `checkpoints.log` at a start."""
RETRY_AFTER = 5.0

_TAIL = 1 << 20


class Witness:
    """`made`: where the ledger puts its new checkpoints; `head`: number and hash of its last entry. To be used on one
    thread.
    """

    def __init__(
        self, state_dir: Path, made: deque[Checkpoint], head: Callable[[], tuple[int, bytes]], at: Moment
    ) -> None:
        self._file = state_dir / NAME
        self._head_file = state_dir / HEAD_NAME
        self._head = head
        self._head_written = 0
        self._made = made
        self._unwritten: deque[Checkpoint] = deque(maxlen=MOST_MISSING)
        self._ill = False
        self._write_at = at.now
        self._sign_at = at.now + EVERY_MS / 1000

    def catch_up(self, known: Sequence[Checkpoint], at: Moment) -> list[Command]:
        """At a start: what to tell and to write of the checkpoints in the ledger (the newest last) that
        `checkpoints.log` lacks. The newest of them tells for all: it signs what they signed.
        """
        text = tail(self._file)
        missing: deque[Checkpoint] = deque()
        for each in reversed(known):
            if each.line in text:
                break
            missing.appendleft(each)
        self._unwritten.extend(missing)
        return [*map(_told, list(missing)[-1:]), *self._write(at)]

    def look(self, at: Moment) -> list[Command]:
        """What to tell and to write of new checkpoints; a new one is asked for when the last is 15 minutes old."""
        commands = self.carry(at)
        if at.now >= self._sign_at:
            self._sign_at = at.now + EVERY_MS / 1000
            commands.append(Keep(Sign(at.wall), wait=False))
        return commands

    def carry(self, at: Moment) -> list[Command]:
        """What to tell and to write of new checkpoints."""
        commands: list[Command] = []
        while self._made:
            fresh = self._made.popleft()
            self._unwritten.append(fresh)
            self._sign_at = at.now + EVERY_MS / 1000
            commands.append(_told(fresh))
        return commands + self._write(at)

    def _write(self, at: Moment) -> list[Command]:
        seq, head = self._head()
        if (not self._unwritten and seq == self._head_written) or at.now < self._write_at:
            return []
        try:
            if self._unwritten:
                _append(self._file, "".join(f"{each.line}\n" for each in self._unwritten))
                self._unwritten.clear()
            _overwrite(self._head_file, f"{seq}:{head.hex()}\n")
        except OSError as error:
            self._write_at = at.now + RETRY_AFTER
            said, self._ill = self._ill, True
            file = error.filename or self._file
            text = f"{file}: cannot be written ({error.strerror}); look at its owner and at the room on the disk"
            return [] if said else [Tell("error", text)]
        self._head_written = seq
        said, self._ill = self._ill, False
        return [Tell("info", f"{self._file}: is written again")] if said else []


def newest(state_dir: Path) -> Mark | None:
    """The newest entry of its ledger that a state directory knows of beside it; None if it knows of none."""
    lines = list(lines_in(tail(state_dir / NAME)))
    signed = mark_of(lines[-1], NAME) if lines else None
    head = pair_of(tail(state_dir / HEAD_NAME), HEAD_NAME)
    return max((mark for mark in (signed, head) if mark is not None), key=attrgetter("seq"), default=None)


def heard_of(state_dir: Path) -> frozenset[str]:
    """The digests of the checkpoints in `checkpoints.log`, of each ledger that was here."""
    return frozenset(each.digest for each in lines_in(tail(state_dir / NAME)))


def tail(file: Path) -> str:
    """The end of a file, where more than MOST_MISSING checkpoints have room; "" if it cannot be read."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
            return stream.read(_TAIL).decode("ascii", "replace")
    except OSError:
        return ""


def _told(checkpoint: Checkpoint) -> Tell:
    # As a line of App.Log it would be an entry that needs a checkpoint of its own.
    return Tell("info", checkpoint.line, keep=False, alarm="checkpoint")


def _append(file: Path, lines: str) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    with open(descriptor, "ab") as stream:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # the last writing was cut off
            lines = "\n" + lines
        stream.write(lines.encode())


def _overwrite(file: Path, line: str) -> None:
    """In place: a kill at any moment leaves the old line or the new one."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        os.pwrite(descriptor, line.encode(), 0)
        os.ftruncate(descriptor, len(line))
    finally:
        os.close(descriptor)
