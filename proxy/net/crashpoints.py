"""Numbered steps between a commit and a send, at which a test may kill the process to see that nothing is lost.

With LOCUM_CRASH_AT=N in the environment the process kills itself (SIGKILL) when it first reaches step N. Without it,
and in every installation, `reached` compares two numbers.
"""

from __future__ import annotations

import os
import signal

BEFORE_COMMIT = 1
AFTER_COMMIT = 2
BEFORE_THEN = 3
AFTER_THEN = 4
BEFORE_KEPT = 5
AFTER_KEPT = 6
BEFORE_SEND = 7
AFTER_SEND = 8
STEPS = range(1, 9)

_wanted = int(os.environ.get("LOCUM_CRASH_AT", "0"))
_armed_after = int(os.environ.get("LOCUM_CRASH_AFTER", "0"))
_times = 0


def armed() -> bool:
    """Whether a test wants this process to be killed at some step."""
    return _wanted != 0


def reached(step: int) -> None:
    """This step is about to be done. LOCUM_CRASH_AFTER=M lets it pass M times first."""
    global _times
    if step != _wanted:
        return
    _times += 1
    if _times > _armed_after:
        os.kill(os.getpid(), signal.SIGKILL)
