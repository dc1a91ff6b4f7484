"""A certificate that signs itself, for the terminal listener of a lab.

Terminals can trust it as their authority. In production the site's own authority is better: it can revoke.
"""

import ipaddress
import socket
from datetime import UTC, datetime, timedelta

LIFE = timedelta(days=730)


def self_signed(name: str, bind: str) -> tuple[bytes, bytes]:
    """Certificate and key in PEM, P-256, good for this machine's name, its loopback addresses and `bind`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Locum {name}"[:64])])
    identity = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in _names()]
    names += [x509.IPAddress(ipaddress.ip_address(each)) for each in _addresses(bind)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identity, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identity), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def _names() -> list[str]:
    here = socket.gethostname()
    good = here if here.isascii() and 0 < len(here) <= 253 and all(here.split(".")) else ""
    return list(dict.fromkeys(["localhost", *([good] if good else [])]))


def _addresses(bind: str) -> list[str]:
    own = [] if ipaddress.ip_address(bind).is_unspecified else [bind]
    return list(dict.fromkeys(["127.0.0.1", "::1", *own]))
