"""The stage of the demo: a directory, ports of loopback, secrets, a config, and two child processes.

The children are `locum simulate server` and `locum run`, started as a user would start them; other commands run once
and end. They are ended by the ids of our own children only, whatever way the demo itself ends.
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
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import appliance
from appliance.demo.floor import Place
from appliance.simulator.copier import Target
from appliance.simulator.switches import SWITCHES_NAME
from appliance.simulator.terminal import TerminalTarget

LOOPBACK = "127.0.0.1"
DELAY = 2
WINDOW = 6
"""How many records may be on their way at once, and so the most that one cut can leave in doubt."""
COMMAND_PATIENCE = 60.0
_LOWEST_PORT, _HIGHEST_PORT = 20_000, 32_000
"""Below what the kernel gives to clients, so that none of them takes a port whose server is dead at the moment."""


class DemoFailed(Exception):
    """The demo cannot go on. The text is one line."""


_PROGRAM = (sys.executable, "-m", "appliance")


def _environment() -> dict[str, str]:
    code = str(Path(appliance.__file__).parents[1])
    path = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}


class Child:
    """One child process that writes its log to a file, over several lives. `is_to_live`: its end would be a failure."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        self.is_to_live = False
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 before its first life."""
        return self._process.pid if self._process else 0

    def start(self, *, doomed: bool = False) -> None:
        """Begin a life; a doomed one ends by itself."""
        self.is_to_live = not doomed
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_PROGRAM, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                # Ctrl-C is for the demo, which then ends its children itself.
                start_new_session=True,
            )

    @property
    def lives(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def must_live(self) -> None:
        """Raises DemoFailed, with the last line of its log, if it has ended."""
        if self._process is not None and self._process.poll() is not None:
            lines = self.log.read_text(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
            raise DemoFailed(f"{self.name} ended with status {self._process.returncode}: {last}")

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.is_to_live = False
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def stop(self, within: float = 10.0) -> int:
        """SIGTERM, and wait; gives its exit status. Raises DemoFailed if it does not end."""
        self.is_to_live = False
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

    def __init__(self, directory: Path, places: Sequence[Place]) -> None:
        self.state_dir = directory / "state"
        self.book_dir = directory / "server"
        for each in (self.state_dir, self.book_dir):
            each.mkdir(mode=0o700)
        web, terminals, auth, accounting = _free_ports(4)
        self.server_address = LOOPBACK, web
        self.token = _write_secret(directory / "server.token").decode()
        self.terminal_target = TerminalTarget(LOOPBACK, terminals)
        self.radius_target = Target(LOOPBACK, auth, accounting, _write_secret(directory / "copiers.secret"))
        self._config = directory / "locum.toml"
        self._config.touch(mode=0o600)
        text = _config(directory, web, self.terminal_target, self.radius_target)
        self._config.write_text(text + "".join(_device(place) for place in places), "utf-8")
        self.server = Child(
            "the Application Server",
            [
                *("simulate", "server", "--dir", str(self.book_dir), "--token", self.token),
                *("--xmlrpc-port", str(web), "--terminal-port", "0"),
            ],
            directory / "server.log",
        )
        self.locum = Child("Locum", ["run", "-c", str(self._config)], directory / "locum.log")

    @property
    def ledger(self) -> Path:
        """Locum's ledger."""
        return self.state_dir / "ledger.db"

    def command(self, *words: str, given: str) -> None:
        """Run one command of Locum's with this on its standard input. Raises DemoFailed."""
        line = [*_PROGRAM, *words, "-c", str(self._config)]
        named = f"locum {' '.join(words)}"
        try:
            done = subprocess.run(
                line,
                input=given,
                env=_environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=COMMAND_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"'{named}' did not end in {COMMAND_PATIENCE:.0f} s") from None
        if done.returncode != 0:
            said = done.stderr.strip().rpartition("\n")[2]
            raise DemoFailed(f"'{named}' ended with status {done.returncode}: {said}")

    def doom_server(self, after: int) -> None:
        """In its next life the server dies once it has committed so many jobs, and has not answered the last."""
        (self.book_dir / SWITCHES_NAME).write_text(json.dumps({"die_after_commit": after}))

    def spare_server(self) -> None:
        """It lives on from now."""
        (self.book_dir / SWITCHES_NAME).unlink(missing_ok=True)

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


def _config(directory: Path, web: int, terminals: TerminalTarget, radius: Target) -> str:
    return f"""# Made by locum demo. An outage of {DELAY} s is short, so that nobody has to wait; a minute is usual.

[appliance]
name = "demo"
state_dir = {_quoted(directory / "state")}

[[upstream]]
name = "print"
dialect = "papercut"
url = "http://{LOOPBACK}:{web}/rpc/api/xmlrpc"
token_file = {_quoted(directory / "server.token")}
probe_interval = "500ms"

[[listen]]
dialect = "terminal"
bind = "{terminals.host}"
port = {terminals.port}
upstream = "print"

[[listen]]
dialect = "radius"
bind = "{radius.address}"
auth_port = {radius.auth_port}
accounting_port = {radius.accounting_port}
upstream = "print"
clients = [{{ network = "127.0.0.0/8", secret_file = {_quoted(directory / "copiers.secret")} }}]

[offline]
delay = "{DELAY}s"
drain_window = {WINDOW}
"""


def _device(place: Place) -> str:
    if not place.library:
        return ""
    return f"""
[[device]]
id = "{place.name}"
printer = {_text(place.printer)}
offline = {{ environment = "education" }}
"""


def _quoted(path: Path) -> str:
    return _text(str(path))


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _free_ports(count: int) -> list[int]:
    """So many different ports that nobody has, for UDP or TCP. Raises DemoFailed."""
    found: set[int] = set()
    for _ in range(1000):
        port = random.randrange(_LOWEST_PORT, _HIGHEST_PORT)
        if all(_is_free(kind, port) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)):
            found.add(port)
        if len(found) == count:
            return list(found)
    raise DemoFailed(f"there are no free ports between {_LOWEST_PORT} and {_HIGHEST_PORT}")


def _is_free(kind: socket.SocketKind, port: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
