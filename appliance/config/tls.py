"""Certificates and keys: read, and checked as far as a file shows it: PEM, a key that fits, a key that is closed.

Whether a certificate has run out, or names the right host, shows only when it is used; `locum check` looks ahead. The
library that reads certificates is loaded only when the configuration names one: it is large.
"""

from typing import Any

from appliance.config import tables
from appliance.config.lines import Path as KeyPath
from appliance.config.reading import Reader
from appliance.config.secrets import read_closed, read_file
from appliance.config.values import TlsConfig

MAX_BYTES = 4 << 20
"""A larger file is surely no certificate; the bundles of all public authorities have about 250 kB."""


def of_upstream(reader: Reader, table: dict[str, Any], at: KeyPath) -> TlsConfig | None:
    """The `tls` of an upstream: what it is trusted by, and a certificate to show if it asks for one."""
    raw = reader.table(tables.UpstreamTls, table, at)
    if raw is None:
        return None
    if (raw.certificate_file is None) != (raw.key_file is None):
        missing = "key_file" if raw.key_file is None else "certificate_file"
        reader.problem(at, f"a certificate and its key belong together; add {missing}")
        return None
    ca = certificates(reader, raw.ca_file, (*at, "ca_file"))
    own = _pair(reader, raw.certificate_file, raw.key_file, at)
    return None if ca is None or own is None else TlsConfig(ca, *own)


def of_listener(reader: Reader, table: dict[str, Any], at: KeyPath) -> TlsConfig | None:
    """The `tls` of a listener: its certificate and key, and by whom its devices' certificates must be signed."""
    raw = reader.table(tables.ListenTls, table, at)
    if raw is None:
        return None
    ca = certificates(reader, raw.client_ca_file, (*at, "client_ca_file"))
    own = _pair(reader, raw.certificate_file, raw.key_file, at)
    return None if ca is None or own is None else TlsConfig(ca, *own)


def certificates(reader: Reader, name: str | None, at: KeyPath) -> bytes | None:
    """The PEM certificates in a file; b"" when none is named, None with what is wrong noted."""
    if name is None:
        return b""
    file, key = reader.file.parent / name, str(at[-1])
    content = read_file(reader, at, file, key, MAX_BYTES, "copy the certificate there")
    if content is None:
        return None
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(content)
    except ValueError:
        reader.problem(at, f"{key} {file} holds no certificate in PEM; it must begin with -----BEGIN CERTIFICATE-----")
        return None
    return content


def _pair(reader: Reader, certificate: str | None, key: str | None, at: KeyPath) -> tuple[bytes, bytes] | None:
    """A certificate and the key that fits it; both b"" when none are named."""
    chain = certificates(reader, certificate, (*at, "certificate_file"))
    secret = _key(reader, key, (*at, "key_file"))
    if chain is None or secret is None:
        return None
    if chain and not _fits(chain, secret):
        where = reader.file.parent / str(key)
        text = f"key_file {where} is not the key of the certificate in certificate_file; name the two that were made"
        reader.problem((*at, "key_file"), f"{text} together")
        return None
    return chain, secret


def _key(reader: Reader, name: str | None, at: KeyPath) -> bytes | None:
    if name is None:
        return b""
    file = reader.file.parent / name
    content = read_closed(reader, at, file, "key_file", MAX_BYTES, "copy the key there")
    if content is None:
        return None
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        load_pem_private_key(content, None)
    except TypeError:
        reader.problem(at, f"key_file {file} is locked with a passphrase; write it without one and close it to others")
        return None
    except (ValueError, UnsupportedAlgorithm):
        reader.problem(at, f"key_file {file} holds no private key in PEM; name the file that does")
        return None
    return content


def _fits(chain: bytes, key: bytes) -> bool:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    certified = x509.load_pem_x509_certificates(chain)[0].public_key()
    return certified.public_bytes(*form) == serialization.load_pem_private_key(key, None).public_key().public_bytes(
        *form
    )
