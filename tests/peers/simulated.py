"""`locum simulate server` as a test runs it: one child process on free ports, and its book read with plain sqlite3.

All its faces are on: RADIUS, the Web Services (and over TLS, if it was given a certificate), terminals. `switch` turns
the switches for tests while it runs.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

from tests.peers import wire
from tests.peers.copier import Copier
from tests.peers.ports import LOOPBACK, free_ports
from tests.peers.skips import ROOT
from tests.peers.waiting import eventually

SECRET = b"lab-secret"
TOKEN = "lab-token"


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for loopback and its key, as files in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), *(x509.IPAddress(ip_address(each)) for each in LOOPBACK.values())]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(made.public_bytes(pem))
    form = serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    return certificate_file, key_file


class SimulatedServer:
    """The server on `home`; `arguments` go to its command line."""

    def __init__(self, home: Path, *arguments: str, bind: str = LOOPBACK[4]) -> None:
        self.home = home
        self.secret = SECRET
        self.address = bind
        self.auth_port, self.acct_port, self.xmlrpc_port, self.tls_port, self.terminal_port = free_ports(5)
        self.secret_file = home / "secret"
        home.mkdir(parents=True, exist_ok=True)
        self.secret_file.touch(mode=0o600)
        self.secret_file.write_bytes(SECRET + b"\n")
        self.log = home / "log"
        self.certificate: Path | None = None
        self._arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Its command line."""
        return [
            *(sys.executable, "-m", "appliance", "simulate", "server", "--dir", str(self.home / "server")),
            *("--bind", self.address, "--secret-file", str(self.secret_file)),
            *("--xmlrpc-port", str(self.xmlrpc_port), "--xmlrpc-tls-port", str(self.tls_port)),
            *("--terminal-port", str(self.terminal_port)),
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

    @property
    def url(self) -> str:
        """Where the Web Services are."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.xmlrpc_port}/rpc/api/xmlrpc"

    def api(self) -> Any:
        """The Web Services as Python's own client has them: `api().isUserExists(TOKEN, "aberg")`."""
        return ServerProxy(self.url, allow_none=True).api

    def switch(self, **switches: object) -> None:
        """Turn the switches for tests, from the next request on; those that are not named are as it was started."""
        new = self.home / "server" / "switches.new"
        new.write_text(json.dumps(switches))
        new.rename(new.with_name("switches.json"))

    def secure(self, *more: str) -> SimulatedServer:
        """Give it a certificate before it starts, `certificate` (PEM), for 127.0.0.1, ::1 and localhost."""
        self.certificate, key = make_certificate(self.home)
        self._arguments += ("--tls-certificate", str(self.certificate), "--tls-key", str(key), *more)
        return self

    def wait_until_dead(self, within: float = 10.0) -> None:
        """Wait until it has killed itself."""
        assert self.process is not None
        assert self.process.wait(within) == -signal.SIGKILL

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
