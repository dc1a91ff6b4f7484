"""What the kernel says of Locum in line: whether it diverts, how much, and since when nobody fed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from appliance.inline import rules
from appliance.inline.kernel import Kernel, listed

_NETDEV = ("table", "netdev", rules.TABLE)
_INET = ("table", "inet", rules.TABLE)


@dataclass(frozen=True, slots=True)
class Count:
    """Packets, or frames, and their bytes."""

    packets: int = 0
    octets: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.packets + other.packets, self.octets + other.octets)


@dataclass(frozen=True, slots=True)
class Watched:
    """`rules`: they are there. `beating`: the appliance feeds them, so that traffic is diverted. On a bridge: frames
    `to_server` and `to_copier` that came to Locum, `sent` by it, and `unknown`: not sent, for nobody was seen yet who
    has the address. `handed`: packets given to a socket. `flows`: those that are diverted now; `no_room`: frames of
    others that passed, for there were too many. `links`: each interface with whether it is up and has a link.
    """

    rules: bool
    beating: bool
    flows: int = 0
    no_room: Count = Count()
    to_server: Count = Count()
    to_copier: Count = Count()
    sent: Count = Count()
    unknown: Count = Count()
    handed: Count = Count()
    links: dict[str, str] = field(default_factory=dict)


def watched(kernel: Kernel, interfaces: list[str], *, bridge: bool) -> Watched:
    """Raises KernelRefuses."""
    there = {(each["table"]["family"], each["table"]["name"]) for each in listed("tables") if "table" in each}
    links = {name: _link(kernel, name) for name in interfaces}
    if ("inet", rules.TABLE) not in there or (bridge and ("netdev", rules.TABLE) not in there):
        return Watched(False, False, links=links)
    inet = listed(*_INET)
    handed = _counted(inet, "hand")
    if not bridge:
        return Watched(True, bool(_elements(inet, "alive")), handed=handed, links=links)
    netdev = listed(*_NETDEV)
    taken, no_room = _but_last(netdev, "take4", "take6")
    sent, unknown = _but_last(netdev, "out")
    return Watched(
        True,
        bool(_elements(netdev, "alive")),
        sum(len(_elements(netdev, f"flows{version}")) for version in (4, 6)),
        no_room,
        taken,
        _counted(netdev, "more4") + _counted(netdev, "more6"),
        sent,
        unknown,
        handed,
        links,
    )


def _link(kernel: Kernel, name: str) -> str:
    found = kernel.interface(name)
    if found is None:
        return "is not there"
    if not found.up:
        return "is down"
    return "is up" if found.carrier else "is up, without a link"


def _counted(listing: list[dict[str, Any]], chain: str) -> Count:
    return sum(_counts(listing, chain), Count())


def _but_last(listing: list[dict[str, Any]], *chains: str) -> tuple[Count, Count]:
    """What the rules of chains counted, and what the last one of each did, which none before it wanted."""
    found = [_counts(listing, chain) for chain in chains]
    return sum((each for counts in found for each in counts[:-1]), Count()), sum((c[-1] for c in found if c), Count())


def _counts(listing: list[dict[str, Any]], chain: str) -> list[Count]:
    return [count for each in listing if each.get("rule", {}).get("chain") == chain for count in _counters(each)]


def _counters(entry: dict[str, Any]) -> list[Count]:
    found = [part["counter"] for part in entry["rule"]["expr"] if isinstance(part, dict) and "counter" in part]
    return [Count(each["packets"], each["bytes"]) for each in found]


def _elements(listing: list[dict[str, Any]], name: str) -> list[Any]:
    for each in listing:
        if each.get("set", {}).get("name") == name:
            elements: list[Any] = each["set"].get("elem", [])
            return elements
    return []
