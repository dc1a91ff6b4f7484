"""What `locum simulate server` is told, made into values: tokens, networks, printers, TLS.

PaperCut's own setting for the token is a string, a JSON list of strings, or a JSON object whose values are the tokens;
all three are taken here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from appliance.simulator.papercut import Network
from appliance.simulator.rows import Printer
from appliance.simulator.state import DEVICE_SERVER

NEAR = (
    *("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    *("fc00::/7", "fe80::/10"),
)
"""Loopback and private networks."""


class SettingError(Exception):
    """A setting is wrong. The text is one line: which, what is wrong, what to do."""


def tokens(text: str) -> tuple[str, ...]:
    """The tokens in a setting. Raises SettingError."""
    try:
        told = json.loads(text) if text[:1] in ("[", "{") else [text]
    except ValueError as error:
        raise SettingError(f"--token: is no JSON ({error}); give a string, a JSON list or a JSON object") from None
    found = list(told.values()) if isinstance(told, dict) else told
    if not found or not all(isinstance(each, str) and each for each in found):
        raise SettingError("--token: holds no token, or one that is no string; give at least one")
    return tuple(found)


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks that may call; without any, loopback and private ones. Raises SettingError."""
    try:
        return tuple(ip_network(text, strict=False) for text in tuple(texts) or NEAR)
    except ValueError as error:
        raise SettingError(f"--allow: {error}; give an address or a network such as 10.7.0.0/24") from None


def printers(names: Iterable[str], file: Path | None) -> list[Printer]:
    """Printers by name: `SERVER\\NAME`, or a copier's name alone. A file has a line for each. Raises SettingError."""
    told = list(names)
    if file is not None:
        try:
            told += file.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise SettingError(f"--printers {file}: byte {error.start} is not UTF-8; save it as UTF-8") from None
        except OSError as error:
            raise SettingError(f"--printers {file}: cannot be read ({error.strerror}); name another file") from None
    made = []
    for line in filter(None, map(str.strip, told)):
        server, backslash, name = line.partition("\\")
        made.append(Printer(server, name) if backslash else Printer(DEVICE_SERVER, line))
    return made


def server_tls(certificate: Path | None, key: Path | None) -> Any:
    """Twisted's context factory for a certificate and its key in PEM; None without both. Raises SettingError."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise SettingError("--tls-certificate and --tls-key belong together; give both or neither")
    from OpenSSL.SSL import Error
    from twisted.internet.ssl import CertificateOptions, PrivateCertificate

    try:
        pem = certificate.read_bytes() + b"\n" + key.read_bytes()
        # Twisted says nothing of this one's types.
        maker: Any = PrivateCertificate
        pair = maker.loadPEM(pem)
        # Without a protocol to choose, a client that offers one in its hello (RFC 7301) is turned away.
        return CertificateOptions(pair.privateKey.original, pair.original, acceptableProtocols=[b"http/1.1"])
    except OSError as error:
        raise SettingError(f"{error.filename}: cannot be read ({error.strerror}); name a PEM file") from None
    except (ValueError, Error):
        raise SettingError(f"{certificate} and {key}: are no certificate and its key in PEM; make a pair") from None
