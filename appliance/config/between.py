"""The rules that hold between tables: what must be there, what stands once, what cannot share a port."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from appliance.config import checks, tables
from appliance.config.lines import Path as KeyPath
from appliance.config.reading import Reader
from appliance.config.values import (
    DeviceConfig,
    ListenConfig,
    MetricsConfig,
    RadiusListenConfig,
    ReaderConfig,
    TerminalListenConfig,
    UpstreamConfig,
)


def each(given: list[dict[str, Any]], key: str) -> list[tuple[dict[str, Any], KeyPath]]:
    """The tables of an array of tables, each with its path."""
    return [(table, (key, index)) for index, table in enumerate(given)]


def judge(
    reader: Reader,
    raw: tables.Document,
    listens: list[ListenConfig | None],
    beside: list[ReaderConfig | None],
    devices: list[DeviceConfig | None],
    metrics: MetricsConfig | None,
) -> None:
    """Note what is wrong between the tables; those that are None have mistakes of their own."""
    for key, what in (("upstream", "an Application Server"), ("listen", "an address where devices reach Locum")):
        there = getattr(raw, key) or (key == "listen" and raw.reader)
        if not there and not reader.problems:
            reader.problem((), f"there is no [[{key}]]; add one: {what}")
    named = [(table.get("name"), (*at, "name")) for table, at in each(raw.upstream, "upstream")]
    checks.unique(reader, "upstream name", [(name, at) for name, at in named if isinstance(name, str)])
    # Each PaperCut server keeps one claim of this appliance: two upstreams to it would deny each other theirs.
    urls = [(table.get("url"), (*at, "url")) for table, at in each(raw.upstream, "upstream")]
    checks.unique(reader, "url", [(url, at) for url, at in urls if isinstance(url, str)])
    known = [(device, ("device", index)) for index, device in enumerate(devices) if device is not None]
    checks.unique(reader, "device id", [(device.id, (*at, "id")) for device, at in known])
    pinned = [(device.address, (*at, "address")) for device, at in known if device.address is not None]
    checks.unique(reader, "device address", list(pinned))
    readers = [(each.device, ("reader", index, "device")) for index, each in enumerate(beside) if each is not None]
    checks.unique(reader, "reader's device", list(readers))
    _ports(reader, listens, beside, metrics)


def _ports(
    reader: Reader,
    listens: list[ListenConfig | None],
    beside: list[ReaderConfig | None],
    metrics: MetricsConfig | None,
) -> None:
    """Two listeners cannot have the same port of the same address, or of all addresses; UDP and TCP are apart."""
    taken: list[tuple[str, tuple[str, int], int]] = []
    wanted: list[tuple[str, list[tuple[str, int]], KeyPath]] = [
        (listen.bind, _used(listen), ("listen", index, "bind"))
        for index, listen in enumerate(listens)
        if listen is not None
    ]
    wanted += [
        (each.bind, [("tcp", each.port)], ("reader", index, "listen"))
        for index, each in enumerate(beside)
        if each is not None
    ]
    if metrics is not None:
        wanted.append((metrics.bind, [("tcp", metrics.port)], ("metrics", "port")))
    for bind, ports, at in wanted:
        for port in ports:
            other = next((line for place, used, line in taken if used == port and _same_place(place, bind)), None)
            if other is not None:
                text = f"port {port[1]} of {bind} is taken by the listener in line {other}; change bind or the port"
                reader.problem(at, text)
            taken.append((bind, port, reader.lines.of(at)))


def judge_in_line(reader: Reader, listens: list[ListenConfig | None], found: Sequence[UpstreamConfig | None]) -> None:
    """In line devices speak to the server's address, so a listener takes what is for any address, or for its server."""
    for index, listen in enumerate(listens):
        if listen is None or ip_address(listen.bind).is_unspecified:
            continue
        servers = [each.addresses for each in found if each is not None and each.name == listen.upstream]
        if listen.bind not in (address for addresses in servers for address in addresses):
            text = (
                'in line a listener takes what is for the server: bind must be "0.0.0.0", "::" or an address of '
                f"{listen.upstream}, not {listen.bind}"
            )
            reader.problem(("listen", index, "bind"), text)


def _used(listen: ListenConfig) -> list[tuple[str, int]]:
    match listen:
        case RadiusListenConfig():
            return [("udp", port) for port in dict.fromkeys((listen.auth_port, listen.accounting_port))]
        case TerminalListenConfig():
            return [("tcp", listen.port)]
    return []


def _same_place(one: str, other: str) -> bool:
    first, second = ip_address(one), ip_address(other)
    if first.version != second.version:
        return False
    return first == second or first.is_unspecified or second.is_unspecified
