"""From the configuration and the ledger to the flows: who is built, and with what they were before a restart.

Everything here is made once at start and again, in place, at a reload. What a restart must know (state of each
upstream, open sessions, what waits, who was proven) comes from the ledger; what was in flight has been put back to
waiting by then.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

from appliance.config import Config, DeviceConfig, ListenConfig, OfflineConfig, UpstreamConfig
from protocols.radius.accounting import JobMapping, mapping_from_names
from protocols.radius.dictionary import Dictionary, parse_dictionary, shipped_dictionary
from proxy.admission import Policy
from proxy.dialects.radius.accounting import AccountingFlow
from proxy.dialects.radius.clients import Client
from proxy.dialects.radius.host import ACCT, AUTH, ProbeLogin
from proxy.dialects.radius.listener import RadiusListener
from proxy.dialects.radius.logins import LoginFlow
from proxy.dialects.radius.requests import Settings
from proxy.dialects.radius.upstream import RadiusUpstream
from proxy.events import Channel, Moment
from proxy.link import Clock, Link, Resumed, State
from proxy.sessions import REMEMBERED_AFTER_END
from proxy.site import Seen, Site
from proxy.tally import Tally
from storage.cards import CardMemory
from storage.outbox import Outbox
from storage.reader import Reader
from storage.records import Note, OutageStep

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
    know.
    """

    def __init__(self, config: Config, connection: sqlite3.Connection, reader: Reader, key: bytes, at: Moment) -> None:
        self.config = config
        self.tally = Tally()
        self.upstreams: dict[str, RadiusUpstream] = {}
        self.listeners: dict[Channel, RadiusListener] = {}
        self.mapping = _mapping(config)
        self.notes: list[Note] = []
        self._reader = reader
        self._outbox = Outbox(connection)
        self._key = key
        self._proxy_state = b"locum" + at.random(8, "proxy state")
        self._clock = this_boot()
        self.site = Site(_policy(config.offline), {}, {}, CardMemory(connection))
        self._configure_site(config)
        for upstream in config.upstreams:
            self.upstreams[upstream.name] = self._new_upstream(upstream, config, at)
        for session, ended in reader.sessions(at.wall - REMEMBERED_AFTER_END):
            self.site.sessions.restore(session, ended=ended)
        self.site.online_users.update(reader.online_users())
        for device in reader.devices():
            self.site.seen[device.device] = Seen(
                device.client, device.dialect, device.upstream, device.last_seen, at.now
            )

    def new_listener(self, listen: ListenConfig, config: Config) -> tuple[Channel, RadiusListener]:
        """A listener for this part of the config, and the channel it is known by."""
        channel = channel_of(listen)
        logins = LoginFlow((*channel, AUTH), self.upstreams[listen.upstream], self.site, self.tally)
        accounting = AccountingFlow(
            (*channel, ACCT),
            self.upstreams[listen.records_to],
            self.site,
            self.tally,
            self.mapping,
            relays=listen.upstream == listen.records_to,
        )
        return channel, RadiusListener(_clients(listen), logins, accounting, self.tally)

    def drop_listener(self, channel: Channel) -> None:
        """A listener is not in the config any more."""
        listener = self.listeners.pop(channel)
        listener.logins.upstream.subscribers.remove(listener.logins)

    def reconfigure(self, config: Config, at: Moment) -> list[RadiusUpstream]:
        """Take over a new config, except for ports and addresses; gives the upstreams that are new or changed."""
        self.config, self.mapping = config, _mapping(config)
        self._configure_site(config)
        for listen in config.listens:
            listener = self.listeners.get(channel_of(listen))
            if listener is not None:
                listener.configure(_clients(listen))
                listener.accounting.mapping = self.mapping
        for name in self.upstreams.keys() - {upstream.name for upstream in config.upstreams}:
            del self.upstreams[name]
        for upstream in config.upstreams:
            if upstream.name not in self.upstreams:
                self.upstreams[upstream.name] = self._new_upstream(upstream, config, at)
            flow = self.upstreams[upstream.name]
            flow.link.delay = config.offline.delay
            flow.recover_after = config.offline.recover_after
            flow.outbox.window = config.offline.drain_window
        return list(self.upstreams.values())

    def settings(self, upstream: UpstreamConfig, config: Config) -> Settings:
        """An upstream's settings, and the roles that the listeners give it."""
        roles = {AUTH for listen in config.listens if listen.upstream == upstream.name}
        roles |= {ACCT for listen in config.listens if listen.records_to == upstream.name}
        test = upstream.test_login
        return Settings(
            auth_port=upstream.auth_port,
            accounting_port=upstream.accounting_port,
            secret=upstream.secret.value,
            answer_timeout=upstream.answer_timeout,
            probe_interval=upstream.probe_interval,
            require_signature=upstream.require_message_authenticator,
            test_login=None if test is None else ProbeLogin(test.user.encode(), test.password.value),
            vendor_id=config.radius.vendor_id,
            roles=frozenset(roles or {AUTH}),
        )

    def remembered_addresses(self, name: str) -> list[str]:
        """The addresses that a name resolved to when it last did."""
        found = self._reader.memory(f"addresses:{name}")
        return [str(address) for address in json.loads(found)] if found else []

    def _new_upstream(self, upstream: UpstreamConfig, config: Config, at: Moment) -> RadiusUpstream:
        offline, settings = config.offline, self.settings(upstream, config)
        link = Link(upstream.name, offline.delay, self._clock, proven=False, began=at)

        def fingerprint(address: str) -> str:
            # Keyed, for a ledger that leaves the house must not help to guess a secret.
            told = f"{upstream.name}|{address}|{flow.settings.auth_port}|{flow.settings.accounting_port}|".encode()
            return hmac.new(self._key, told + flow.settings.secret, hashlib.sha256).hexdigest()[:32]

        flow = RadiusUpstream(
            upstream.name,
            link,
            settings,
            self.tally,
            fingerprint,
            self._proxy_state,
            offline.recover_after,
            offline.drain_window,
        )
        flow.proven_by = set(self._reader.memories(f"proven:{upstream.name}:"))
        flow.signed_by = set(self._reader.memories(f"signs:{upstream.name}:"))
        for role, answered in flow.status_answered.items():
            answered.update(self._reader.memories(f"status-{role}:{upstream.name}:"))
        flow.outbox.load(self._outbox.waiting(upstream.name), at)
        self._resume(flow, at)
        return flow

    def _resume(self, flow: RadiusUpstream, at: Moment) -> None:
        step = self._reader.open_outages().get(flow.name)
        if step is None or step.state == State.ONLINE:
            if not flow.outbox.empty:
                cause = "records of an earlier run wait"
                flow.link.resume(Resumed(State.RECOVERING, at.now, at.wall, cause, None, at.now))
                data: dict[str, str | int] = {"upstream": flow.name, "state": State.RECOVERING.value, "cause": cause}
                self.notes.append(Note(at.wall, "state", data))
            return
        since = at.now - passed_since(step, self._clock, self._reader.last_entry_at() or 0, at)
        left = since if step.state == State.RECOVERING and self._reader.was_offline(step) else float("-inf")
        flow.link.resume(Resumed(State(step.state), since, step.at, step.cause, step.outage, since, left))

    def _configure_site(self, config: Config) -> None:
        self.site.policy = _policy(config.offline)
        self.site.policies = {device.id: _policy(device.offline) for device in config.devices}
        self.site.pins = _pins(config.devices)


def channel_of(listen: ListenConfig) -> Channel:
    """What a listener is known by: what it binds and where it leads. Another of these is another listener."""
    return ("listen", listen.bind, listen.auth_port, listen.accounting_port, listen.upstream, listen.records_to)


def _clients(listen: ListenConfig) -> list[Client]:
    return [
        Client(
            client.network,
            client.secret.value,
            client.role,
            client.require_message_authenticator,
            client.ignore_password_offline,
        )
        for client in listen.clients
    ]


def _policy(offline: OfflineConfig) -> Policy:
    return Policy(
        offline.enabled, offline.admission, offline.card_memory, offline.refuse_known_bad, offline.card_pattern
    )


def _pins(devices: Iterable[DeviceConfig]) -> dict[str, str]:
    return {device.id: device.address for device in devices if device.address is not None}


def _mapping(config: Config) -> JobMapping:
    dictionary: Dictionary = shipped_dictionary()
    for path in config.radius.dictionary_files:
        dictionary = parse_dictionary(path.read_text(encoding="utf-8"), dictionary)
    return mapping_from_names(dictionary, config.radius.job, config.radius.vendor_id)
