"""HAProxy in TCP mode on one thread, the least that can stand between a terminal and its server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

from tests.peers.ports import LOOPBACK, free_port
from tests.peers.skips import need_program
from tests.peers.waiting import eventually

CONFIG = """\
global
    nbthread 1
    maxconn 2000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen terminals
    bind {front}
    server hq {back}
"""


class HaProxy:
    """HAProxy in front of one port, of loopback if not told otherwise."""

    def __init__(self, home: Path, back: int, *, address: str = LOOPBACK[4], server: str = LOOPBACK[4]) -> None:
        self.port = free_port()
        self._address = address
        home.mkdir(parents=True, exist_ok=True)
        file = home / "haproxy.cfg"
        file.write_text(CONFIG.format(front=f"{address}:{self.port}", back=f"{server}:{back}"))
        with (home / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [need_program("haproxy", "haproxy"), "-db", "-f", str(file)],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        eventually(self._listens, 5, f"HAProxy listens; see {home}/output")

    def _listens(self) -> bool:
        try:
            socket.create_connection((self._address, self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End it."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
