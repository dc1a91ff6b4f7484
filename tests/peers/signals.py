"""Processes that are to be interrupted."""

from __future__ import annotations

import signal


def heeds_signals() -> None:
    """For `preexec_fn`: a shell that runs the tests in the background lets them, and their children, ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
