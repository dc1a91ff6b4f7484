"""A private certificate authority of a test's own, made with `cryptography`: server and client certificates in PEM."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.peers.ports import LOOPBACK

PEM = serialization.Encoding.PEM


class Authority:
    """One authority in `folder`; `file` is its certificate."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        made = (
            _builder(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / "ca.pem"
        self.file.write_bytes(made.public_bytes(PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate for localhost and loopback, signed by the authority, and its key; closed to others."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), *(x509.IPAddress(ip_address(each)) for each in LOOPBACK.values())]
        made = (
            _builder(_named(name), self._name, key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certificate_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate_file.write_bytes(made.public_bytes(PEM))
        key_file.touch(mode=0o600)
        form = serialization.PrivateFormat.PKCS8
        key_file.write_bytes(key.private_bytes(PEM, form, serialization.NoEncryption()))
        return certificate_file, key_file

    def client(self, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """What a terminal speaks TLS with: it trusts this authority, and shows a certificate if it has one."""
        context = ssl.create_default_context(cafile=str(self.file))
        if pair is not None:
            context.load_cert_chain(*map(str, pair))
        return context


def fingerprint(certificate: Path) -> str:
    """SHA-256 of a certificate, as `certificate_sha256` takes it."""
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    return sha256(found.public_bytes(serialization.Encoding.DER)).hexdigest()


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=60))
    )
