"""Prints the page to PDF with a browser that is installed, without a window and without a network.

Chromium, or Chrome, with a profile of its own that is thrown away. As root it runs without its sandbox, because it
refuses to start otherwise; what it is given is a page that forbids itself all scripts and loads nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from storage.errors import StorageError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LONGEST = 120.0
"""Seconds."""

_FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--proxy-server=127.0.0.1:9",
    "--no-pdf-header-footer",
    "--generate-pdf-document-outline",
)


class NoBrowser(StorageError):
    """There is no browser to print with, or it did not print. One line."""


def browser() -> str:
    """The browser's path. Raises NoBrowser."""
    for name in BROWSERS:
        found = shutil.which(name)
        if found is not None:
            return found
    raise NoBrowser(
        "--pdf needs Chromium, and none is installed here: apt-get install chromium; or print the HTML page to PDF "
        "with any browser"
    )


def print_page(program: str, page: Path, target: Path) -> None:
    """Print `page` to the new file `target`. Raises NoBrowser, OSError."""
    with tempfile.TemporaryDirectory(prefix="locum-report-", ignore_cleanup_errors=True) as profile:
        words = [program, *_FLAGS, f"--user-data-dir={profile}", f"--print-to-pdf={target}", page.as_uri()]
        if os.geteuid() == 0:
            words.insert(1, "--no-sandbox")
        said = _run(words, profile)
    if not target.is_file() or not target.stat().st_size:
        raise NoBrowser(
            f"{program} made no PDF ({said or 'it said nothing'}); print the HTML page with another browser"
        )


def _run(words: list[str], home: str) -> str:
    """The last line that the browser said. It gets a process group of its own, so that all of it can be ended."""
    environment = {**os.environ, "HOME": home}
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=LONGEST)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise NoBrowser(
            f"{words[0]} did not print within {LONGEST:.0f} s; print the HTML page with another browser"
        ) from error
    lines = said.decode(errors="replace").split("\n")
    return next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "")
