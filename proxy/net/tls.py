"""TLS for streams: version 1.2 or newer (RFC 5246, RFC 8446), a private CA, client certificates, the server's name
(RFC 9525).

Twisted's and service_identity's parts, with one thing added: why a certificate does not do, in words. pyOpenSSL and
cryptography are imported when a stream first asks for TLS, because they cost more memory than all the rest of a service
that needs none. Revocation (CRL, OCSP) and resuming are left out.
"""

from __future__ import annotations

import errno
import hashlib
import re
import weakref
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer  # type: ignore[import-untyped]

from proxy.commands import Tls

if TYPE_CHECKING:
    from proxy.net.stream import Stream

_ONE_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_UNSIGNED = "its certificate is not signed by the CA that is configured here (ca_file)"
_VERDICTS = {
    2: _UNSIGNED,
    9: "its certificate is not valid yet: look at the clocks of both sides",
    10: "its certificate has expired",
    18: "its certificate is self-signed, and not the one that is configured here (ca_file)",
    19: _UNSIGNED,
    20: _UNSIGNED,
    21: _UNSIGNED,
    26: "its certificate is made for another use (extended key usage)",
    79: "its certificate is signed by one that is no CA",
}
"""By OpenSSL's X509_V_ERR numbers (X509_verify_cert_error_string(3))."""


def check(tls: Tls) -> None:
    """Raises OSError (EINVAL) with words if these certificates and keys cannot be used."""
    _options(tls, False)


def over_tls(reactor: Any, tls: Tls, factory: Any, stream: Stream, server: str | None) -> Any:
    """A factory that puts TLS under `stream`. `server`: the address we connect to, None where we are the server.

    Raises OSError (EINVAL) with words if these certificates and keys cannot be used.
    """
    over = _factory()(
        _end(_options(tls, server is not None), stream, tls, server), server is not None, factory, reactor
    )
    over.stream = stream
    return over


@lru_cache(maxsize=1)
def _factory() -> Any:
    """What puts TLS under a stream; the class is made once, since making one costs more than a connection does."""
    from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory

    class Transport(BufferingTLSTransport):
        def connectionLost(self, reason: Failure = connectionDone) -> None:
            over: Any = self.factory
            over.stream.beneath = reason.value
            super().connectionLost(reason)

    class Over(TLSMemoryBIOFactory):
        protocol = Transport
        stream: Stream

    return Over


def fingerprint(transport: Any) -> str:
    """SHA-256 of the peer's certificate in hex, "" if it showed none."""
    from OpenSSL.crypto import FILETYPE_ASN1, dump_certificate

    certificate = transport.getPeerCertificate()
    return "" if certificate is None else hashlib.sha256(dump_certificate(FILETYPE_ASN1, certificate)).hexdigest()


@lru_cache(maxsize=64)
def _options(tls: Tls, client: bool) -> Any:
    from OpenSSL import SSL, crypto
    from twisted.internet.ssl import (
        Certificate,
        CertificateOptions,
        TLSVersion,
        platformTrust,
        trustRootFromCertificates,
    )

    def certificates(pem: bytes) -> list[Any]:
        return [Certificate.loadPEM(each) for each in _ONE_CERTIFICATE.findall(pem)]

    settings: dict[str, Any] = {"raiseMinimumTo": TLSVersion.TLSv1_2}
    try:
        if tls.ca:
            settings["trustRoot"] = trustRootFromCertificates(certificates(tls.ca))  # type: ignore[no-untyped-call]
        elif client:
            settings["trustRoot"] = platformTrust()  # type: ignore[no-untyped-call]
        if tls.certificate:
            own, *chain = certificates(tls.certificate)
            settings["certificate"] = own.original
            settings["extraCertChain"] = [each.original for each in chain]
            settings["privateKey"] = crypto.load_privatekey(crypto.FILETYPE_PEM, tls.key, b"")
        options = CertificateOptions(**settings)
        context = options.getContext()
        # RFC 7301 section 3.2 lets a server select none; Twisted's callback, which this replaces, ends the handshake.
        context.set_alpn_select_callback(lambda connection, offered: SSL.NO_OVERLAPPING_PROTOCOLS)
        # An admin who trusts an intermediate CA means it, without the root above it.
        if (store := context.get_cert_store()) is not None:
            store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    except (SSL.Error, crypto.Error, ValueError, TypeError) as error:
        words = "the certificate or key for TLS cannot be used: not PEM, protected by a password, or not made together"
        raise OSError(errno.EINVAL, words) from error
    return options


def _end(options: Any, stream: Stream, tls: Tls, server: str | None) -> Any:
    name = tls.name or server or ""
    try:
        sent = "" if _is_address(name) else _ascii(name)
    except UnicodeError as error:
        raise OSError(errno.EINVAL, f"no server can have the name {name!r}") from error
    return _end_class()(options, stream, tls, name, sent)


@lru_cache(maxsize=1)
def _end_class() -> Any:
    from OpenSSL import SSL
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator

    mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT

    @implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
    class End:
        """Makes the connection that Twisted asks for. `sent`: the name that the server is told, "" none."""

        def __init__(self, options: Any, stream: Stream, tls: Tls, name: str, sent: str) -> None:
            self.options, self.stream, self.tls, self.name, self.sent = options, stream, tls, name, sent

        def clientConnectionForTLS(self, protocol: Any) -> Any:
            connection = self.options.clientConnectionForTLS(protocol)
            if self.sent:
                connection.set_tlsext_host_name(self.sent.encode())
            connection.set_verify(mode, _judge(self.stream, self.name))
            return connection

        def serverConnectionForTLS(self, protocol: Any) -> Any:
            connection = self.options.serverConnectionForTLS(protocol)
            if self.tls.ca:
                connection.set_verify(mode, _judge(self.stream, ""))
            return connection

    return End


def _judge(stream: Stream, name: str) -> Callable[[Any, Any, int, int, int], bool]:
    """OpenSSL's verify callback: called for each certificate of the chain, and anew for each fault."""
    # The connection holds this function: a strong reference would make a circle that only the collector breaks.
    told = weakref.ref(stream)

    def judge(connection: Any, certificate: Any, number: int, depth: int, holds: int) -> bool:
        words = "" if holds else _VERDICTS.get(number, f"its certificate does not do (OpenSSL's error {number})")
        if holds and name and depth == 0:
            words = _misnamed(certificate, name)
        if words and (judged := told()) is not None:
            judged.untrusted = words
        return not words

    return judge


def _misnamed(certificate: Any, name: str) -> str:
    """Words if a certificate is not for this name or address, else ""."""
    from service_identity import CertificateError, VerificationError
    from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
    from service_identity.pyopenssl import extract_patterns

    try:
        wanted = IPAddress_ID(name) if _is_address(name) else DNS_ID(_ascii(name))
        verify_service_identity(extract_patterns(certificate), [wanted], [])
    except VerificationError:
        return f"its certificate is for another name than {name}"
    except (CertificateError, ValueError):
        return f"its certificate names no server (no subjectAltName), so not {name} either"
    return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _ascii(name: str) -> str:
    return name.encode("idna").decode("ascii")
