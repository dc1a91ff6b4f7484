"""Locum itself as a test runs it: its own folder, config, secrets with the right modes, and one child process.

`python -m appliance run -c FILE` is started as a user would; what it says comes from `status --json` and from the
ledger, read with plain sqlite3. A traceback in its log fails the test at `stop`. Ended by process id only.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

from tests.peers.skips import ROOT
from tests.peers.waiting import eventually


def toml(value: object) -> str:
    """A TOML value; a mapping becomes an inline table."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    return json.dumps(str(value))


def table(header: str, keys: Mapping[str, object]) -> str:
    """A TOML table with its header."""
    return "\n".join([header, *(f"{key} = {toml(value)}" for key, value in keys.items() if value is not None)]) + "\n"


class Appliance(ABC):
    """One appliance in `home`; `state_dir` may lie elsewhere (a small disk)."""

    def __init__(
        self, home: Path, *, state_dir: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.home = home
        self.state_dir = state_dir or home / "state"
        self.config = home / "locum.toml"
        self.log = home / "log"
        self.environment = dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.state_dir.chmod(0o700)

    @abstractmethod
    def config_text(self) -> str:
        """The config as it stands."""

    def write_secret(self, name: str, secret: bytes) -> Path:
        """A secret file that only its owner may read."""
        file = self.home / name
        file.touch(mode=0o600)
        file.chmod(0o600)
        file.write_bytes(secret + b"\n")
        return file

    def write_config(self, text: str | None = None) -> None:
        """Write the config file, from the parts or as given."""
        self.config.touch(mode=0o600)
        self.config.chmod(0o600)
        self.config.write_text(self.config_text() if text is None else text)

    def command(self, *arguments: str) -> list[str]:
        """The command line of `locum` with our config."""
        return [sys.executable, "-m", "appliance", *arguments, "-c", str(self.config)]

    def launch(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start the process and return at once."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("run"),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment, **environment},
                start_new_session=True,
            )
        return self.process

    def start(self, within: float = 10.0, **environment: str) -> Self:
        """Start it and wait until it answers `status`."""
        self.launch(**environment)
        eventually(self.is_ready, within=within, saying="Locum is ready")
        return self

    def is_ready(self) -> bool:
        """Whether it answers `status`; raises if the process is gone."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"Locum ended with {self.process.returncode}:\n{self.log_text()[-4000:]}")
        return self.status_or_none() is not None

    def run_to_its_end(
        self, *arguments: str, within: float = 20.0, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `locum ARGUMENTS -c CONFIG` and return what it said."""
        return subprocess.run(
            self.command(*arguments),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
            input=stdin,
            env={**os.environ, **self.environment},
        )

    def ask(self, command: str, **arguments: object) -> dict[str, Any] | None:
        """One command over the control socket: a line of JSON each way; None while nobody answers there.

        The folder is opened first because the kernel takes paths of 107 bytes only (unix(7)).
        """
        folder = os.open(self.state_dir, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(5)
                line.connect(f"/proc/self/fd/{folder}/control.sock")
                line.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
                with line.makefile("rb") as answers:
                    answer: dict[str, Any] = json.loads(answers.readline() or b"{}")
        except OSError:
            return None
        finally:
            os.close(folder)
        return answer

    def status_or_none(self) -> dict[str, Any] | None:
        """What `status --json` would say, asked for directly; None while nobody answers."""
        answer = self.ask("status")
        if not answer or not answer.get("ok"):
            return None
        told: dict[str, Any] = answer["result"]
        return told

    def status(self) -> dict[str, Any]:
        """What `status --json` says."""
        told = self.status_or_none()
        assert told is not None, f"no status:\n{self.log_text()[-4000:]}"
        return told

    def state(self) -> str:
        """The upstream's state."""
        return str(self.status()["upstreams"][0]["state"])

    def wait_for_state(self, *states: str, within: float = 10.0) -> None:
        """Wait until the upstream's state is one of `states`."""
        eventually(lambda: self.state() in states, within, f"state is {' or '.join(states)}")

    def wait_until_proven(self, within: float = 10.0) -> None:
        """Wait until the server was authentically heard and the state is online."""

        def proven() -> bool:
            told = self.status()["upstreams"][0]
            return bool(told["proven"]) and told["state"] == "online"

        eventually(proven, within, "proven and online")

    def outbox(self) -> dict[str, Any]:
        """The outbox as `status` counts it."""
        counts: dict[str, Any] = self.status()["outbox"]
        return counts

    def wait_until_drained(self, within: float = 20.0) -> None:
        """Wait until the state is online and nothing waits or is in flight."""

        def drained() -> bool:
            told = self.status()
            still = int(told["outbox"]["waiting"]) + int(told["outbox"]["sent"])
            return str(told["upstreams"][0]["state"]) == "online" and still == 0

        eventually(drained, within, "online, nothing waits")

    def query(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Read the ledger, whether Locum runs or not."""
        with closing(sqlite3.connect(f"file:{self.state_dir / 'ledger.db'}?mode=ro", uri=True, timeout=10)) as book:
            book.row_factory = sqlite3.Row
            return book.execute(sql, values).fetchall()

    def kill(self) -> None:
        """kill -9."""
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(10)

    def reload(self) -> None:
        """SIGHUP."""
        self._signal(signal.SIGHUP)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, number)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still (SIGSTOP) for as long as the block lasts."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def stop(self, within: float = 15.0) -> None:
        """SIGTERM; it must end with 0 and have logged no traceback. Nothing to do if it is not running."""
        running = self.process is not None and self.process.poll() is None
        if running:
            self._signal(signal.SIGTERM)
            assert self.process is not None
            try:
                code = self.process.wait(within)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"SIGTERM did not end Locum in {within:g} s:\n{self.log_text()[-4000:]}") from None
            assert code == 0, f"ended with {code}:\n{self.log_text()[-4000:]}"
        self.assert_no_traceback()

    def assert_no_traceback(self) -> None:
        """Fail if its log has a traceback."""
        text = self.log_text()
        at = text.find("Traceback")
        assert at < 0, f"a traceback in the log:\n{text[max(0, at - 500) : at + 4000]}"

    def log_text(self) -> str:
        """All it wrote to standard output and error."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def memory(self) -> int:
        """Resident bytes of the process now."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
