"""`locum simulate server` as a test runs it: one child process on free ports, and its book read with plain sqlite3."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.peers import wire
from tests.peers.copier import Copier
from tests.peers.ports import LOOPBACK, free_ports
from tests.peers.skips import ROOT
from tests.peers.waiting import eventually

SECRET = b"lab-secret"


class SimulatedServer:
    """The server on `home`; `arguments` go to its command line."""

    def __init__(self, home: Path, *arguments: str, bind: str = LOOPBACK[4]) -> None:
        self.home = home
        self.secret = SECRET
        self.address = bind
        self.auth_port, self.acct_port = free_ports(2)
        self.secret_file = home / "secret"
        home.mkdir(parents=True, exist_ok=True)
        self.secret_file.touch(mode=0o600)
        self.secret_file.write_bytes(SECRET + b"\n")
        self.log = home / "log"
        self._arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Its command line."""
        return [
            *(sys.executable, "-m", "appliance", "simulate", "server", "--dir", str(self.home / "server")),
            *("--bind", self.address, "--secret-file", str(self.secret_file)),
            *("--auth-port", str(self.auth_port), "--accounting-port", str(self.acct_port), *self._arguments),
        ]

    def start(self, within: float = 10.0) -> SimulatedServer:
        """Start it and wait until it answers Status-Server on both ports."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        eventually(self._answers, within, "it answers")
        return self

    def copier(self, name: str = "copier-1", secret: bytes | None = None) -> Copier:
        """A copier in front of it, without Locum between."""
        return Copier(self.auth_port, self.acct_port, secret or self.secret, name, self.address)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        copier = self.copier()
        try:
            for line in (copier.auth, copier.acct):
                request = wire.status_server(self.secret, line.next_identifier())
                if line.exchange(request, self.secret, 0.2, None) is None:
                    return False
        except ConnectionRefusedError:
            return False
        finally:
            copier.close()
        return True

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask its book."""
        with closing(sqlite3.connect(f"file:{self.home / 'server' / 'book.db'}?mode=ro", uri=True, timeout=10)) as book:
            return book.execute(sql).fetchall()

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; gives its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        return self.process.wait(10)
