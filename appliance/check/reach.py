"""What asking a server needs in every dialect: its addresses, TLS, and words for a connection that fails."""

import os
import socket
import ssl
import time

from appliance.check.findings import Finding, error, warning
from appliance.config import TlsConfig

LONGEST_WAIT = 5.0
"""Seconds for one question, however long answer_timeout is."""

SOON = 30 * 86_400.0
"""A certificate that runs out within so many seconds is warned of."""

_EXPIRED, _OTHER_HOST = 10, 62
"""X509_V_ERR_CERT_HAS_EXPIRED and X509_V_ERR_HOSTNAME_MISMATCH of OpenSSL."""


def resolved(host: str) -> list[str] | Finding:
    """The addresses of a name, or what is wrong with it; an address stands for itself."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        return error(f"name {host}", f"cannot be resolved ({reason}); correct it, mend the resolver or use an address")
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def place(address: str, port: int) -> str:
    """An address and a port as people write them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def client_context(tls: TlsConfig) -> ssl.SSLContext:
    """TLS as the service speaks it to a server: 1.2 or newer, the server's name checked."""
    context = ssl.create_default_context(cadata=tls.ca.decode("ascii", "replace") or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 asks more of certificates than the service does; what is judged here must be what will be in force.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if tls.certificate:
        descriptor = os.memfd_create("certificate")  # the ssl module takes files only, and a key belongs in none
        try:
            os.write(descriptor, tls.certificate + b"\n" + tls.key)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    return context


def failure(problem: OSError, timeout: float) -> str:
    """Why a connection failed, and what to do."""
    match problem:
        case ssl.SSLCertVerificationError(verify_code=code, verify_message=said):
            advice = "name the authority that signed it as ca_file"
            if code == _EXPIRED:
                advice = "renew it at the server, and look at both clocks"
            elif code == _OTHER_HOST:
                advice = "write the host as it stands in the certificate"
            return f"its certificate is not accepted ({said.rstrip('.')}); {advice}"
        case ssl.SSLError():
            return f"does not speak TLS as Locum does ({problem.reason or 'no reason given'}); is it the port for TLS?"
        case TimeoutError():
            return f"gave no answer in {timeout:g} s; the server is away, or a firewall is between"
        case ConnectionRefusedError():
            return "refuses: no server listens there; start it or correct the port"
        case ConnectionError():
            return "closed the connection at once; is it the right port, and TLS on both sides or on none?"
    return f"cannot be reached ({problem.strerror or problem}); look at routes and cables"


def running_out(what: str, connection: socket.socket | None) -> Finding | None:
    """A warning if the certificate at the other end of a connection runs out soon."""
    shown = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    until = str(shown.get("notAfter", "")) if shown else ""
    if not until or ssl.cert_time_to_seconds(until) - time.time() > SOON:
        return None
    return warning(what, f"its certificate is good until {until} only; renew it at the server")
