"""The agents of copiers whose meters are read: asked as the service asks them, many at once and for a limited time.

SNMPv3 reports a wrong user or key. SNMPv1 and SNMPv2c say nothing to a wrong community; so a copier that is silent is
looked for otherwise, on its web server's ports, where a refusal is a sign of life too. One that is there and silent is
an error of the configuration most likely; one that is not there at all is off, asleep or elsewhere.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from appliance.check.findings import Finding, Level, error, ok, warning
from appliance.cli.common import MOST_NAMES
from appliance.config import Config
from protocols.meters import identity, table
from protocols.snmp.messages import Varbind
from proxy.metering.agents import Agent

if TYPE_CHECKING:
    from proxy.commands import ReadMeters
    from proxy.events import Event, Flow

AT_ONCE = 128
LONGEST = 30.0
"""Seconds for all of them; who was not asked by then is said."""
RETRIES = 1
WEB_PORTS = (80, 443)
KNOCK = 1.0
MOST_LINES = 10
"""Findings of one kind that have a line each."""


@dataclass(slots=True)
class Seen:
    """What came of one copier. `kind`: "" (it was read), late (not asked in time), or as in `MetersUnread`."""

    device: str
    agent: Agent
    kind: str = "late"
    why: str = ""
    known: identity.Profile | None = None
    meters: Mapping[str, int] = field(default_factory=dict)


def findings(config: Config) -> Iterator[Finding]:
    agents = config.snmp.agents if config.snmp is not None else {}
    if not agents or config.snmp is None:
        return
    known = table.read_table(table.shipped_text(), config.snmp.meters)
    seen = _asked([Seen(name, replace(agents[name], retries=RETRIES)) for name in sorted(agents)], known)
    alive = _alive([each.agent.address for each in seen if each.kind == "silent"])
    kinds: dict[tuple[Level, str], list[tuple[Seen, Finding]]] = {}
    for each in seen:
        finding = _finding(each, alive)
        kind = "there" if each.agent.address in alive else ""
        kinds.setdefault((finding.level, each.kind + kind), []).append((each, finding))
    for (level, _), found in kinds.items():
        yield from (finding for _, finding in found[:MOST_LINES])
        if rest := [each.device for each, _ in found[MOST_LINES:]]:
            names = ", ".join(rest[:MOST_NAMES]) + (", ..." if len(rest) > MOST_NAMES else "")
            yield Finding(level, "meters", f"the same of {len(rest):,} more: {names}")


def _finding(each: Seen, alive: set[str]) -> Finding:
    what, agent = f"meters {each.device}", each.agent
    match each.kind:
        case "":
            return _read(what, each)
        case "late":
            return warning(what, f"was not asked to the end in {LONGEST:g} s; look at those above, and run this again")
        case "denied":
            return error(what, f"{each.why}; correct it in [snmp] or in the device's snmp")
        case "silent" if agent.address in alive and agent.version == 3:
            text = f"{agent.address} is there, but says nothing to SNMPv3"
            return error(what, f"{text}: is it switched on, and may this machine ask?")
        case "silent" if agent.address in alive:
            text = f"{agent.address} is there, but says nothing to SNMP: most likely the community is wrong"
            return error(what, f"{text} (no agent tells that), or it is switched off, or this machine may not ask")
        case "silent":
            return warning(what, f"{each.why}; nothing else answers there either")
        case "nobody":
            return error(what, each.why)
    return error(what, f"{each.why}; is an SNMP agent at {agent.address} port {agent.port}?")


def _read(what: str, each: Seen) -> Finding:
    model = each.known.model if each.known is not None and each.known.model else "a machine without a name"
    if table.TOTAL not in each.meters:
        text = f"{model} answers, but has no counter of pages that Locum knows; write its objects into a meters_file"
        return warning(what, f"{text} (see docs/meters.md)")
    told = ", ".join(f"{name} {number:,}" for name, number in each.meters.items() if not name.endswith("_color"))
    remarks = f" ({'; '.join(each.known.remarks)})" if each.known is not None and each.known.remarks else ""
    return ok(what, f"{model}: {told}{remarks}")


# Asking


class _Look:
    """A flow that asks one copier who it is, what its maker has, and its counters."""

    def __init__(self, seen: Seen, known: table.Table, manager: Any) -> None:
        self.over = False
        self._seen = seen
        self._table = known
        self._manager = manager
        self._found: dict[str, Varbind] = {}
        self._ask(identity.FIRST_OBJECTS, identity.FIRST_WALKS)

    def handle(self, event: Event) -> list[Any]:
        from proxy.events import MetersRead, MetersUnread

        if isinstance(event, MetersUnread):
            self._seen.kind, self._seen.why, self.over = event.kind, event.why, True
        elif isinstance(event, MetersRead):
            self._answered(event.found)
        return []

    def _ask(self, oids: Sequence[str], walks: Sequence[str] = ()) -> None:
        from proxy.commands import ReadMeters

        command: ReadMeters = ReadMeters(self._seen.device, self, None, tuple(oids), tuple(walks))
        self._manager.read(command)

    def _answered(self, found: Mapping[str, Varbind]) -> None:
        first = not self._found
        self._found.update(found)
        vendor = identity.vendor_of(self._found, self._table)
        oids, walks = identity.more_of(vendor)
        if first and found and (oids or walks):
            self._ask(oids, walks)
            return
        known = self._seen.known = identity.profile(vendor, self._found)
        self._seen.meters = identity.shown(known, identity.read_counters(known, self._found))
        self._seen.kind, self.over = "", True


def _asked(seen: list[Seen], known: table.Table) -> list[Seen]:
    """Ask them all, `AT_ONCE` at a time."""
    # The reactor is loaded only where there is somebody to ask; it is turned by hand, for nothing else runs on it.
    from proxy.net.driver import this_moment
    from proxy.net.reactor import lean_reactor
    from proxy.net.snmp.manager import SnmpManager

    def dispatch(flow: Flow, event: Event) -> None:
        flow.handle(event)

    reactor = lean_reactor()
    manager = SnmpManager(reactor, dispatch, this_moment)
    manager.configure({each.device: each.agent for each in seen})
    waiting, under_way = list(reversed(seen)), list[_Look]()
    deadline = time.monotonic() + LONGEST
    try:
        while (waiting or under_way) and time.monotonic() < deadline:
            while waiting and len(under_way) < AT_ONCE:
                under_way.append(_Look(waiting.pop(), known, manager))
            reactor.iterate(0.01)
            under_way = [each for each in under_way if not each.over]
    finally:
        manager.close()
        reactor.iterate(0)
    return seen


def _alive(addresses: Sequence[str]) -> set[str]:
    """Those of them where a machine answers to a knock, be it that it refuses."""
    found: set[str] = set()
    wanted = list(dict.fromkeys(addresses))
    for first in range(0, len(wanted), AT_ONCE):
        found |= _knocked(wanted[first : first + AT_ONCE])
    return found


def _knocked(addresses: Sequence[str]) -> set[str]:
    found: set[str] = set()
    deadline = time.monotonic() + KNOCK
    with selectors.DefaultSelector() as selector:
        knocks = [(address, port) for address in addresses for port in WEB_PORTS]
        opened: list[socket.socket] = []
        try:
            for address, port in knocks:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                opened.append(made := socket.socket(family, socket.SOCK_STREAM))
                made.setblocking(False)
                made.connect_ex((address, port))
                selector.register(made, selectors.EVENT_WRITE, address)
            while (left := deadline - time.monotonic()) > 0 and selector.get_map():
                for key, _ in selector.select(left):
                    selector.unregister(key.fileobj)
                    if _answers(key.fileobj):
                        found.add(key.data)
        finally:
            for each in opened:
                each.close()
    return found


def _answers(knock: Any) -> bool:
    problem: int = knock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return problem in (0, errno.ECONNREFUSED, errno.ECONNRESET)
