"""Locum's own manager in a process of its own: reads the meters of agents once and prints what it made of each.

`python -m tests.peers.meter_reader` reads JSON from standard input: a list of agents, each with a name, port, version
and community or user; it prints a JSON object by name and ends.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocols.meters import identity
from protocols.meters.table import read_table
from proxy.commands import ReadMeters
from proxy.events import Event, MetersRead, MetersUnread
from proxy.metering.agents import Agent, User
from proxy.net.driver import this_moment
from proxy.net.reactor import lean_reactor
from proxy.net.snmp.manager import SnmpManager

ROOT = Path(__file__).resolve().parents[2]
TABLE = read_table((ROOT / "protocols" / "meters" / "meters.toml").read_text("utf-8"))


class Reader:
    """Reads one agent after the other question: who, what its vendor has, and once as in daily use."""

    def __init__(self, manager: SnmpManager, name: str, done: Callable[[str, dict[str, Any]], None]) -> None:
        self._manager, self._name, self._done = manager, name, done
        self._found: dict[str, Any] = {}
        self._profile: identity.Profile | None = None
        self._troubles: list[str] = []
        self._ask(identity.FIRST_OBJECTS, identity.FIRST_WALKS)

    def _ask(self, oids: tuple[str, ...], walks: tuple[str, ...] = ()) -> None:
        self._manager.read(ReadMeters(self._name, self, None, oids, walks))

    def handle(self, event: Event) -> list[Any]:
        if isinstance(event, MetersUnread):
            self._done(self._name, {"kind": event.kind, "why": event.why})
        elif isinstance(event, MetersRead):
            self._troubles += event.troubles
            self._answered(event)
        return []

    def _answered(self, event: MetersRead) -> None:
        if self._profile is not None:
            values = identity.read_counters(self._profile, event.found)
            told = {
                "vendor": self._profile.vendor, "model": self._profile.model, "serial": self._profile.serial,
                "remarks": self._profile.remarks, "troubles": self._troubles,
                "objects": len(self._profile.objects()), "meters": identity.shown(self._profile, values),
            }  # fmt: skip
            self._done(self._name, told)
            return
        first = not self._found
        self._found.update(event.found)
        vendor = identity.vendor_of(self._found, TABLE)
        oids, walks = identity.more_of(vendor)
        if first and (oids or walks):
            self._ask(tuple(oids), tuple(walks))
            return
        self._profile = identity.profile(vendor, self._found)
        self._ask(self._profile.objects())


def main() -> None:
    reactor: Any = lean_reactor()
    manager = SnmpManager(reactor, lambda flow, event: flow.handle(event) and None, this_moment)
    waiting = json.load(sys.stdin)
    results: dict[str, dict[str, Any]] = {}
    agents: dict[str, Agent] = {}
    for each in waiting:
        name = each.pop("name")
        user = each.pop("user", None)
        keys = {key: each.pop(key).encode() for key in ("community",) if key in each}
        if user is not None:
            user = User(**{key: value.encode() if key.endswith("key") else value for key, value in user.items()})
        agents[name] = Agent(each.pop("address", "127.0.0.1"), user=user, **each, **keys)

    def done(name: str, told: dict[str, Any]) -> None:
        results[name] = told
        if len(results) == len(agents):
            manager.close()
            reactor.callLater(0, reactor.stop)

    def begin() -> None:
        for name in agents:
            Reader(manager, name, done)

    manager.configure(agents)
    reactor.callLater(0, begin)
    reactor.run()
    json.dump({"results": results, "dropped": manager.counts, "pysnmp": "pysnmp" in sys.modules}, sys.stdout)


if __name__ == "__main__":
    main()
