"""The ports of a RADIUS server watched: which address answers on each, what is probed when, when contact has failed.

Authentication decides the state; accounting has a health of its own. With several addresses the first that answers is
used until it fails, for each port by itself. RFC 5997 (Status-Server). What a probe is stands in `host.py`; what goes
through the ports, in `upstream.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

from proxy.commands import Command, Keep, Source, Tell
from proxy.dialects.radius.clients import Clients
from proxy.dialects.radius.host import ACCT, AUTH, Host, Port, Probe
from proxy.dialects.radius.hosts import Hosts
from proxy.dialects.radius.lent import Sender
from proxy.dialects.radius.requests import Settings
from proxy.events import Moment, Refused
from proxy.link import Link, State
from proxy.upstream import Upstream
from storage.records import Remember

PROBE_SOON = 0.5
TRY_EVERY = 10.0
JUST_NOW = 0.1


class WatchedUpstream(Upstream):
    """The half of a RADIUS upstream that watches. `fingerprint`: see `RadiusUpstream`; `proven_by`, `status_answered`:
    the fingerprints of those that were heard, and by port of those that answered Status-Server, of earlier runs too.
    `clients`: the devices of its listeners, for their secrets in line.
    """

    def __init__(
        self,
        name: str,
        link: Link,
        settings: Settings,
        fingerprint: Callable[[str], str],
        recover_after: int,
        window: int,
    ) -> None:
        super().__init__(name, "radius", link, window)
        self.answer_timeout = settings.answer_timeout
        self.recover_after = recover_after
        self.settings = settings
        self.proven_by: set[str] = set()
        self.status_answered: dict[str, set[str]] = {AUTH: set(), ACCT: set()}
        self.accounting_well = True
        self.clients = Clients(())
        self.hosts = Hosts()
        self._fingerprint = fingerprint
        self._trial = False
        self._next_trial = 0.0
        self._next_login_trial = 0.0

    @abstractmethod
    def take_back(self, host: Host, at: Moment) -> list[Command]:
        """Records in flight to this address wait again."""

    @abstractmethod
    def relay_anew(self, host: Host, at: Moment) -> list[Command]:
        """Logins under way to this address go to the one in use now."""

    # Addresses and settings

    @property
    def lead(self) -> str:
        """The port whose contact decides the state."""
        return AUTH if AUTH in self.settings.roles else ACCT

    def details(self) -> dict[str, object]:
        return {
            "accounting": "ok" if self.accounting_well else "not answered",
            "addresses": [host.address for host in self.hosts],
        }

    def reach(self, addresses: Sequence[str], at: Moment) -> list[Command]:
        """Use these addresses, in this order. Those that stay keep what is known of them."""
        return self._replace_hosts(addresses, at) + self._judge(at)

    def _judge(self, at: Moment) -> list[Command]:
        return self.set_proven(any(host.fingerprint in self.proven_by for host in self.hosts), at)

    def _replace_hosts(self, addresses: Sequence[str], at: Moment) -> list[Command]:
        known = {host.address: host for host in self.hosts}
        ports = (self.settings.auth_port, self.settings.accounting_port)
        commands: list[Command] = []
        for address in known.keys() - set(addresses):
            commands += self.take_back(known[address], at) + known[address].close()
        timeout, secret = self.settings.answer_timeout, self.settings.secret
        self.hosts.replace(
            [
                known.get(address)
                or Host(
                    self, self.name, address, ports, secret, timeout, self.recover_after, self._fingerprint(address)
                )
                for address in addresses
            ]
        )
        for host in self.hosts:
            for role, port in host.ports.items():
                port.answers_status |= host.fingerprint in self.status_answered[role]
        return commands

    def unreachable(self, cause: str, at: Moment) -> list[Command]:
        """There is no address at all to send to: its name does not resolve and never did."""
        return [] if self.hosts else self.contact_failed(cause, at)

    def configure(self, settings: Settings, at: Moment) -> list[Command]:
        """A reload. Another secret or other ports: everything known of the server counts no more."""
        before, self.settings = self.settings, settings
        self.answer_timeout = settings.answer_timeout
        addresses = [host.address for host in self.hosts]
        commands: list[Command] = []
        if (before.secret, before.auth_port, before.accounting_port) != (
            settings.secret,
            settings.auth_port,
            settings.accounting_port,
        ):
            commands += self._replace_hosts([], at)
        commands += self.reach(addresses, at)
        for host in self.hosts:
            for port in host.ports.values():
                port.contact.timeout = settings.answer_timeout
                port.steadiness.recover_after = self.recover_after
        return commands

    # Contact

    def tries_first(self, now: float) -> bool:
        """Whether an offline login goes to the server first: contacts succeed already, or nothing else could tell."""
        if any(host.ports[self.lead].steadiness.succeeding for host in self.hosts):
            return True
        blind = self.settings.test_login is None and not any(host.auth.answers_status for host in self.hosts)
        if not blind or now < self._next_login_trial:
            return False
        self._next_login_trial = now + TRY_EVERY
        return True

    def probe_answered(self, host: Host, port: Port, probe: Probe) -> list[Command]:
        """A probe of ours was answered: whether this port answers Status-Server is known by that."""
        if not probe.status or port.answers_status:
            return []
        port.answers_status = True
        return [self.remember(f"status-{port.role}", host)]

    def heard(self, host: Host, port: Port, at: Moment) -> list[Command]:
        """An authentic answer came from this port."""
        port.contact.heard(at.now)
        port.failed = False
        commands: list[Command] = []
        used = self.hosts.used(port.role)
        if used is not host and used.ports[port.role].failed:
            commands += self._switch(port.role, host, at)
        elif not self.may_speak(used.address):
            self.hosts.use(port.role, host)
        if host.fingerprint not in self.proven_by:
            self.proven_by.add(host.fingerprint)
            commands.append(self.remember("proven", host))
        well = self.accounting_well if port.role == ACCT else self.link.proven
        if well and self.link.state is State.ONLINE:
            return commands
        steady = port.steadiness.contact(at.now)
        if port.role == self.lead:
            commands += self.contact(steady, at)
        if port.role == ACCT and not self.accounting_well and steady:
            self.accounting_well = True
            commands.append(Tell("info", f"{self.name}: accounting is answered again; forwarding what waits"))
        return commands

    def nobody_there(self, event: Refused) -> list[Command]:
        """The network says that nobody listens behind a channel."""
        behind = self.hosts.behind(event.channel)
        if behind is None:
            return []
        host, port = behind
        port.steadiness.broken()
        follows = port.contact.refused(probe=event.channel[-1] == "probe")
        if follows == "probe":
            return self._probe(host, port, event.at)
        if follows == "failed":
            cause = f"{host.address} port {port.exchange.port}: {event.text}"
            return self._failed(host, port, cause, event.at, asked_since=event.at.now - JUST_NOW)
        return []

    def _failed(self, host: Host, port: Port, cause: str, at: Moment, *, asked_since: float) -> list[Command]:
        """Contact with this port has failed. Another address is used instead; also one that had failed, if it was not
        asked since then: it may have come back.
        """
        port.failed = True
        port.steadiness.broken()
        role = port.role
        if self.hosts.used(role) is not host:
            return []
        others = self.hosts.alive(role)
        if not others and self._is_well(role):
            others = [other for other in self.hosts if other.ports[role].contact.probe_sent < asked_since]
        others = [other for other in others if self.may_speak(other.address)]
        if others:
            return self._switch(role, others[0], at)
        commands: list[Command] = []
        if role == ACCT and ACCT in self.settings.roles and not self.is_deaf(at):
            commands += self._accounting_failed(cause, at)
        if role == self.lead:
            commands += self.contact_failed(cause, at)
        return commands

    def _accounting_failed(self, cause: str, at: Moment) -> list[Command]:
        self._trial, self._next_trial = False, at.now + TRY_EVERY
        commands = self.cut(f"accounting failed: {cause}", at)
        if self.accounting_well and self.lead == AUTH:
            self.accounting_well = False
            for host in self.hosts:
                host.auth.probe_now = True
            commands.append(Tell("warning", f"{self.name}: accounting is not answered ({cause}); records are kept"))
        return commands

    def _switch(self, role: str, to: Host, at: Moment) -> list[Command]:
        before, number = self.hosts.used(role), to.ports[role].exchange.port
        self.hosts.use(role, to)
        commands: list[Command] = [
            Tell("warning", f"{self.name}: {before.address} does not answer, using {to.address} (port {number})")
        ]
        commands += self._probe(to, to.ports[role], at)
        if role == ACCT:
            return commands + self.take_back(before, at)
        return commands + self.relay_anew(before, at)

    # Time

    def watch(self, host: Host, at: Moment) -> list[Command]:
        """What time brings to the ports of this address: contact that has failed, probes that are due."""
        commands: list[Command] = []
        for role in self.settings.roles | {self.lead}:
            commands += self._watch_port(host, host.ports[role], at)
        return commands

    def _watch_port(self, host: Host, port: Port, at: Moment) -> list[Command]:
        commands: list[Command] = []
        contact, settings = port.contact, self.settings
        for sent in port.give_up_probes(at.now):
            port.steadiness.broken(sent)
        if contact.has_failed(at.now):
            cause = f"no answer from {host.address} port {port.exchange.port} in {settings.answer_timeout:g} s"
            commands += self._failed(host, port, cause, at, asked_since=at.now - settings.answer_timeout)
        oldest = next((p.first_sent for p in port.exchange.live.values() if not isinstance(p.about, Probe)), None)
        doubtful = contact.wants_probe(at.now, oldest)
        for other in self.hosts if doubtful else ():
            other.ports[port.role].probe_now = True
        well = self._is_well(port.role) and not port.failed
        quiet_since = max(contact.probe_sent, contact.last_heard) if well else contact.probe_sent
        if port.probe_now or at.now >= quiet_since + (settings.probe_interval if well else PROBE_SOON):
            commands += self._probe(host, port, at)
        return commands

    def _probe(self, host: Host, port: Port, at: Moment) -> list[Command]:
        """In line as the device that was heard last; while nobody was, not yet."""
        if self.lender is None:
            return port.probe(self.settings.test_login, at)
        source = self.lender.towards(host.address)
        sender = self.as_device(source) if source is not None else None
        if sender is None:
            port.probe_now = True
            return []
        return port.probe(self.settings.test_login, at, sender)

    def as_device(self, source: Source) -> Sender | None:
        """What makes a request a device's; None if nobody configured it."""
        client = self.clients.find(source.address)
        return None if client is None else Sender(source, client.secret)

    def try_accounting(self, now: float) -> None:
        """While accounting is not answered, and no probe there could tell, a record is tried every ten seconds."""
        if not self.accounting_well and now >= self._next_trial:
            self._trial = not any(host.acct.answers_status for host in self.hosts)

    def _is_well(self, role: str) -> bool:
        return self.link.state is State.ONLINE if role == self.lead else self.accounting_well

    def remember(self, what: str, host: Host) -> Keep:
        """What was learnt of this address is known after a restart too."""
        return Keep(Remember(f"{what}:{self.name}:{host.fingerprint}", "1"), wait=False)
