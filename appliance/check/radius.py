"""Whether a RADIUS server can be reached, on both ports, with Status-Server (RFC 5997) or the test login.

An answer proves the secret only if its authenticator holds. Silence says little: the server may be away, a firewall may
stand between, the secret may be wrong (a RADIUS server then says nothing, RFC 2865 section 3), or it may not answer
Status-Server at all.
"""

import os
import socket
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

from appliance.check.findings import Finding, error, ok, warning
from appliance.check.reach import LONGEST_WAIT, place, resolved
from appliance.config import RadiusUpstreamConfig
from protocols.errors import ProtocolError
from protocols.radius.packet import Code, Packet, Type, parse
from protocols.radius.secrets import hide_password, sign_request, verify_response

Fate = Literal["answered", "not under this secret", "refused", "silent", "unreachable"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one question; `seconds` and `signed` (with a Message-Authenticator) of an answer."""

    fate: Fate
    seconds: float = 0.0
    signed: bool = False
    reason: str = ""


def findings(upstream: RadiusUpstreamConfig, name: str) -> Generator[Finding, None, bool]:
    """Try every address and port; returns whether the port for logins answered at one address."""
    reached = False
    for host in upstream.addresses:
        addresses = resolved(host)
        if isinstance(addresses, Finding):
            yield addresses
            continue
        for address in addresses:
            for port in (upstream.auth_port, upstream.accounting_port):
                outcome = ask(address, port, upstream, name)
                reached = reached or (outcome.fate == "answered" and port == upstream.auth_port)
                yield _finding(f"upstream {upstream.name}, {place(address, port)}", outcome, upstream)
    return reached


def ask(address: str, port: int, upstream: RadiusUpstreamConfig, name: str) -> Outcome:
    """Ask one port; where Status-Server stays unanswered on the port for logins, try the test login."""
    outcome = _exchange(address, port, upstream, _status_server(upstream, name))
    if outcome.fate == "silent" and upstream.test_login is not None and port == upstream.auth_port:
        return _exchange(address, port, upstream, _test_login(upstream, name))
    return outcome


def _status_server(upstream: RadiusUpstreamConfig, name: str) -> bytes:
    attributes = ((Type.NAS_IDENTIFIER, name.encode()[:253]),)
    return sign_request(Code.STATUS_SERVER, os.urandom(1)[0], os.urandom(16), attributes, upstream.secret.value)


def _test_login(upstream: RadiusUpstreamConfig, name: str) -> bytes:
    login, authenticator, secret = upstream.test_login, os.urandom(16), upstream.secret.value
    if login is None:
        raise ValueError("there is no test login")
    attributes = (
        (Type.USER_NAME, login.user.encode()[:253]),
        (Type.USER_PASSWORD, hide_password(login.password.value[:128], authenticator, secret)),
        (Type.NAS_IDENTIFIER, name.encode()[:253]),
    )
    return sign_request(Code.ACCESS_REQUEST, os.urandom(1)[0], authenticator, attributes, secret)


def _exchange(address: str, port: int, upstream: RadiusUpstreamConfig, request: bytes) -> Outcome:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    started = time.monotonic()
    deadline = started + min(upstream.answer_timeout, LONGEST_WAIT)
    fate: Fate = "silent"
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((address, port))
            asking.send(request)
            while (left := deadline - time.monotonic()) > 0:
                asking.settimeout(left)
                answer = _answer(asking.recv(4097), request, upstream.secret.value)
                if answer is not None:
                    return Outcome("answered", time.monotonic() - started, answer)
                fate = "not under this secret"
    except TimeoutError:
        return Outcome(fate)
    except ConnectionRefusedError:
        return Outcome("refused")
    except OSError as problem:
        return Outcome("unreachable", reason=problem.strerror or str(problem))
    return Outcome(fate)


def _answer(datagram: bytes, request: bytes, secret: bytes) -> bool | None:
    """Whether an answer is signed with a Message-Authenticator; None when it is no authentic answer."""
    try:
        packet: Packet = parse(datagram)
        return verify_response(datagram, packet, request[4:20], secret) if packet.identifier == request[1] else None
    except ProtocolError:
        return None


def _finding(what: str, outcome: Outcome, upstream: RadiusUpstreamConfig) -> Finding:
    match outcome.fate:
        case "answered":
            signed = "with" if outcome.signed else "without"
            if upstream.require_message_authenticator == "true" and not outcome.signed:
                return error(
                    what,
                    "answers without Message-Authenticator, so with require_message_authenticator = true it counts as "
                    'dead; upgrade the server or set "auto"',
                )
            return ok(what, f"answered in {outcome.seconds * 1000:.0f} ms, {signed} Message-Authenticator")
        case "not under this secret":
            return error(what, "answers, but not under this secret; compare it with the server's")
        case "refused":
            return error(what, "refuses: no server listens there; start it or correct the port")
        case "unreachable":
            return error(what, f"cannot be reached ({outcome.reason}); look at routes and cables")
        case "silent":
            return warning(
                what,
                "unproven: no answer, so the server is away, a firewall is between, the secret is wrong, or it does "
                "not answer Status-Server; look there, or set test_login",
            )
