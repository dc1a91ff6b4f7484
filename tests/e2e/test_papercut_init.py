"""The way of somebody new: `locum init`, `locum check`, `locum run`, without a hand on the configuration but the port.

Issue 3, "`locum init`"; a PaperCut server, terminals over TLS with the pair that init makes, environment education.
"""

from __future__ import annotations

import ssl
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.peers.appliance import Appliance
from tests.peers.floor import Floor
from tests.peers.office import ADA, BO, write_users
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.simulated import TOKEN, SimulatedServer
from tests.peers.skips import ROOT
from tests.peers.terminal import STORED
from tests.peers.waiting import eventually

CODE = "735912-Oak"


class Written(Appliance):
    """An appliance whose configuration `locum init` has written; only the terminals' port is changed."""

    port = 0

    def config_text(self) -> str:
        return self.config.read_text()

    def move_to_a_free_port(self) -> None:
        self.port = free_port()
        self.write_config(self.config_text().replace("port = 9790", f"port = {self.port}"))


def test_init_check_run(tmp_path: Path) -> None:
    """Nothing is asked when all is given; modes are right; check ends with 1 while the server is away, then with 0."""
    with ExitStack() as endings:
        users = write_users(tmp_path / "users.csv")
        server = SimulatedServer(tmp_path / "server", "--users", str(users))
        home, code = tmp_path / "etc", tmp_path / "code"
        code.write_text(CODE + "\n")
        code.chmod(0o600)
        options = {
            "--dir": str(home),
            "--name": "library",
            "--environment": "education",
            "--upstream-dialect": "papercut",
            "--url": server.url,
            "--time-zone": "Europe/Berlin",
            "--token-file": "-",
            "--listen": "terminal",
            "--bind": LOOPBACK[4],
            "--tls": "self-signed",
            "--delay": "300ms",
            "--unlock-code-file": str(code),
        }
        command = [sys.executable, "-m", "appliance", "init", *(part for pair in options.items() for part in pair)]
        how = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 20, "check": False}
        done = subprocess.run(command, input=TOKEN + "\n", **how)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in home.iterdir()}
        assert modes["state"] == 0o700
        for name in ("locum.toml", "hq.token", "terminal.key"):
            assert modes[name] & 0o077 == 0, name
        again = subprocess.run(command, input=TOKEN + "\n", **how)  # type: ignore[call-overload]
        assert again.returncode != 0, "nothing that is there is overwritten"

        appliance = Written(home)
        appliance.move_to_a_free_port()
        checked = appliance.run_to_its_end("check")
        assert checked.returncode == 1, "the server is not there yet"
        assert "error" in checked.stdout
        endings.callback(server.stop)
        server.start()
        checked = appliance.run_to_its_end("check")
        assert checked.returncode == 0, checked.stdout

        endings.callback(appliance.stop)
        floor = Floor()
        endings.callback(floor.close)
        appliance.start()
        appliance.wait_until_proven()
        assert appliance.run_to_its_end("check").returncode == 0, "beside the running one too"
        trusts = ssl.create_default_context(cafile=str(home / "terminal.crt"))
        trusts.check_hostname = False
        terminal = floor.terminal(appliance.port, "KM-1", tls=trusts)
        session = terminal.log_in(ADA)
        assert terminal.job(session, pages=2) == STORED
        terminal.logout(session)
        drill = ("--for", "10m", "--reason", "the first one")
        assert appliance.run_to_its_end("drill", "start", "--all", *drill).returncode == 0
        assert terminal.unlock(CODE) == (0, 0)
        session = terminal.log_in(BO)
        assert terminal.job(session, pages=3) == STORED
        terminal.logout(session)
        assert appliance.run_to_its_end("drill", "stop", "--all").returncode == 0
        booked = "SELECT user, pages FROM jobs ORDER BY number"
        eventually(lambda: server.query(booked) == [("ada", 2), ("bo", 3)], 5, "both are booked")
