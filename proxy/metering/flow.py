"""Page meters of all copiers: when each is read, and what is made of it.

A copier in session is read every `in_session` seconds, at its beginning and its end at once, else every `otherwise`.
Never more than one request is under way to a device, and a fleet is read a few at a time. A copier that does not
answer is asked again; what ended meanwhile is settled when it does. Readings are kept at the first sight of a machine,
with every job, at a reset or an exchange, at the beginning and the end of an outage, and at midnight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from protocols.meters import identity
from protocols.meters.identity import Profile
from protocols.meters.table import MEANINGS, Table, Vendor
from protocols.snmp.messages import Varbind
from proxy.commands import Command, Keep, ReadMeters, Tell
from proxy.events import Event, Kept, MetersRead, MetersUnread, Moment, NotKept, Ticked
from proxy.metering import Metered
from proxy.metering.copier import Copier, Outcome, Reading
from proxy.metering.midnight import Midnights
from proxy.metering.settling import Settling, raw_of
from proxy.site import Site
from proxy.tally import Tally
from proxy.upstream import Upstream
from storage.answers import OpenSession
from storage.records import MeterReading

A_TICK = 4
SPREAD = 0.075
"""Devices that are asked in one tick of 50 ms: as many as the fleet needs in session and half as many more, so that
readings are spread in time; 4 at least.
"""
MISSES = 3
"""Readings that a device leaves unanswered before that is said."""
PATIENT = 600.0
"""Seconds after its end that a session is waited for as often as in session; then as otherwise."""
ANEW_EVERY = 24 * 3600.0
"""Seconds after which a device is looked at as for the first time: firmware changes what it answers."""
STRANGE = 3600.0
"""Seconds for which a machine must lack the counter that it had before another one counts instead."""
KEPT = tuple(each for each in MEANINGS if not each.endswith("_color"))
LONGEST_REMARK = 255


@dataclass(frozen=True, slots=True)
class Pace:
    """How often meters are read, in seconds."""

    in_session: float = 5.0
    otherwise: float = 300.0


@dataclass(slots=True)
class Device:
    """One copier whose meters are read. `step`: what is asked: who, more (of its vendor), read. `trouble`: why it is
    not read, in words; `kind`: as in `MetersUnread`, or strange (it answers, but no counter of pages).
    """

    name: str
    copier: Copier
    due: float = float("-inf")
    asked: Moment | None = None
    step: str = "who"
    vendor: Vendor | None = None
    found: dict[str, Varbind] | None = None
    looked: float = float("-inf")
    misses: int = 0
    trouble: str = ""
    kind: str = ""
    kept_wall: int = 0
    wanted: str = ""
    asked_number: int = 0
    strange_since: float | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """Token: a device was asked."""

    device: str
    number: int


class Metering:
    """The flow. `zone`: whose midnights readings are kept at; `memory`: what was remembered under a key."""

    def __init__(
        self,
        table: Table,
        site: Site,
        tally: Tally,
        zone: tzinfo,
        memory: Callable[[str], str | None] = lambda key: None,
        pace: Pace = Pace(),
    ) -> None:
        self.table = table
        self.pace = pace
        self.devices: dict[str, Device] = {}
        self.midnights = Midnights(zone)
        self._tally = tally
        self._memory = memory
        self._settling = Settling(self, site, self._records_to)
        self._todo: list[Command] = []
        self._saved: list[tuple[str, list[dict[str, Any]]]] = []
        self._readers: dict[str, Upstream] = {}

    # Who is read

    def configure(self, devices: set[str], pace: Pace, at: Moment) -> None:
        """Read the meters of these devices, this often. What is known of those that stay is kept."""
        self.pace = pace
        for name in self.devices.keys() - devices:
            del self.devices[name]
        for name in sorted(devices - self.devices.keys()):
            self.devices[name] = Device(name, Copier())
            self._restore(self.devices[name], at)

    def metered(self, device: str, records_to: Upstream) -> Metered:
        """What the reader beside a copier tells its meters; its jobs go to `records_to`."""
        self._readers[device] = records_to
        return OfCopier(self, device)

    def follow(self, upstream: Upstream) -> None:
        """Readings are kept at the beginning and the end of its outages."""
        upstream.subscribers.append(Outages(self, upstream))

    def _records_to(self, name: str) -> Upstream | None:
        return self._readers.get(name)

    def _restore(self, device: Device, at: Moment) -> None:
        text = self._memory(f"meter:{device.name}")
        if not text:
            return
        try:
            saved = device.copier.restore(text, at.now, at.wall)
        except ValueError:
            told = f"{device.name}: what was remembered of its meters cannot be read; they are counted from now on"
            self._todo.append(Tell("error", told, {"device": device.name}))
            return
        if saved:
            self._saved.append((device.name, saved))

    # Events

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, Ticked):
            return self._tick(event.at)
        if isinstance(event, MetersRead):
            device = self._answering(event.token)
            return [] if device is None else self._answered(device, event)
        if isinstance(event, MetersUnread):
            device = self._answering(event.token)
            return [] if device is None else self._unanswered(device, event)
        return self._settling.handle(event) if isinstance(event, Kept | NotKept) else []

    def hurry(self, device: Device) -> None:
        """Read it as soon as may be."""
        device.due = float("-inf")

    def want(self, why: str) -> None:
        """A reading of every device is to be kept, for this reason."""
        for device in self.devices.values():
            device.wanted = why
            self.hurry(device)

    def _tick(self, at: Moment) -> list[Command]:
        commands = self._begin() + self._settling.tick(at)
        if self.midnights.passed(at.wall):
            self.want("midnight")
        asked, most = 0, max(A_TICK, round(SPREAD * len(self.devices) / self.pace.in_session))
        for device in self.devices.values():
            if asked >= most:
                break
            if device.asked is None and device.due <= at.now:
                asked += 1
                commands.append(self._ask(device, at))
        return commands

    def _begin(self) -> list[Command]:
        """What an earlier run has left."""
        commands, self._todo = self._todo, []
        saved, self._saved = self._saved, []
        return commands + [command for name, jobs in saved for command in self._settling.again(name, jobs)]

    # Asking

    def _ask(self, device: Device, at: Moment) -> ReadMeters:
        device.asked = at
        device.asked_number += 1
        token = Asked(device.name, device.asked_number)
        profile = device.copier.profile
        if device.step == "read" and (profile is None or at.now - device.looked >= ANEW_EVERY):
            device.step = "who"
        if device.step == "who":
            return ReadMeters(device.name, self, token, identity.FIRST_OBJECTS, identity.FIRST_WALKS)
        if device.step == "more" and device.vendor is not None:
            oids, walks = identity.more_of(device.vendor)
            return ReadMeters(device.name, self, token, tuple(oids), tuple(walks))
        return ReadMeters(device.name, self, token, profile.objects() if profile is not None else ())

    def _answering(self, token: object) -> Device | None:
        device = self.devices.get(token.device) if isinstance(token, Asked) else None
        if device is None or not isinstance(token, Asked) or token.number != device.asked_number:
            return None
        return device

    def _unanswered(self, device: Device, event: MetersUnread) -> list[Command]:
        device.asked = None
        device.misses += 1
        device.step = "who" if device.step == "more" else device.step
        device.due = event.at.now + self._pause(device, event.at.now)
        if event.kind == "silent" and device.misses < MISSES:
            return []
        return self._say(device, event.kind, f"its meters are not read: {event.why}")

    def _answered(self, device: Device, event: MetersRead) -> list[Command]:
        asked, device.asked = device.asked, None
        commands: list[Command] = []
        for trouble in event.troubles:
            commands += self._tally.note("snmp-agent", device.name, f"{device.name}: {trouble}", event.at.now)
        if device.step == "who":
            device.found = dict(event.found)
            device.vendor = identity.vendor_of(device.found, self.table)
            device.step = "more" if any(identity.more_of(device.vendor)) else "read"
            if device.step == "more":
                self.hurry(device)
                return commands
        elif device.step == "more":
            device.found = {**(device.found or {}), **event.found}
            device.step = "read"
        else:
            return commands + self._read(device, event.found, asked or event.at, event.at)
        commands += self._known(device, event.at)
        self.hurry(device)
        return commands

    def _known(self, device: Device, at: Moment) -> list[Command]:
        """Who it is has been found out."""
        if device.vendor is None or device.found is None:
            return []
        before, profile = device.copier.profile, identity.profile(device.vendor, device.found)
        device.looked, device.found = at.now, None
        if before == profile:
            return []
        if before is not None and not self._may_differ(device, before, profile, at):
            return []
        device.copier.profile = profile
        remarks = f" ({'; '.join(profile.remarks)})" if profile.remarks else ""
        tells = ", ".join(each for each in KEPT if each in profile.formulas) or "nothing"
        text = f"{device.name}: {profile.model or 'a machine without a name'}; its meters tell {tells}{remarks}"
        return [Tell("info" if "total" in profile.formulas else "warning", text, {"device": device.name})]

    def _may_differ(self, device: Device, before: Profile, profile: Profile, at: Moment) -> bool:
        """Whether to believe that other counters count from now on: at once of another machine, else after a while."""
        same = before.serial == profile.serial and before.vendor == profile.vendor
        if not same or before.formulas.get("total") == profile.formulas.get("total"):
            return True
        if device.strange_since is None:
            device.strange_since = at.now
        return at.now - device.strange_since >= STRANGE

    # Readings

    def _read(self, device: Device, found: Mapping[str, Varbind], asked: Moment, at: Moment) -> list[Command]:
        copier, profile = device.copier, device.copier.profile
        if profile is None:
            return []
        device.due = at.now + self._pause(device, at.now)
        values = identity.read_counters(profile, found)
        serial = identity.text(found.get(profile.serial_object)) if profile.serial_object else ""
        total = profile.formulas.get("total", ())
        device.misses = 0
        if not total or any(counter not in values for _, counter in total):
            # It answers, but not what it did: firmware, another machine, or a damaged answer.
            device.looked = float("-inf")
            device.due = at.now + max(self._pause(device, at.now), self.pace.in_session)
            if not total:  # said when it was found out who it is
                device.kind, device.trouble = "strange", "it has no counter of pages that Locum knows"
                return []
            return self._say(device, "strange", "it answers no counter of pages as it should")
        device.strange_since = None
        commands = self._well(device)
        before = copier.last
        outcome = copier.read(Reading(values, identity.uptime_of(found), serial, asked.now, asked.wall))
        if any(each.ended is not None or each.began > asked.now for each in copier.spans):
            self.hurry(device)  # somebody came or went while it was read
        return commands + self._made(device, outcome, before, profile, at)

    def _made(
        self, device: Device, outcome: Outcome, before: Reading | None, profile: Profile, at: Moment
    ) -> list[Command]:
        copier = device.copier
        commands: list[Command] = []
        if outcome.event == "exchange":
            device.looked = float("-inf")
        if outcome.event != "reading":
            what = "was exchanged" if outcome.event == "exchange" else "has begun to count anew"
            text = f"{device.name}: the copier {what}: {outcome.why}; what it made since the reading before is unknown"
            commands.append(Tell("warning", text, {"device": device.name}))
        if outcome.unclear:
            text = f"{device.name}: {outcome.unclear} pages were made while it did not answer, and may be of several"
            commands.append(Tell("warning", f"{text} persons: nobody is charged", {"device": device.name}))
        if device.name not in self._readers:
            outcome = Outcome(outcome.event, outcome.why, ())
            copier.accounts.clear()
        first = before is None
        # After a restart a session's pages are told from those before it by the reading at its beginning.
        begun = before is not None and any(each.began >= before.now for each in copier.spans)
        if outcome.settled or outcome.event != "reading" or first or begun:
            raw = raw_of(before.values if before is not None else {}, copier.last.values if copier.last else {})
            commands.append(self._settling.settle(device.name, copier, outcome.settled, raw, at))
        keeps = bool(outcome.settled) or outcome.event != "reading" or not device.kept_wall
        if keeps or (device.wanted and not copier.pending):
            commands += self._keep(device, outcome, at)
        return commands

    def _keep(self, device: Device, outcome: Outcome, at: Moment) -> list[Command]:
        """The reading, counter by counter, with the raw objects beside."""
        last = device.copier.last
        if last is None or last.wall == device.kept_wall:
            return []
        device.kept_wall, device.wanted, why = at.wall, "", outcome.why or device.wanted
        meters = device.copier.meters()
        raw = raw_of({}, last.values).decode()
        commands: list[Command] = []
        for meaning in KEPT:
            if meaning in meters:
                remark = "; ".join(each for each in (why, "" if commands else raw) if each)[:LONGEST_REMARK]
                reading = MeterReading(
                    at.wall, device.name, meaning, meters[meaning], at.wall, outcome.event, "snmp", remark
                )
                commands.append(Keep(reading, wait=False))
        return commands

    def _pause(self, device: Device, now: float) -> float:
        ended = device.copier.oldest_end()
        waits = ended is not None and now - ended < PATIENT
        return self.pace.in_session if device.copier.in_session or waits or device.wanted else self.pace.otherwise

    # What is said

    def _say(self, device: Device, kind: str, trouble: str) -> list[Command]:
        if device.trouble == trouble:
            return []
        device.kind, device.trouble = kind, trouble
        return [Tell("warning", f"{device.name}: {trouble}", {"device": device.name})]

    def _well(self, device: Device) -> list[Command]:
        if not device.trouble:
            return []
        device.kind = device.trouble = ""
        return [Tell("info", f"{device.name}: its meters are read again", {"device": device.name})]

    def shown(self) -> list[dict[str, Any]]:
        """Each device and what its meters showed last, for the command line."""
        return [_shown(self.devices[name]) for name in sorted(self.devices)]


class OfCopier:
    """See `Metered`."""

    def __init__(self, metering: Metering, device: str) -> None:
        self._metering = metering
        self._device = device

    def began(self, session: OpenSession, at: Moment) -> list[Command]:
        device = self._metering.devices.get(self._device)
        if device is not None:
            device.copier.began(session, at.now, at.wall)
            self._metering.hurry(device)
        return []

    def ended(self, session: OpenSession, at: Moment) -> list[Command]:
        device = self._metering.devices.get(self._device)
        if device is not None:
            device.copier.ended(session, at.now)
            self._metering.hurry(device)
        return []

    def moved_at(self, session: str) -> float | None:
        device = self._metering.devices.get(self._device)
        return device.copier.moved_at.get(session) if device is not None else None


class Outages:
    """Told of an upstream's state: readings are kept when an outage begins, and when it is over."""

    def __init__(self, metering: Metering, upstream: Upstream) -> None:
        self._metering = metering
        self._upstream = upstream
        self._away = not upstream.state.relays

    def state_changed(self, at: Moment) -> list[Command]:
        away = not self._upstream.state.relays
        if away != self._away:
            self._away = away
            self._metering.want(f"{'beginning' if away else 'end'} of an outage of {self._upstream.name}")
        return []


def _shown(device: Device) -> dict[str, Any]:
    profile, last = device.copier.profile, device.copier.last
    return {
        "device": device.name,
        "vendor": profile.vendor if profile else "",
        "model": profile.model if profile else "",
        "serial": profile.serial if profile else "",
        "meters": {each: value for each, value in device.copier.meters().items() if each in KEPT},
        "read_at": last.wall if last else None,
        "in_session": device.copier.in_session,
        "kind": device.kind,
        "trouble": device.trouble,
    }
