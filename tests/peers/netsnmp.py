"""Net-SNMP's own programs as a test runs them: questions and traps that end by themselves, and two daemons that are
ended by their process id.

No file of the machine's own set-up is read; names of LOCUM-MIB are known.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.peers.ports import LOOPBACK, free_port
from tests.peers.skips import ROOT, need_program
from tests.peers.waiting import eventually

MIBS = f"{ROOT / 'tests' / 'peers' / 'mibs'}:{ROOT / 'appliance' / 'snmp'}"
USER, AUTH, PRIV = "monitor", "authkey-of-monitor", "privkey-of-monitor"
SECURE = ("-v3", "-l", "authPriv", "-u", USER, "-a", "SHA-256", "-A", AUTH, "-x", "AES", "-X", PRIV)
NAMES = ("-m", "LOCUM-MIB", "-M", MIBS)
ENGINE = "0x8000000001020304"


def _environment(folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    return {**os.environ, "SNMPCONFPATH": str(folder), "SNMP_PERSISTENT_DIR": str(folder), "MIBS": "", "MIBDIRS": ""}


def at(port: int) -> str:
    """A port of this machine, as these programs take it."""
    return f"udp:{LOOPBACK[4]}:{port}"


class Asker:
    """snmpget and the others; state of theirs lies in `folder`."""

    def __init__(self, folder: Path) -> None:
        need_program("snmpget", "snmp")
        self._environment = _environment(folder)

    def run(self, program: str, *arguments: str, within: float = 30.0) -> subprocess.CompletedProcess[str]:
        """The program, to its end."""
        return subprocess.run(
            [need_program(program, "snmp"), *arguments],
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
            env=self._environment,
        )

    def says(self, program: str, *arguments: str) -> list[str]:
        """What it printed, line by line; it must succeed."""
        done = self.run(program, *arguments)
        assert done.returncode == 0, f"{program} {arguments}: {done.stdout}{done.stderr}"
        return done.stdout.splitlines()

    def get(self, port: int, *oids: str, access: tuple[str, ...] = SECURE) -> list[str]:
        """Values of objects, one a line, without their names."""
        said = self.says("snmpget", *access, *NAMES, "-r1", "-t3", "-Oqv", at(port), *oids)
        return [line.strip('"') for line in said]

    def fails(self, port: int, *access: str, oid: str = "1.3.6.1.2.1.1.1.0", wait: str = "1") -> str:
        """What it says of a question that is not answered."""
        done = self.run("snmpget", *access, *NAMES, "-r0", f"-t{wait}", at(port), oid)
        assert done.returncode != 0, done.stdout
        return done.stderr + done.stdout


class Daemon:
    """snmpd or snmptrapd on a port of its own."""

    def __init__(self, folder: Path, program: str, package: str, config: str, *arguments: str, port: int = 0) -> None:
        self.port = port or free_port()
        self.output = folder / "output"
        self._arguments = [need_program(program, package), "-f", "-C", "-c", str(folder / "conf"), *arguments]
        self._arguments.append(at(self.port))
        self._environment = _environment(folder)
        (folder / "conf").write_text(config)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(self._arguments, stdout=output, stderr=output, env=self._environment)
        eventually(lambda: b"NET-SNMP version" in self.output.read_bytes(), 10, "the daemon is up")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def text(self) -> str:
        return self.output.read_text("utf-8", "replace")


def snmpd(folder: Path) -> Daemon:
    """An agent: SNMPv1 and SNMPv2c with the communities "old" (reads) and "write", SNMPv3 with the user."""
    config = (
        "rocommunity old\nrwcommunity write\nsysLocation cellar\nsysContact nobody\n"
        f'createUser {USER} SHA-256 "{AUTH}" AES "{PRIV}"\nrouser {USER} priv\n'
    )
    return Daemon(folder, "snmpd", "snmpd", config, "-Lo", "-r")


def snmptrapd(folder: Path, port: int = 0, engine: str = "") -> Daemon:
    """A receiver that prints everything with numbers; `engine`: whose traps of SNMPv3 it can read."""
    config = "disableAuthorization yes\n"
    if engine:
        config += f'createUser -e {engine} {USER} SHA-256 "{AUTH}" AES "{PRIV}"\n'
    return Daemon(folder, "snmptrapd", "snmptrapd", config, "-Lo", "-On", "-m", "", port=port)
