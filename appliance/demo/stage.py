"""The stage of the demo: a directory, ports of loopback, secrets, a config, and two child processes.

The children are `locum simulate server` and `locum run`, started as a user would start them. They are ended by the
ids of our own children only, whatever way the demo itself ends.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import appliance
from appliance.simulator.copier import Target

LOOPBACK = "127.0.0.1"
DELAY = 2
_LOWEST_PORT, _HIGHEST_PORT = 20_000, 32_000
"""Below what the kernel gives to clients, so that none of them takes a port whose server is dead at the moment."""


class DemoFailed(Exception):
    """The demo cannot go on. The text is one line."""


class Child:
    """One child process that writes its log to a file, over several lives."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 before its first life."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Begin a life."""
        code = str(Path(appliance.__file__).parents[1])
        path = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH", "")]))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "appliance", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
                # Ctrl-C is for the demo, which then ends its children itself.
                start_new_session=True,
            )

    def must_live(self) -> None:
        """Raises DemoFailed, with the last line of its log, if it has ended."""
        if self._process is not None and self._process.poll() is not None:
            lines = self.log.read_text(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
            raise DemoFailed(f"{self.name} ended with status {self._process.returncode}: {last}")

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def stop(self, within: float = 10.0) -> int:
        """SIGTERM, and wait; gives its exit status. Raises DemoFailed if it does not end."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DemoFailed(f"{self.name} did not end in {within:.0f} s after SIGTERM") from None


class Stage:
    """Everything that the story needs. As a context it ends the children."""

    def __init__(self, directory: Path) -> None:
        self.state_dir = directory / "state"
        self.book_dir = directory / "server"
        ports = _free_ports(4)
        server_secret = _write_secret(directory / "server.secret")
        copier_secret = _write_secret(directory / "copiers.secret")
        self.server_target = Target(LOOPBACK, ports[0], ports[1], server_secret)
        self.locum_target = Target(LOOPBACK, ports[2], ports[3], copier_secret)
        config = directory / "locum.toml"
        config.touch(mode=0o600)
        config.write_text(_config(directory, self.state_dir, self.server_target, self.locum_target), "utf-8")
        self.server = Child(
            "the Application Server",
            [
                *("simulate", "server", "--dir", str(self.book_dir)),
                *("--auth-port", str(ports[0]), "--accounting-port", str(ports[1])),
                *("--secret-file", str(directory / "server.secret")),
            ],
            directory / "server.log",
        )
        self.locum = Child("Locum", ["run", "-c", str(config)], directory / "locum.log")

    @property
    def ledger(self) -> Path:
        """Locum's ledger."""
        return self.state_dir / "ledger.db"

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.locum.kill()
        self.server.kill()


def _write_secret(path: Path) -> bytes:
    secret = secrets.token_hex(16).encode()
    path.touch(mode=0o600)
    path.write_bytes(secret + b"\n")
    return secret


def _config(directory: Path, state_dir: Path, server: Target, locum: Target) -> str:
    return f"""# Made by locum demo. An outage of {DELAY} s is short, so that nobody has to wait; a minute is usual.

[appliance]
name = "demo"
state_dir = {_quoted(state_dir)}

[[upstream]]
name = "hq"
dialect = "radius"
address = "{server.address}"
auth_port = {server.auth_port}
accounting_port = {server.accounting_port}
secret_file = {_quoted(directory / "server.secret")}
answer_timeout = "500ms"
probe_interval = "500ms"

[[listen]]
dialect = "radius"
bind = "{locum.address}"
auth_port = {locum.auth_port}
accounting_port = {locum.accounting_port}
upstream = "hq"
clients = [{{ network = "127.0.0.0/8", secret_file = {_quoted(directory / "copiers.secret")} }}]

[offline]
delay = "{DELAY}s"
"""


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)


def _free_ports(count: int) -> list[int]:
    """So many different UDP ports that nobody has. Raises DemoFailed."""
    found: set[int] = set()
    for _ in range(1000):
        port = random.randrange(_LOWEST_PORT, _HIGHEST_PORT)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        found.add(port)
        if len(found) == count:
            return list(found)
    raise DemoFailed(f"there are no free UDP ports between {_LOWEST_PORT} and {_HIGHEST_PORT}")
