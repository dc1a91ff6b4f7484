"""Whether a PaperCut server takes our calls: TCP, TLS, the token, and the user for cards that nobody has.

A refused token and a refused address are both ordinary faults; only their words tell them apart, so the words are shown
too. The answer's Date header tells the server's clock, which decides the times of forwarded jobs.
"""

import http.client
import ssl
import time
import xmlrpc.client
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from xml.parsers.expat import ExpatError
from zoneinfo import ZoneInfo

from appliance.check.findings import Finding, error, ok, warning
from appliance.check.reach import LONGEST_WAIT, client_context, failure, resolved, running_out
from appliance.config import PapercutUpstreamConfig

UNKNOWN_USER_KEY = "ext-device.unknown-offline-username"
LARGEST_ANSWER = 1 << 20
CLOCKS_APART = 60.0
_UNIVERSAL = {"UTC", "Etc/UTC", "Etc/UCT", "UCT", "Universal", "Zulu", "GMT", "Etc/GMT"}


class NotAnswered(Exception):
    """There was no answer to a call. The text says why, and what to do."""


class Refused(Exception):
    """The server answered with a fault; the text is its own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gave; `date` is the server's clock in seconds since 1970, None if it does not say."""

    value: Any
    seconds: float
    date: float | None
    running_out: Finding | None


def findings(upstream: PapercutUpstreamConfig, unknown: str) -> Generator[Finding, None, bool]:
    """Make the calls that change nothing; returns whether the server takes them. `unknown`: unknown_username."""
    what = f"upstream {upstream.name}, {upstream.url}"
    addresses = resolved(upstream.host)
    if isinstance(addresses, Finding):
        yield addresses
        return False
    try:
        answer = call(upstream, "api.getTotalUsers")
        if not isinstance(answer.value, int):
            raise NotAnswered("answers api.getTotalUsers with no number; is it a PaperCut server?")
        spent = answer.seconds * 1000
        yield ok(what, f"answered in {spent:.0f} ms, takes address and token, has {answer.value:,} users")
        if answer.running_out is not None:
            yield answer.running_out
        yield _clock(upstream, answer.date)
        yield _unknown_user(upstream, unknown)
    except Refused as fault:
        yield error(what, _refusal(str(fault)))
        return False
    except NotAnswered as why:
        yield error(what, str(why))
        return False
    return True


def call(upstream: PapercutUpstreamConfig, method: str, *arguments: Any) -> Answer:
    """One call on a connection of its own. Raises Refused and NotAnswered."""
    timeout = min(max(upstream.answer_timeout, 1.0), LONGEST_WAIT)
    body = xmlrpc.client.dumps((upstream.token.value.decode(), *arguments), method).encode()
    started = time.monotonic()
    connection = _connection(upstream, timeout)
    try:
        connection.connect()
        late = running_out(f"upstream {upstream.name}", connection.sock)
        connection.request("POST", upstream.path, body, {"Content-Type": "text/xml", "User-Agent": "locum-check"})
        response = connection.getresponse()
        content = response.read(LARGEST_ANSWER + 1)
    except http.client.HTTPException:
        raise NotAnswered(
            "is there, but does not speak HTTP as the address says; try https for http or the other way round"
        ) from None
    except OSError as problem:
        raise NotAnswered(failure(problem, timeout)) from None
    finally:
        connection.close()
    if response.status != 200:
        raise NotAnswered(_status(upstream, response.status))
    return Answer(_value(content), time.monotonic() - started, _date(response.getheader("Date")), late)


def _connection(upstream: PapercutUpstreamConfig, timeout: float) -> http.client.HTTPConnection:
    if upstream.tls is None:
        return http.client.HTTPConnection(upstream.host, upstream.port, timeout=timeout)
    try:
        context = client_context(upstream.tls)
    except ssl.SSLError as problem:
        raise NotAnswered(f"TLS cannot begin ({problem.reason}); look at ca_file") from None
    return http.client.HTTPSConnection(upstream.host, upstream.port, timeout=timeout, context=context)


def _value(content: bytes) -> Any:
    if len(content) > LARGEST_ANSWER:
        raise NotAnswered("answers with more than 1 MB; is it a PaperCut server?")
    beginning = content[:200].lstrip().lower()
    if beginning.startswith((b"<!doctype html", b"<html")):
        raise NotAnswered("answers with a web page instead of XML-RPC; correct the path of url, or look at a proxy")
    try:
        (value,), _ = xmlrpc.client.loads(content, use_builtin_types=True)
    except xmlrpc.client.Fault as fault:
        raise Refused(" ".join(str(fault.faultString).split())) from None
    except (ExpatError, xmlrpc.client.Error, ValueError, TypeError, LookupError):
        raise NotAnswered("answers with what is no XML-RPC; correct the path of url, or look at a proxy") from None
    return value


def _status(upstream: PapercutUpstreamConfig, status: int) -> str:
    name = http.client.responses.get(status, "?")
    advice = "look into the server's log"
    if status in (301, 302, 303, 307, 308):
        advice = "it leads elsewhere; write the address where it leads to as url"
    elif status in (401, 403, 407):
        advice = "a proxy or a gate stands before it; let Locum's address pass"
    elif status == 404:
        advice = f"there is no {upstream.path}; correct the path of url"
    return f"answers with HTTP {status} {name}; {advice}"


def _refusal(words: str) -> str:
    """A fault in words; faultCode is no guide."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in words)[:200]
    lower = words.lower()
    if "token" in lower:
        return f'the token is refused ("{shown}"); compare it with auth.webservices.auth-token at the server'
    if any(word in lower for word in ("address", "host", "unauthorized", "not allowed", "not permitted")):
        advice = "add it to auth.webservices.allowed-addresses at the server"
        return f'this machine\'s address is refused ("{shown}"); {advice}'
    return f'the call is refused ("{shown}"); look at auth.webservices.* at the server'


def _clock(upstream: PapercutUpstreamConfig, date: float | None) -> Finding:
    what = f"upstream {upstream.name}, time zone"
    now = datetime.now(UTC)
    if date is not None and abs(date - now.timestamp()) > CLOCKS_APART:
        apart = abs(date - now.timestamp())
        return warning(what, f"its clock and this machine's are {apart:,.0f} s apart; run an NTP client on both")
    there = f"{now.astimezone(ZoneInfo(upstream.time_zone)):%H:%M}"
    if upstream.time_zone in _UNIVERSAL:
        return warning(
            what, f"is taken to be {upstream.time_zone} ({there} now); set time_zone if its clock shows another"
        )
    return ok(what, f"is taken to be {upstream.time_zone}: it should be {there} there now")


def _unknown_user(upstream: PapercutUpstreamConfig, unknown: str) -> Finding:
    what = f"upstream {upstream.name}, unknown user"
    configured = call(upstream, "api.getConfigValue", UNKNOWN_USER_KEY).value
    name = configured if isinstance(configured, str) and configured.strip() else unknown
    if call(upstream, "api.isUserExists", name).value:
        return ok(what, f"jobs of cards that nobody has are logged against {name}")
    return warning(
        what, f"{name} does not exist and would be created for cards that nobody has; create it if that matters"
    )


def _date(header: str | None) -> float | None:
    try:
        return parsedate_to_datetime(header).timestamp() if header else None
    except (ValueError, TypeError):
        return None
