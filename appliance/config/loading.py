"""Loads a configuration file: bytes, then TOML, then sections, then the rules between sections.

A file that is no TOML gives one problem, with its line; any other file gives all of them at once.
"""

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

from appliance.config import between, listeners, management, readers, sections, snmp, tables, upstreams, zones
from appliance.config.lines import Lines, scan
from appliance.config.reading import Reader, printable
from appliance.config.values import Config, ConfigError, Problem

MAX_BYTES = 1 << 20
"""A larger file is surely not a configuration."""


def load(path: Path) -> Config:
    """Read the configuration at `path`; ConfigError holds every mistake that was found."""
    path = path.absolute()
    content = _read(path)
    text = _decoded(path, content).replace("\r\n", "\n")
    lines, plain = scan(text)
    document = _parsed(path, text, plain)
    return _config(Reader(path, lines), document, "sha256:" + hashlib.sha256(content).hexdigest())


def state_dir_of(path: Path) -> Path:
    """The state directory that the file names, whatever else is wrong with it; ConfigError when it is no TOML.

    So a person can ask a running Locum how it is, with a file that has mistakes by now or secrets they may not read.
    """
    path = path.absolute()
    given = _section(path, "appliance")[0].get("state_dir")
    return path.parent / (given if isinstance(given, str) and "\0" not in given else tables.Appliance().state_dir)


def time_zone_of(path: Path) -> str | None:
    """The time zone that [ledger] of the file names, whatever else is wrong with it; ConfigError when it is no TOML, or
    names none that this machine knows.
    """
    path = path.absolute()
    section, lines = _section(path, "ledger")
    given = section.get("time_zone")
    if given is None:
        return None
    try:
        return zones.known(str(given))
    except ValueError as error:
        raise _only(path, lines.of(("ledger", "time_zone")), f"time_zone {printable(given)} {error}") from None


def _section(path: Path, name: str) -> tuple[dict[str, Any], Lines]:
    """A section as it is written, empty if it is not there, and where its keys stand."""
    text = _decoded(path, _read(path)).replace("\r\n", "\n")
    lines, plain = scan(text)
    section = _parsed(path, text, plain).get(name)
    return section if isinstance(section, dict) else {}, lines


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise _only(path, 1, "is not a regular file; name the configuration with -c FILE")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _only(path, 1, "there is no such file; name the configuration with -c FILE") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _only(path, 1, f"cannot be read ({reason}); run as root or as a member of the group locum") from None
    if len(content) > MAX_BYTES:
        raise _only(path, 1, f"is larger than {MAX_BYTES} bytes; is it the right file?")
    return content


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _only(path, line, "holds bytes that are not UTF-8; save the file as UTF-8") from None


def _parsed(path: Path, text: str, plain: str) -> dict[str, Any]:
    """The document; `plain` is `text` as TOML 1.0, with the same offsets but other line breaks."""
    try:
        return tomllib.loads(plain)
    except (ValueError, RecursionError) as error:
        reason = str(error)
        place = re.search(r" \(at line (\d+), column (\d+)\)", reason)
        offset = 0
        if place:
            reason = reason.replace(place[0], "")
            offset = sum(len(line) + 1 for line in plain.split("\n")[: int(place[1]) - 1]) + int(place[2]) - 1
        elif "end of document" in reason:
            offset = len(text)
        line = text.count("\n", 0, offset) + 1
        raise _only(path, line, f"is not TOML ({reason}); correct this line or the one before it") from None


def _config(reader: Reader, document: dict[str, Any], digest: str) -> Config:
    for key in tables.LATER_SECTIONS:
        if document.pop(key, None) is not None:
            reader.problem((key,), f"this version does not have [{key}] yet; remove the section")
    raw = reader.table(tables.Document, document, ()) or _readable_parts(document)
    appliance = reader.table(tables.Appliance, raw.appliance or {}, ("appliance",)) or tables.Appliance()
    offline = sections.offline(reader, raw.offline, ("offline",))
    window = offline.drain_window if "drain_window" in raw.offline else None
    found = [upstreams.upstream(reader, table, at, window) for table, at in between.each(raw.upstream, "upstream")]
    dialects = {table["name"]: table.get("dialect") for table in raw.upstream if isinstance(table.get("name"), str)}
    listens = [listeners.listen(reader, table, at, dialects) for table, at in between.each(raw.listen, "listen")]
    beside = [readers.reader(reader, table, at, dialects) for table, at in between.each(raw.reader, "reader")]
    devices = [sections.device(reader, table, at, offline) for table, at in between.each(raw.device, "device")]
    meters = snmp.snmp(
        reader,
        raw.snmp,
        [(each, *written) for each, written in zip(devices, between.each(raw.device, "device"), strict=True)],
    )
    managed = management.management(reader, raw.snmp or {}, meters, dialects)
    metrics = sections.metrics(reader, raw.metrics, ("metrics",))
    alerts = sections.alerts(reader, raw.alerts, ("alerts",))
    ledger = sections.ledger(reader, raw.ledger, ("ledger",))
    inline = sections.inline(reader, raw.inline, ("inline",))
    between.judge(reader, raw, listens, beside, devices, metrics)
    if inline is not None:
        between.judge_in_line(reader, listens, found)
    radius = sections.radius(reader, raw.radius, ("radius",))
    if reader.problems:
        raise ConfigError(reader.problems)
    return Config(
        path=reader.file,
        digest=digest,
        name=appliance.name,
        state_dir=reader.file.parent / appliance.state_dir,
        upstreams=tuple(item for item in found if item is not None),
        listens=tuple(item for item in (*listens, *beside) if item is not None),
        offline=offline,
        devices=tuple(item for item in devices if item is not None),
        radius=radius,
        alerts=alerts,
        metrics=metrics,
        ledger=ledger,
        inline=inline,
        snmp=meters,
        management=managed,
    )


def _readable_parts(document: dict[str, Any]) -> tables.Document:
    """The sections of a document with mistakes at the top that can still be looked into."""
    quiet = Reader(Path(), Lines({}))
    parts = {}
    for key in tables.Document.__struct_fields__:
        part = quiet.table(tables.Document, {key: document[key]}, ()) if key in document else None
        if part is not None:
            parts[key] = getattr(part, key)
    return tables.Document(**parts)


def _only(path: Path, line: int, text: str) -> ConfigError:
    return ConfigError([Problem(path, line, text)])
