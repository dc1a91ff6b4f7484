"""A helper of ours that runs in a process of its own and is told things by lines of JSON.

The child reads commands from its standard input and writes one line of JSON for each; the first line says that it is
ready. So a relay or a sink does not share the test's interpreter lock.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tests.peers.skips import ROOT


class Child:
    """`python -m module arguments`, ready when the constructor returns."""

    def __init__(self, module: str, arguments: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            text=True,
            bufsize=1,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"{self.process.args!r} ended with {self.process.wait(5)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def tell(self, **command: object) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._read()

    def stop(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Commands:
    """The child's end: complete lines from standard input, without blocking."""

    def __init__(self) -> None:
        self._buffer = b""

    def read(self) -> list[dict[str, Any]]:
        """The commands that have come; raises EOFError when the parent is gone."""
        import os

        got = os.read(0, 65536)
        if not got:
            raise EOFError
        *lines, self._buffer = (self._buffer + got).split(b"\n")
        return [json.loads(line) for line in lines if line.strip()]

    @staticmethod
    def answer(**what: object) -> None:
        """Write one answer."""
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()
