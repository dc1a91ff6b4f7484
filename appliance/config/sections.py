"""From the tables of the file to the values of a `Config`: one function a section, and the rules between keys.

Every function notes what is wrong and gives None or leaves the part out; `loading.load` raises when anything was noted.
[[upstream]] and [[listen]] have modules of their own.
"""

import dataclasses
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import msgspec

from appliance.config import addresses, checks, tables, zones
from appliance.config.lines import Path as KeyPath
from appliance.config.reading import Reader
from appliance.config.values import (
    AlertsConfig,
    DeviceConfig,
    InlineConfig,
    LedgerConfig,
    MetricsConfig,
    OfflineConfig,
    RadiusConfig,
    SyslogTarget,
)

SYSLOG_PORT = 514


def offline(reader: Reader, table: dict[str, Any], at: KeyPath) -> OfflineConfig:
    """The [offline] section over the defaults; the defaults alone when it holds a mistake."""
    return offline_over(reader, OfflineConfig(), table, at)


def offline_over(reader: Reader, base: OfflineConfig, table: dict[str, Any], at: KeyPath) -> OfflineConfig:
    raw = reader.table(tables.Offline, table, at)
    if raw is None:
        return base
    pattern = checks.checked(reader, checks.pattern, raw.card_pattern, (*at, "card_pattern"))
    given: dict[str, Any] = {key: getattr(raw, key) for key in table}
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
    address = (
        checks.checked(reader, addresses.literal, raw.address, (*at, "address")) if raw.address is not None else None
    )
    return DeviceConfig(
        id=raw.id,
        address=address,
        printer=raw.printer or raw.id,
        offline=offline_over(reader, base, own, (*at, "offline")),
        certificate=(raw.certificate_sha256 or "").replace(":", "").lower(),
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


def alerts(reader: Reader, table: dict[str, Any], at: KeyPath) -> AlertsConfig:
    raw = reader.table(tables.Alerts, table, at) or tables.Alerts()
    written = [(raw.syslog, (*at, "syslog"))] if isinstance(raw.syslog, str) else _numbered(raw.syslog, (*at, "syslog"))
    targets = [checks.checked(reader, _syslog, text, where) for text, where in written]
    return AlertsConfig(tuple(dict.fromkeys(target for target in targets if target is not None)))


def metrics(reader: Reader, table: dict[str, Any] | None, at: KeyPath) -> MetricsConfig | None:
    raw = reader.table(tables.Metrics, table, at) if table is not None else None
    if raw is None:
        return None
    bind = checks.checked(reader, addresses.literal, raw.bind, (*at, "bind"))
    return None if bind is None else MetricsConfig(bind, raw.port)


def ledger(reader: Reader, table: dict[str, Any], at: KeyPath) -> LedgerConfig:
    raw = reader.table(tables.Ledger, table, at) or tables.Ledger()
    zone = checks.checked(reader, zones.known, raw.time_zone, (*at, "time_zone")) if raw.time_zone else None
    return LedgerConfig(raw.keep_personal.seconds if raw.keep_personal is not None else None, zone)


def inline(reader: Reader, table: dict[str, Any] | None, at: KeyPath) -> InlineConfig | None:
    raw = reader.table(tables.Inline, table, at) if table is not None else None
    if raw is None:
        return None
    names = {"copier_side": raw.copier_side, "server_side": raw.server_side}
    if raw.mode == "bridge":
        names["bridge"] = raw.bridge
    elif table is not None and "bridge" in table:
        reader.problem((*at, "bridge"), "a router has no bridge; remove this line")
    for key, name in names.items():
        if list(names.values()).count(name) > 1:
            reader.problem((*at, key), f"{name} stands twice in [inline]; each interface has one place")
            return None
    return InlineConfig(raw.mode, raw.copier_side, raw.server_side, raw.bridge)


def _numbered(texts: list[str], at: KeyPath) -> list[tuple[str, KeyPath]]:
    return [(text, (*at, index)) for index, text in enumerate(texts)]


def _syslog(text: str) -> SyslogTarget:
    """ValueError says what is wrong and what to do."""
    wrong = ValueError("is no address of a syslog server; write for example udp://10.0.0.9:514")
    try:
        parts = urlsplit(text)
        port = parts.port or SYSLOG_PORT
    except ValueError:
        raise wrong from None
    if parts.path or parts.query or parts.fragment or parts.username is not None or not parts.hostname:
        raise wrong
    host = addresses.host(parts.hostname)
    if parts.scheme == "udp":
        return SyslogTarget("udp", host, port)
    if parts.scheme == "tcp":
        return SyslogTarget("tcp", host, port)
    raise wrong
