"""Reads [snmp] and the `snmp` of each [[device]]: whose page meters are read, how often, and by which secrets."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.config import addresses, checks, secrets, tables
from appliance.config.lines import Path as KeyPath
from appliance.config.reading import Reader
from appliance.config.values import DeviceConfig, SnmpConfig
from protocols.meters import table
from protocols.meters.formula import WrongTable
from proxy.metering.agents import Agent, User

VERSIONS = {"1": 1, "2c": 2, "3": 3}
COMMUNITY = ("community", "community_file")
USER = ("user", "auth", "auth_key", "auth_key_file", "priv", "priv_key", "priv_key_file")
SHORTEST_KEY = 8
MOST_TABLE_BYTES = 1 << 20


def snmp(
    reader: Reader,
    given: dict[str, Any] | None,
    devices: Iterable[tuple[DeviceConfig | None, dict[str, Any], KeyPath]],
) -> SnmpConfig | None:
    """[snmp] with the agents of the devices that have one; None without either, or with what is wrong noted."""
    at: KeyPath = ("snmp",)
    raw = reader.table(tables.Snmp, given, at) if given is not None else tables.Snmp()
    if raw is None:
        return None
    agents: dict[str, Agent] = {}
    for device, written, place in devices:
        if device is not None and "snmp" in written:
            agent = _agent(reader, device, written["snmp"], (*place, "snmp"), given or {})
            if agent is not None:
                agents[device.id] = agent
    own = _meters(reader, raw.meters_file, (*at, "meters_file")) if raw.meters_file is not None else ""
    if given is None and not agents:
        return None
    return SnmpConfig(agents, raw.in_session.seconds, raw.otherwise.seconds, own)


def _agent(
    reader: Reader, device: DeviceConfig, written: object, at: KeyPath, defaults: dict[str, Any]
) -> Agent | None:
    if not isinstance(written, dict):
        reader.problem(at, 'snmp must be a table; for example snmp = { address = "10.7.0.31" }')
        return None
    if reader.table(tables.DeviceSnmp, written, at) is None:
        return None
    # Where a secret is given for the device, those of [snmp] do not count: neither its file nor its text.
    inherited = {key: value for key, value in defaults.items() if key in tables.DeviceSnmp.__struct_fields__}
    for group in (COMMUNITY, USER):
        if any(key in written for key in group):
            inherited = {key: value for key, value in inherited.items() if key not in group}
    merged = {**inherited, **written}
    raw = tables.DeviceSnmp(**merged)

    def where(key: str) -> KeyPath:
        return (*at, key) if key in written or key not in defaults else ("snmp", key)

    address = device.address
    if raw.address is not None:
        address = checks.checked(reader, addresses.literal, raw.address, (*at, "address"))
    elif address is None:
        reader.problem(
            at, f'address is missing: where does the agent of "{device.id}" answer? add address = "10.7.0.31"'
        )
    version = VERSIONS[raw.version]
    agent = Agent(address or "", raw.port, version)
    if version == 3:
        user = _user(reader, raw, where)
        agent = replace(agent, user=user, context=raw.context or "")
    else:
        if "context" in written:
            reader.problem((*at, "context"), 'only SNMPv3 has contexts; remove this, or add version = "3"')
        key = "community_file" if raw.community_file is not None else "community"
        community = secrets.read_secret(reader, where(key)[:-1], raw.community, raw.community_file, "community")
        agent = replace(agent, community=community.value if community is not None else b"")
    return agent if address is not None else None


def _user(reader: Reader, raw: tables.DeviceSnmp, where: Any) -> User | None:
    if raw.user is None:
        reader.problem(where("user")[:-1], 'SNMPv3 needs a user; add user = "locum"')
        return None
    if raw.priv != "none" and raw.auth == "none":
        reader.problem(where("auth")[:-1], 'priv needs auth; add auth = "sha256" and auth_key_file')
        return None
    keys: dict[str, bytes] = {"auth": b"", "priv": b""}
    for name, kind in (("auth", raw.auth), ("priv", raw.priv)):
        if kind == "none":
            continue
        text, file = getattr(raw, f"{name}_key"), getattr(raw, f"{name}_key_file")
        place = where(f"{name}_key_file" if file is not None else f"{name}_key")[:-1]
        key = secrets.read_secret(reader, place, text, file, f"{name}_key")
        if key is not None and len(key.value) < SHORTEST_KEY:
            reader.problem(place, f"{name}_key has fewer than {SHORTEST_KEY} characters; agents take no shorter one")
        keys[name] = key.value if key is not None else b""
    auth, priv = (kind if kind != "none" else "" for kind in (raw.auth, raw.priv))
    return User(raw.user, auth, keys["auth"], priv, keys["priv"])


def _meters(reader: Reader, name: str, at: KeyPath) -> str:
    """The admin's own table of meters, checked."""
    file = reader.file.parent / Path(name)
    content = secrets.read_file(reader, at, file, "meters_file", MOST_TABLE_BYTES, "correct its path")
    if content is None:
        return ""
    try:
        text = content.decode()
        table.read_table("", text)
    except UnicodeDecodeError:
        reader.problem(at, f"meters_file {file} is not UTF-8; save it as UTF-8")
        return ""
    except WrongTable as error:
        reader.problem(at, f"meters_file {file}: {error}")
        return ""
    return text
