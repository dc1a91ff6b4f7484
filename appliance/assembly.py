"""From the configuration and the ledger to the flows: who is built, and with what they were before a restart.

Everything here is made once at start and again, in place, at a reload. What a restart must know (state of each
upstream, open sessions, what waits, who was proven) comes from the ledger; what was in flight has been put back to
waiting by then.
"""

from __future__ import annotations

import json
import sqlite3
import time
from datetime import tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from appliance.config import Config, ListenConfig, OfflineConfig, SnmpConfig, UpstreamConfig, zones
from appliance.dialects import Listening, Parts, dialect
from protocols.meters import table
from proxy.admission import Policy
from proxy.commands import Command
from proxy.events import Channel, Moment
from proxy.lender import Lender, keys
from proxy.link import Clock, Link, Resumed, State
from proxy.metering.flow import Metering, Pace
from proxy.sessions import REMEMBERED_AFTER_END
from proxy.site import Seen, Site
from proxy.tally import Tally
from proxy.upstream import Upstream
from storage.answers import WaitingRef
from storage.cards import CardMemory
from storage.outbox import Outbox
from storage.reader import Reader
from storage.records import Note, OutageStep

LONGEST_DRILL = 4 * 3600 * 1000

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def this_boot() -> Clock:
    """The boot that this is, and how its clock stands to the monotonic one."""
    boot_ms = int((time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()) * 1000)
    return Clock(BOOT_ID.read_text().strip() if BOOT_ID.exists() else "", boot_ms)


def passed_since(step: OutageStep, clock: Clock, last_entry_at: int, at: Moment) -> float:
    """Seconds since a step that another run of Locum kept: by the boot clock if the machine was not restarted, else by
    the wall clock if it is not before the last entry, else nothing is known and nothing has passed.
    """
    if clock.boot_id and step.boot_id == clock.boot_id:
        return max(0.0, (clock.at(at) - step.boot_ms) / 1000)
    if at.wall >= last_entry_at:
        return max(0.0, (at.wall - step.at) / 1000)
    return 0.0


class Assembly:
    """All flows of one appliance, by name and by port. `notes`: what putting them together did that the ledger must
    know. `unlock_hash`: Argon2id of the unlock code, `unlock_card_hash`: of the unlock card, "" while none is set.
    """

    def __init__(
        self,
        config: Config,
        connection: sqlite3.Connection,
        reader: Reader,
        key: bytes,
        at: Moment,
        unlock_hash: str = "",
        unlock_card_hash: str = "",
    ) -> None:
        self.config = config
        self.tally = Tally()
        self.upstreams: dict[str, Upstream] = {}
        self.listeners: dict[Channel, Listening] = {}
        self.notes: list[Note] = []
        self._reader = reader
        self._outbox = Outbox(connection)
        self._clock = this_boot()
        self.site = Site(_policy(config.offline), {}, {}, CardMemory(connection), upstreams=self.upstreams)
        self.site.unlocking.hash, self.site.unlocking.card_hash = unlock_hash, unlock_card_hash
        self.site.drills.ended.append(self.site.drills_ended)
        self._parts = Parts(
            config,
            self.site,
            self.tally,
            self.upstreams,
            reader.memories,
            reader.memory,
            reader.hash_of,
            key,
            b"locum" + at.random(8, "proxy state"),
        )
        self.metering = Metering(
            table.read_table(table.shipped_text(), config.snmp.meters if config.snmp is not None else ""),
            self.site,
            self.tally,
            _zone(config),
            reader.memory,
        )
        self._parts.metered = self.metering.metered
        self._configure_meters(config, at)
        self._configure_site(config)
        self.site.drills.restore(reader.drill_history(at.wall - LONGEST_DRILL), at)
        for upstream in config.upstreams:
            self.upstreams[upstream.name] = self._new_upstream(upstream, at)
        self._restore_site(at)

    def new_listener(self, listen: ListenConfig) -> tuple[Channel, Listening]:
        """A listener for this part of the config, and the channel it is known by."""
        return channel_of(listen), dialect(listen.dialect).new_listener(listen, self._parts)

    def drop_listener(self, channel: Channel, at: Moment) -> list[Command]:
        """A listener is not in the config any more."""
        listening = self.listeners.pop(channel)
        listening.upstream.subscribers.remove(listening.subscriber)
        return listening.stop(at)

    def reconfigure(self, config: Config, at: Moment) -> list[Command]:
        """Take over a new config, except for ports and addresses."""
        self.config = self._parts.config = config
        self._configure_site(config)
        own = config.snmp.meters if config.snmp is not None else ""
        self.metering.table = table.read_table(table.shipped_text(), own)
        self.metering.midnights.zone = _zone(config)
        self._configure_meters(config, at)
        for listen in config.listens:
            listening = self.listeners.get(channel_of(listen))
            if listening is not None:
                dialect(listen.dialect).configure_listener(listening, listen, self._parts)
        for name in self.upstreams.keys() - {upstream.name for upstream in config.upstreams}:
            del self.upstreams[name]
        commands: list[Command] = []
        for upstream in config.upstreams:
            if upstream.name not in self.upstreams:
                self.upstreams[upstream.name] = self._new_upstream(upstream, at)
            flow = self.upstreams[upstream.name]
            flow.link.delay = config.offline.delay
            commands += dialect(upstream.dialect).configure(flow, upstream, self._parts, at)
        return commands

    def remembered_addresses(self, name: str) -> list[str]:
        """The addresses that a name resolved to when it last did."""
        found = self._reader.memory(f"addresses:{name}")
        return [str(address) for address in json.loads(found)] if found else []

    def _new_upstream(self, upstream: UpstreamConfig, at: Moment) -> Upstream:
        link = Link(upstream.name, self.config.offline.delay, self._clock, proven=False, began=at)
        flow = dialect(upstream.dialect).new_upstream(upstream, link, self._parts, at)
        if self.config.inline is not None:
            flow.lender = Lender(flow.name, tuple(self._reader.memory(key) or "" for key in keys(flow.name)))
        flow.before_subscribers = self.site.state_changed
        self.metering.follow(flow)

        def free(ref: WaitingRef) -> bool:
            if not ref.drill or not self.site.drills.on(ref.drill):
                return True
            flow.hold(ref.seq, ref.order_key, ref.drill)
            return False

        flow.outbox.load(filter(free, self._outbox.waiting(upstream.name)), at)
        self._resume(flow, at)
        return flow

    def _resume(self, flow: Upstream, at: Moment) -> None:
        step = self._reader.open_outages().get(flow.name)
        if step is None or step.outage is None or step.state == State.ONLINE:
            if not flow.outbox.empty:
                cause = "records of an earlier run wait"
                flow.link.resume(Resumed(State.RECOVERING, at.now, at.wall, cause, None, at.now))
                data: dict[str, str | int] = {"upstream": flow.name, "state": State.RECOVERING.value, "cause": cause}
                self.notes.append(Note(at.wall, "state", data))
            return
        last_entry_at = self._reader.last_entry_at() or 0

        def when(step: OutageStep) -> float:
            return at.now - passed_since(step, self._clock, last_entry_at, at)

        since, left = when(step), self._reader.left_offline(flow.name, step.outage)
        left_offline = when(left) if left is not None else float("-inf")
        state = State(step.state)
        flow.link.resume(Resumed(state, since, step.at, step.cause, step.outage, since, left_offline))
        self.site.limits.restore(flow.name, self._reader.overruns(flow.name, step.outage))

    def _restore_site(self, at: Moment) -> None:
        site = self.site
        sessions = self._reader.sessions(at.wall - REMEMBERED_AFTER_END)
        for session, ended in sessions:
            site.sessions.restore(session, ended=ended)
        site.online_users.update(self._reader.online_users())
        for known in self._reader.devices():
            site.seen[known.device] = Seen(known.client, known.dialect, known.upstream, known.last_seen, at.now)
        outages = [upstream.link.outage_wall for upstream in self.upstreams.values()]
        since = min([at.wall - LONGEST_DRILL, *(outage for outage in outages if outage is not None)])
        site.unlocking.restore(self._reader.unlock_history(since), sessions, at)
        for device, name in site.unlocking.places().items():
            upstream = self.upstreams.get(name)
            if upstream is None or site.state_of(device, upstream) is not State.OFFLINE:
                site.unlocking.drill_ended(device, at)

    def _configure_meters(self, config: Config, at: Moment) -> None:
        snmp = config.snmp or SnmpConfig()
        self.metering.configure(set(snmp.agents), Pace(snmp.in_session, snmp.otherwise), at)

    def _configure_site(self, config: Config) -> None:
        site = self.site
        site.policy = _policy(config.offline)
        site.policies = {device.id: _policy(device.offline) for device in config.devices}
        site.pins = {device.id: device.address for device in config.devices if device.address is not None}
        site.certificates = {device.id: device.certificate for device in config.devices if device.certificate}
        site.printers = {device.id: device.printer for device in config.devices}
        site.limits.max_outage_hours = config.offline.max_outage_hours


def _zone(config: Config) -> tzinfo:
    """The site's time zone: that of [ledger], or this machine's."""
    named = config.ledger.time_zone
    return ZoneInfo(named) if named is not None else zones.of_this_machine()


def channel_of(listen: ListenConfig) -> Channel:
    """What a listener is known by; see `Dialect.channel_of`."""
    return dialect(listen.dialect).channel_of(listen)


def forgetful(config: Config) -> list[str]:
    """The upstreams whose servers cannot recognise a record that they are sent twice."""
    return [upstream.name for upstream in config.upstreams if not dialect(upstream.dialect).repeats_are_known]


def _policy(offline: OfflineConfig) -> Policy:
    return Policy(
        offline.enabled,
        offline.admission,
        offline.card_memory,
        offline.refuse_known_bad,
        offline.card_pattern,
        offline.environment == "education",
        offline.max_pages_per_card,
        offline.max_sessions_per_card,
    )
