"""What tests of streams need: a reactor that the test turns, flows that remember, peers in threads, certificates."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.epollreactor import EPollReactor

from proxy.commands import Command, Tell
from proxy.events import Event
from proxy.net.driver import Driver
from storage.ledger import Ledger

WALL = 1_795_000_000_000
T = TypeVar("T")


class Script:
    """A flow that answers events with what the test says, and remembers them."""

    def __init__(self, answer: Callable[[Event], list[Command]] | None = None) -> None:
        self.seen: list[Event] = []
        self.answer = answer

    def handle(self, event: Event) -> list[Command]:
        self.seen.append(event)
        return self.answer(event) if self.answer is not None else []

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.seen if isinstance(event, kind)]


class Bench:
    """A driver on a reactor that turns while the test waits for something."""

    def __init__(self, folder: Path, **how: Any) -> None:
        self.reactor: Any = EPollReactor()
        self.ledger = Ledger.open(folder / "ledger.db", WALL)
        self.told: list[Tell] = []
        self.driver = Driver(self.reactor, self.ledger, self.told.append, **how)

    def until(self, condition: Callable[[], T], within: float = 5.0) -> T:
        """Turn the reactor until `condition` is true; what it said."""
        deadline = time.monotonic() + within
        while not (answer := condition()):
            assert time.monotonic() < deadline, "it never came"
            self.reactor.iterate(0.01)
        return answer

    def turn(self, seconds: float = 0.1) -> None:
        """Turn the reactor for a while: to see that something does not come."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.reactor.iterate(0.01)

    def meanwhile(self, do: Callable[[], T], within: float = 5.0) -> T:
        """Do something that blocks in a thread, while the reactor turns; its result."""
        future: Future[T] = Future()

        def work() -> None:
            try:
                future.set_result(do())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        self.until(future.done, within)
        return future.result()

    def close(self) -> None:
        self.driver.close()
        self.turn(0.02)
        self.reactor.removeAll()
        pool = self.reactor.threadpool
        if pool is not None:
            pool.stop()
        self.ledger.close()


def free_port(family: int = socket.AF_INET) -> int:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes
    signer: Any = None

    def files(self, folder: Path, name: str) -> tuple[Path, Path]:
        for end, data in (("pem", self.certificate), ("key", self.key)):
            (folder / f"{name}.{end}").write_bytes(data)
        return folder / f"{name}.pem", folder / f"{name}.key"


def certificate(
    name: str, signed_by: Pair | None = None, *, names: tuple[str, ...] = (), ca: bool = False, days: int = 1
) -> Pair:
    """A new certificate; self-signed without `signed_by`, expired with negative `days`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    issuer, signing = (subject, key) if signed_by is None else signed_by.signer
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=min(days * 2, 0) - 1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        alternatives: list[Any] = []
        for each in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(each)))
            except ValueError:
                alternatives.append(x509.DNSName(each))
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    made = builder.sign(signing, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(made.public_bytes(serialization.Encoding.PEM), private, (subject, key))
