"""From the tables of the file to the values of a `Config`: one function a section, and the rules between keys.

Every function notes what is wrong and gives None or leaves the part out; `loading.load` raises when anything was noted.
"""

import dataclasses
import difflib
import re
import warnings
from collections.abc import Callable
from itertools import combinations
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from appliance.config import addresses, tables
from appliance.config.lines import Path as KeyPath
from appliance.config.reading import Reader, printable
from appliance.config.secrets import read_secret
from appliance.config.values import (
    ClientConfig,
    DeviceConfig,
    ListenConfig,
    MessageAuthenticatorRule,
    OfflineConfig,
    RadiusConfig,
    TestLogin,
    UpstreamConfig,
)

T = TypeVar("T")


def upstream(reader: Reader, table: dict[str, Any], at: KeyPath) -> UpstreamConfig | None:
    raw = _by_dialect(reader, table, at, tables.UPSTREAMS)
    if not isinstance(raw, tables.RadiusUpstream):
        return None
    secret = read_secret(reader, at, raw.secret, raw.secret_file)
    hosts = _hosts(reader, raw.address, (*at, "address"))
    test_login = _test_login(reader, raw.test_login, (*at, "test_login")) if raw.test_login is not None else None
    if secret is None or hosts is None:
        return None
    return UpstreamConfig(
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


def listen(reader: Reader, table: dict[str, Any], at: KeyPath, upstreams: list[str]) -> ListenConfig | None:
    raw = _by_dialect(reader, table, at, tables.LISTENS)
    if not isinstance(raw, tables.RadiusListen):
        return None
    bind = _checked(reader, addresses.literal, raw.bind, (*at, "bind"))
    for key, name in (("upstream", raw.upstream), ("records_to", raw.records_to or raw.upstream)):
        if name not in upstreams and key in table:
            _unknown_upstream(reader, (*at, key), name, upstreams)
    if raw.auth_port == raw.accounting_port:
        where = "accounting_port" if "accounting_port" in table else "auth_port"
        reader.problem((*at, where), "auth_port and accounting_port are the same; give each a port of its own")
    clients = _clients(reader, raw.clients, (*at, "clients"))
    if bind is None:
        return None
    return ListenConfig(
        dialect=raw.dialect,
        bind=bind,
        upstream=raw.upstream,
        records_to=raw.records_to or raw.upstream,
        clients=clients,
        auth_port=raw.auth_port,
        accounting_port=raw.accounting_port,
    )


def offline(reader: Reader, table: dict[str, Any], at: KeyPath) -> OfflineConfig:
    """The [offline] section over the defaults; the defaults alone when it holds a mistake."""
    return offline_over(reader, OfflineConfig(), table, at)


def offline_over(reader: Reader, base: OfflineConfig, table: dict[str, Any], at: KeyPath) -> OfflineConfig:
    raw = reader.table(tables.Offline, table, at)
    if raw is None:
        return base
    for key in tables.LATER_LIMITS:
        if key in table:
            reader.problem((*at, key), f"this version has no limits yet; remove {key}")
    if raw.environment == "education":
        reader.problem(
            (*at, "environment"),
            'this version cannot unlock offline mode with a code yet; set environment = "commercial"',
        )
    pattern = _checked(reader, _pattern, raw.card_pattern, (*at, "card_pattern"))
    given: dict[str, Any] = {key: getattr(raw, key) for key in table if key not in tables.LATER_LIMITS}
    values: dict[str, Any] = {
        key: value.seconds if isinstance(value, tables.Duration) else value for key, value in given.items()
    }
    if "card_pattern" in values:
        values["card_pattern"] = pattern or base.card_pattern
    return dataclasses.replace(base, **values)


def device(reader: Reader, table: dict[str, Any], at: KeyPath, base: OfflineConfig) -> DeviceConfig | None:
    raw = reader.table(tables.Device, table, at)
    if raw is None:
        return None
    for key in tables.WHOLE_UPSTREAM:
        if key in raw.offline:
            reader.problem((*at, "offline", key), f"{key} cannot differ for one device; set it in [offline]")
    own = {key: value for key, value in raw.offline.items() if key not in tables.WHOLE_UPSTREAM}
    address = _checked(reader, addresses.literal, raw.address, (*at, "address")) if raw.address is not None else None
    return DeviceConfig(
        id=raw.id,
        address=address,
        printer=raw.printer or raw.id,
        offline=offline_over(reader, base, own, (*at, "offline")),
    )


def radius(reader: Reader, table: dict[str, Any], at: KeyPath) -> RadiusConfig:
    raw = reader.table(tables.Radius, table, at) or tables.Radius()
    files = []
    for index, name in enumerate(raw.dictionary_files):
        file = reader.file.parent / name
        if file.is_file():
            files.append(file)
        else:
            reader.problem((*at, "dictionary_files", index), f"dictionary {file} is not there; correct its path")
    job = reader.table(tables.RadiusJob, raw.job, (*at, "job")) or tables.RadiusJob()
    return RadiusConfig(raw.vendor_id, tuple(files), MappingProxyType(msgspec.structs.asdict(job)))


def unique(reader: Reader, what: str, named: list[tuple[object, KeyPath]]) -> None:
    """Note every name or address that stands twice."""
    first: dict[object, KeyPath] = {}
    for name, at in named:
        if name in first:
            line = reader.lines.of(first[name])
            reader.problem(at, f"{what} {printable(name)} is used twice (first in line {line}); change one of them")
        first.setdefault(name, at)


def _by_dialect(
    reader: Reader, table: dict[str, Any], at: KeyPath, known: dict[str, type[msgspec.Struct]]
) -> msgspec.Struct | None:
    """Read a table by the dialect that it names; one that is not built yet is a mistake of its own."""
    dialect = table.get("dialect")
    if isinstance(dialect, str) and dialect in tables.UPSTREAMS and dialect != "radius":
        reader.problem((*at, "dialect"), f'dialect "{dialect}" is not built yet; this version speaks "radius" only')
        return None
    return reader.table(known["radius"], table, at)


def _hosts(reader: Reader, address: str | list[str], at: KeyPath) -> tuple[str, ...] | None:
    if isinstance(address, str):
        only = _checked(reader, addresses.host, address, at)
        return None if only is None else (only,)
    if not address:
        reader.problem(at, 'address is an empty list; write for example address = "10.0.0.5"')
        return None
    found = [_checked(reader, addresses.host, text, (*at, index)) for index, text in enumerate(address)]
    hosts = tuple(text for text in found if text is not None)
    if len(set(hosts)) != len(hosts):
        reader.problem(at, "address names the same address twice; remove one of them")
    return hosts if len(hosts) == len(found) else None


def _test_login(reader: Reader, table: dict[str, Any], at: KeyPath) -> TestLogin | None:
    raw = reader.table(tables.TestLogin, table, at)
    if raw is None:
        return None
    password = read_secret(reader, at, raw.password, raw.password_file, "password")
    return None if password is None else TestLogin(raw.user, password)


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
    network = _checked(reader, addresses.network, raw.network, (*at, "network"))
    secret = read_secret(reader, at, raw.secret, raw.secret_file)
    if network is None or secret is None:
        return None
    return ClientConfig(network, secret, raw.role, raw.require_message_authenticator, raw.ignore_password_offline)


def _unknown_upstream(reader: Reader, at: KeyPath, name: str, upstreams: list[str]) -> None:
    near = difflib.get_close_matches(name, upstreams, n=1, cutoff=0.5)
    known = f"known: {', '.join(upstreams)}" if upstreams else "there is no [[upstream]]"
    advice = f'did you mean "{near[0]}"?' if near else known
    reader.problem(at, f'{at[-1]} names the upstream "{name}", which is not there; {advice}')


def _checked(reader: Reader, check: Callable[[str], T], text: str, at: KeyPath) -> T | None:
    try:
        return check(text)
    except ValueError as error:
        key = next(str(part) for part in reversed(at) if isinstance(part, str))
        reader.problem(at, f"{key} {printable(text)} {error}")
        return None


def _pattern(text: str) -> re.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a doubtful pattern is an error here, not a line on standard error
        try:
            return re.compile(text)
        except (re.error, OverflowError, RecursionError, Warning) as error:
            raise ValueError(f"is not a regular expression ({error}); correct it") from None


def _rule(given: bool | str) -> MessageAuthenticatorRule:
    if given is True:
        return "true"
    return "false" if given is False else "auto"
