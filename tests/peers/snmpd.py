"""net-snmp's own agent with one user of SNMPv3 (SHA-256, AES), on a port of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.peers.ports import LOOPBACK, free_port
from tests.peers.skips import need_program
from tests.peers.waiting import eventually

USER, AUTH_KEY, PRIV_KEY = "locum", "auth-key-of-locum", "priv-key-of-locum"
COMMUNITY = "public"


class Snmpd:
    """Answers sysDescr and what else it has to USER (authPriv) and COMMUNITY."""

    def __init__(self, folder: Path) -> None:
        program = need_program("snmpd", "snmpd")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = folder / "snmpd.conf"
        config.write_text(
            f'rocommunity {COMMUNITY}\nrouser {USER} priv\ncreateUser {USER} SHA-256 "{AUTH_KEY}" AES "{PRIV_KEY}"\n',
            "utf-8",
        )
        self._log = (folder / "snmpd.log").open("wb")
        self._process = subprocess.Popen(
            [program, "-f", "-Lo", "-C", "-c", config, "-I", "-smux", f"udp:{LOOPBACK[4]}:{self.port}"],
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "SNMP_PERSISTENT_DIR": str(folder), "MIBS": ""},
        )
        eventually(self._is_up, within=15, saying="snmpd listens", every=0.05)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text("utf-8", "replace")[-2000:]
        wanted = f":{self.port:04X} "
        return any(wanted in line for line in Path("/proc/net/udp").read_text("ascii").splitlines())

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._log.close()
