"""Switches for tests: how the server misbehaves, from the command line and, while it runs, from `switches.json`.

The file stands beside the book and is looked at before each request; its keys replace what the command line said. A
file that cannot be read leaves everything as it was, with a line in the log. Write it whole, by renaming.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

SWITCHES_NAME = "switches.json"

Unknown = Literal["fault", "create"]
Answer = Literal["", "html", "half-xml", "500", "503", "huge", "never"]


class Switches(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is switched.

    `unknown_user`: what becomes of a job whose user nobody knows; `unknown_printer`: the same for printers ("": fault
    where printers were named, else create). `answer`: what comes instead of an answer of the Web Services; "never"
    holds for terminals too. `only`: only for this call ("api.processJob"), or "terminal". `answer_late`: seconds.
    `die_after_commit`: end like kill -9 once so many jobs of `processJob`, JOB and RECORD were committed, before the
    last is answered; 0 never. `refuse_address`: as if the caller's address were not allowed.
    """

    unknown_user: Unknown = "fault"
    unknown_printer: Literal["", "fault", "create"] = ""
    answer: Answer = ""
    only: str = ""
    answer_late: float = 0.0
    die_after_commit: int = 0
    refuse_address: bool = False


class SwitchBoard:
    """The switches now. `complain` gets a line about a file that cannot be read."""

    def __init__(self, given: Switches, directory: Path, complain: Callable[[str], None]) -> None:
        self._given = given
        self._now = given
        self._path = directory / SWITCHES_NAME
        self._complain = complain
        self._seen: tuple[int, int, int] | None = None

    def now(self) -> Switches:
        """The switches, from the file if it changed."""
        try:
            about = self._path.stat()
            seen = about.st_mtime_ns, about.st_size, about.st_ino
        except OSError:
            seen = None
        if seen != self._seen:
            self._seen = seen
            self._read()
        return self._now

    def _read(self) -> None:
        if self._seen is None:
            self._now = self._given
            return
        try:
            told = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Any])
            self._now = msgspec.convert({**msgspec.to_builtins(self._given), **told}, Switches)
        except (OSError, msgspec.DecodeError) as error:
            self._complain(f"{self._path}: cannot be read ({error}); the switches stay as they were")
