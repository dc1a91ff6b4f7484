"""Reads [[upstream]]: a RADIUS server, a server of the terminal dialect, or a PaperCut server."""

import re
from typing import Any
from urllib.parse import urlsplit

from appliance.config import addresses, checks, tables, tls, zones
from appliance.config.lines import Path as KeyPath
from appliance.config.reading import Reader, printable
from appliance.config.secrets import read_secret
from appliance.config.values import (
    MessageAuthenticatorRule,
    PapercutUpstreamConfig,
    RadiusUpstreamConfig,
    Secret,
    TerminalUpstreamConfig,
    TestLogin,
    TlsConfig,
    UpstreamConfig,
)

CONVERTERS = ("hex2dec", "dec2hex", "ascii-enc", "strip-zeros")
"""Names that `card_converters` may hold."""

DEFAULT_PATH = "/rpc/api/xmlrpc"
_PORTS = {"http": 9191, "https": 9192}
_PAPERCUT_WINDOW = 32


def upstream(reader: Reader, table: dict[str, Any], at: KeyPath, window: int | None) -> UpstreamConfig | None:
    """The upstream in `table`, or None with what is wrong noted. `window` is drain_window where [offline] gives it."""
    raw = reader.table(tables.UPSTREAMS.get(str(table.get("dialect")), tables.RadiusUpstream), table, at)
    match raw:
        case tables.RadiusUpstream():
            return _radius(reader, raw, at)
        case tables.TerminalUpstream():
            return _terminal(reader, raw, at)
        case tables.PapercutUpstream():
            return _papercut(reader, raw, at, window)
    return None


def _radius(reader: Reader, raw: tables.RadiusUpstream, at: KeyPath) -> RadiusUpstreamConfig | None:
    secret = read_secret(reader, at, raw.secret, raw.secret_file)
    hosts = checks.hosts(reader, raw.address, (*at, "address"))
    test_login = _test_login(reader, raw.test_login, (*at, "test_login")) if raw.test_login is not None else None
    if secret is None or hosts is None:
        return None
    return RadiusUpstreamConfig(
        name=raw.name,
        dialect=raw.dialect,
        addresses=hosts,
        secret=secret,
        auth_port=raw.auth_port,
        accounting_port=raw.accounting_port,
        answer_timeout=raw.answer_timeout.seconds,
        probe_interval=raw.probe_interval.seconds,
        require_message_authenticator=_rule(raw.require_message_authenticator),
        test_login=test_login,
    )


def _terminal(reader: Reader, raw: tables.TerminalUpstream, at: KeyPath) -> TerminalUpstreamConfig | None:
    hosts = checks.hosts(reader, raw.address, (*at, "address"))
    security = tls.of_upstream(reader, raw.tls, (*at, "tls")) if raw.tls is not None else None
    if hosts is None:
        return None
    return TerminalUpstreamConfig(
        name=raw.name,
        dialect=raw.dialect,
        addresses=hosts,
        port=raw.port,
        tls=security,
        answer_timeout=raw.answer_timeout.seconds,
        probe_interval=raw.probe_interval.seconds,
    )


def _papercut(
    reader: Reader, raw: tables.PapercutUpstream, at: KeyPath, window: int | None
) -> PapercutUpstreamConfig | None:
    token = read_secret(reader, at, raw.token, raw.token_file, "token")
    url = checks.checked(reader, _url, raw.url, (*at, "url"))
    ca = tls.certificates(reader, raw.ca_file, (*at, "ca_file"))
    zone = checks.checked(reader, zones.known, raw.time_zone, (*at, "time_zone")) if raw.time_zone else zones.local()
    regex = checks.checked(reader, _card_regex, raw.card_regex, (*at, "card_regex")) if raw.card_regex else None
    for index, name in enumerate(raw.card_converters or []):
        if name not in CONVERTERS:
            advice = checks.did_you_mean(name, list(CONVERTERS), f"known: {', '.join(CONVERTERS)}")
            where = (*at, "card_converters", index)
            reader.problem(where, f"card_converters has no converter {printable(name)}; {advice}")
    if url is None or token is None or zone is None:
        return None
    if not _sendable(token):
        key = "token" if raw.token is not None else "token_file"
        reader.problem((*at, key), f"{key} holds what no token has; write the one line of auth.webservices.auth-token")
    scheme, host, port, path = url
    if scheme == "http" and raw.ca_file is not None:
        reader.problem((*at, "ca_file"), 'ca_file has no effect with http; write url = "https://..." or remove it')
    return PapercutUpstreamConfig(
        name=raw.name,
        dialect=raw.dialect,
        addresses=(host,),
        url=raw.url,
        host=host,
        port=port,
        path=path,
        tls=TlsConfig(ca or b"") if scheme == "https" else None,
        token=token,
        time_zone=zone,
        card_regex=regex,
        card_converters=tuple(raw.card_converters or []),
        drain_window=_PAPERCUT_WINDOW if window is None else window,
        answer_timeout=raw.answer_timeout.seconds,
        probe_interval=raw.probe_interval.seconds,
    )


def _url(text: str) -> tuple[str, str, int, str]:
    """Scheme, host, port, path. ValueError says what is wrong and what to do."""
    example = "write for example https://print.example.org:9192/rpc/api/xmlrpc"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"is no address of a PaperCut server; {example}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"does not begin with http:// or https:// and a host; {example}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"holds more than host, port and path; {example}")
    if port == 0 or any(not "!" <= letter <= "~" for letter in parts.path):
        raise ValueError(f"has a port or a path that cannot be; {example}")
    path = parts.path if parts.path not in ("", "/") else DEFAULT_PATH
    return parts.scheme, addresses.host(parts.hostname), port or _PORTS[parts.scheme], path


def _card_regex(text: str) -> re.Pattern[str]:
    found = checks.pattern(text)
    if not found.groups:
        raise ValueError(
            'has no group, so it finds no card number; put ( and ) around it, for example "^;?([0-9A-F]+)"'
        )
    return found


def _sendable(token: Secret) -> bool:
    try:
        return token.value.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _test_login(reader: Reader, table: dict[str, Any], at: KeyPath) -> TestLogin | None:
    raw = reader.table(tables.TestLogin, table, at)
    if raw is None:
        return None
    password = read_secret(reader, at, raw.password, raw.password_file, "password")
    return None if password is None else TestLogin(raw.user, password)


def _rule(given: bool | str) -> MessageAuthenticatorRule:
    if given is True:
        return "true"
    return "false" if given is False else "auto"
