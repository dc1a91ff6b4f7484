"""Reads [snmp.agent], [snmp.proxy] and [snmp.traps]: SNMP towards the management side.

SNMPv3 here is with a digest of SHA-2 and with AES, or not at all; SNMPv2c only where a community is given.
"""

from typing import Any

from appliance.config import addresses, checks, secrets, tables
from appliance.config.lines import Path as KeyPath
from appliance.config.reading import Reader
from appliance.config.values import (
    ManagementConfig,
    SnmpAgentConfig,
    SnmpConfig,
    SnmpProxyConfig,
    SnmpTrapsConfig,
)
from proxy.metering.agents import User
from proxy.snmp.settings import Access, ProxySettings, TrapSettings

SHORTEST_KEY = 8
_LONGEST_USER = 32


def management(
    reader: Reader, given: dict[str, Any], meters: SnmpConfig | None, upstreams: dict[str, object]
) -> ManagementConfig:
    """The three tables of [snmp]; those with mistakes are left out, and noted. `upstreams`: by name."""
    parts = {key: given[key] for key in ("agent", "proxy", "traps") if isinstance(given.get(key), dict)}
    agent = _agent(reader, parts["agent"]) if "agent" in parts else None
    proxy = _proxy(reader, parts["proxy"], meters) if "proxy" in parts else None
    traps = _traps(reader, parts["traps"], upstreams) if "traps" in parts else None
    _ports(reader, agent, proxy, traps)
    return ManagementConfig(agent, proxy, traps)


def _agent(reader: Reader, table: dict[str, Any]) -> SnmpAgentConfig | None:
    at: KeyPath = ("snmp", "agent")
    raw = reader.table(tables.SnmpAgent, table, at)
    if raw is None:
        return None
    before = len(reader.problems)
    bind = checks.checked(reader, addresses.literal, raw.bind, (*at, "bind"))
    access = _access(reader, raw, at)
    written = [(raw.notify, (*at, "notify"))] if isinstance(raw.notify, str) else _numbered(raw.notify, (*at, "notify"))
    notify = [checks.checked(reader, addresses.with_port, text, where) for text, where in written]
    if notify and raw.notify_version == "3" and not access.users:
        reader.problem((*at, "notify"), 'notifications by SNMPv3 need a user; add user, or notify_version = "2c"')
    if notify and raw.notify_version == "2c" and not access.communities:
        reader.problem((*at, "notify_version"), "notifications by SNMPv2c need a community; add community_file")
    if len(reader.problems) != before or bind is None:
        return None
    targets = tuple(dict.fromkeys(each for each in notify if each is not None))
    return SnmpAgentConfig(bind, raw.port, access, targets, raw.notify_version == "3")


def _proxy(reader: Reader, table: dict[str, Any], meters: SnmpConfig | None) -> SnmpProxyConfig | None:
    at: KeyPath = ("snmp", "proxy")
    raw = reader.table(tables.SnmpProxy, table, at)
    if raw is None:
        return None
    before = len(reader.problems)
    bind = checks.checked(reader, addresses.literal, raw.bind, (*at, "bind"))
    access = _access(reader, raw, at)
    known = list(meters.agents) if meters is not None else []
    copiers: list[tuple[str, str, int]] = []
    for index, written in enumerate(raw.copiers):
        place: KeyPath = (*at, "copiers", index)
        copier = reader.table(tables.ProxiedCopier, written, place)
        if copier is None:
            continue
        own = checks.checked(reader, addresses.literal, copier.bind, (*place, "bind")) if copier.bind else bind
        if copier.device not in known:
            advice = checks.did_you_mean(copier.device, known, "give its [[device]] an snmp table")
            reader.problem((*place, "device"), f'device "{copier.device}" has no SNMP settings; {advice}')
        elif own is not None:
            copiers.append((copier.device, own, copier.port))
    names = [name for name, _, _ in copiers]
    for name in sorted({name for name in names if names.count(name) > 1}):
        reader.problem((*at, "copiers"), f'device "{name}" stands twice in copiers; each has one port')
    if len(reader.problems) != before:
        return None
    settings = ProxySettings(raw.max_age.seconds, raw.when_silent == "last-reading", raw.writes)
    return SnmpProxyConfig(access, settings, tuple(copiers))


def _traps(reader: Reader, table: dict[str, Any], upstreams: dict[str, object]) -> SnmpTrapsConfig | None:
    at: KeyPath = ("snmp", "traps")
    raw = reader.table(tables.SnmpTraps, table, at)
    if raw is None:
        return None
    before = len(reader.problems)
    bind = checks.checked(reader, addresses.literal, raw.bind, (*at, "bind"))
    server = checks.checked(reader, addresses.with_port, raw.server, (*at, "server"))
    if raw.upstream not in upstreams:
        known = f"known: {', '.join(upstreams)}" if upstreams else "there is no [[upstream]]"
        advice = checks.did_you_mean(raw.upstream, list(upstreams), known)
        reader.problem((*at, "upstream"), f'upstream names "{raw.upstream}", which is not there; {advice}')
    communities = _community(reader, raw, at)
    if len(reader.problems) != before or bind is None or server is None:
        return None
    return SnmpTrapsConfig(bind, raw.port, raw.upstream, TrapSettings(*server, communities, raw.most))


def _access(reader: Reader, raw: tables.SnmpAgent | tables.SnmpProxy, at: KeyPath) -> Access:
    if raw.user is None and raw.community is None and raw.community_file is None:
        reader.problem(at, 'nobody may ask: add user = "monitor" with auth_key_file and priv_key_file')
        return Access()
    users: tuple[User, ...] = ()
    if raw.user is not None:
        if len(raw.user.encode()) > _LONGEST_USER:
            reader.problem((*at, "user"), f"user is longer than {_LONGEST_USER} octets; SNMPv3 takes no longer one")
        auth = _key(reader, at, "auth_key", raw.auth_key, raw.auth_key_file)
        priv = _key(reader, at, "priv_key", raw.priv_key, raw.priv_key_file)
        users = (User(raw.user, raw.auth, auth, raw.priv, priv),)
    return Access(users, _community(reader, raw, at))


def _community(
    reader: Reader, raw: tables.SnmpAgent | tables.SnmpProxy | tables.SnmpTraps, at: KeyPath
) -> tuple[bytes, ...]:
    if raw.community is None and raw.community_file is None:
        return ()
    found = secrets.read_secret(reader, at, raw.community, raw.community_file, "community")
    return (found.value,) if found is not None else ()


def _key(reader: Reader, at: KeyPath, name: str, text: str | None, file: str | None) -> bytes:
    found = secrets.read_secret(reader, at, text, file, name)
    if found is None:
        return b""
    if len(found.value) < SHORTEST_KEY:
        reader.problem(at, f"{name} has fewer than {SHORTEST_KEY} characters; SNMPv3 takes no shorter one")
    return found.value


def _ports(
    reader: Reader, agent: SnmpAgentConfig | None, proxy: SnmpProxyConfig | None, traps: SnmpTrapsConfig | None
) -> None:
    """No two of these ports may be the same."""
    wanted: list[tuple[int, KeyPath]] = []
    if agent is not None:
        wanted.append((agent.port, ("snmp", "agent", "port")))
    if traps is not None:
        wanted.append((traps.port, ("snmp", "traps", "port")))
    bound: list[tuple[str, int]] = []
    for index, (_, bind, port) in enumerate(proxy.copiers if proxy is not None else ()):
        if (bind, port) in bound:
            reader.problem(("snmp", "proxy", "copiers", index), f"port {port} of {bind} stands twice; change one")
        bound.append((bind, port))
    ports = [port for _, port in bound]
    for port, at in wanted:
        if port in ports:
            reader.problem(at, f"port {port} stands twice in [snmp]; change one")
        ports.append(port)


def _numbered(texts: list[str], at: KeyPath) -> list[tuple[str, KeyPath]]:
    return [(text, (*at, index)) for index, text in enumerate(texts)]
