"""Reads [[listen]]: where RADIUS devices and terminals reach Locum, and which upstream serves them."""

import difflib
from itertools import combinations
from typing import Any

from appliance.config import addresses, checks, tables, tls
from appliance.config.lines import Path as KeyPath
from appliance.config.reading import Reader, printable
from appliance.config.secrets import read_secret
from appliance.config.values import ClientConfig, ListenConfig, RadiusListenConfig, TerminalListenConfig


def listen(reader: Reader, table: dict[str, Any], at: KeyPath, dialects: dict[str, object]) -> ListenConfig | None:
    """The listener in `table`, or None with what is wrong noted. `dialects` is what each upstream says it speaks."""
    dialect = str(table.get("dialect"))
    if dialect == "papercut":
        text = "no device speaks the dialect papercut; write what the devices speak"
        reader.problem((*at, "dialect"), f'{text}: dialect = "radius" or "terminal"')
        return None
    raw = reader.table(tables.LISTENS.get(dialect, tables.RadiusListen), table, at)
    match raw:
        case tables.RadiusListen():
            _upstreams(reader, raw, table, at, dialects)
            return _radius(reader, raw, table, at)
        case tables.TerminalListen():
            _upstreams(reader, raw, table, at, dialects)
            return _terminal(reader, raw, at)
    return None


def _radius(reader: Reader, raw: tables.RadiusListen, table: dict[str, Any], at: KeyPath) -> RadiusListenConfig | None:
    bind = checks.checked(reader, addresses.literal, raw.bind, (*at, "bind"))
    if raw.auth_port == raw.accounting_port:
        where = "accounting_port" if "accounting_port" in table else "auth_port"
        reader.problem((*at, where), "auth_port and accounting_port are the same; give each a port of its own")
    clients = _clients(reader, raw.clients, (*at, "clients"))
    if bind is None:
        return None
    return RadiusListenConfig(
        dialect=raw.dialect,
        bind=bind,
        upstream=raw.upstream,
        records_to=raw.records_to or raw.upstream,
        clients=clients,
        auth_port=raw.auth_port,
        accounting_port=raw.accounting_port,
    )


def _terminal(reader: Reader, raw: tables.TerminalListen, at: KeyPath) -> TerminalListenConfig | None:
    bind = checks.checked(reader, addresses.literal, raw.bind, (*at, "bind"))
    security = tls.of_listener(reader, raw.tls, (*at, "tls")) if raw.tls is not None else None
    if bind is None:
        return None
    return TerminalListenConfig(
        dialect=raw.dialect,
        bind=bind,
        upstream=raw.upstream,
        records_to=raw.records_to or raw.upstream,
        port=raw.port,
        tls=security,
    )


def _upstreams(
    reader: Reader,
    raw: tables.RadiusListen | tables.TerminalListen,
    table: dict[str, Any],
    at: KeyPath,
    dialects: dict[str, object],
) -> None:
    """`upstream` and `records_to` must be there, and speak the devices' dialect or papercut."""
    for key, name in (("upstream", raw.upstream), ("records_to", raw.records_to or raw.upstream)):
        if key not in table:
            continue
        if name not in dialects:
            known = f"known: {', '.join(dialects)}" if dialects else "there is no [[upstream]]"
            advice = checks.did_you_mean(name, list(dialects), known)
            reader.problem((*at, key), f'{key} names the upstream "{name}", which is not there; {advice}')
        elif dialects[name] in tables.UPSTREAMS and dialects[name] not in (raw.dialect, "papercut"):
            text = f'{key} names "{name}", which speaks {dialects[name]} and not {raw.dialect}'
            reader.problem((*at, key), f"{text}; name an upstream of dialect {raw.dialect} or papercut")


def _clients(reader: Reader, given: list[dict[str, Any]], at: KeyPath) -> tuple[ClientConfig, ...]:
    if not given:
        reader.problem(at, "clients is empty, so nobody could speak to this listener; add a network and its secret")
    clients: list[tuple[int, ClientConfig]] = []
    for index, table in enumerate(given):
        client = _client(reader, table, (*at, index))
        if client is not None:
            clients.append((index, client))
    for (_, one), (index, other) in combinations(clients, 2):
        if addresses.overlap(one.network, other.network):
            text = f"network {other.network} overlaps {one.network}; a device must belong to one client only"
            reader.problem((*at, index, "network"), text)
    return tuple(client for _, client in clients)


def _client(reader: Reader, table: dict[str, Any], at: KeyPath) -> ClientConfig | None:
    raw = reader.table(tables.Client, table, at)
    if raw is None:
        return None
    if raw.role != "copier" and difflib.SequenceMatcher(None, raw.role, "copier").ratio() > 0.8:
        reader.problem((*at, "role"), f'role {printable(raw.role)} is not a copier\'s; did you mean "copier"?')
    network = checks.checked(reader, addresses.network, raw.network, (*at, "network"))
    secret = read_secret(reader, at, raw.secret, raw.secret_file)
    if network is None or secret is None:
        return None
    return ClientConfig(network, secret, raw.role, raw.require_message_authenticator, raw.ignore_password_offline)
