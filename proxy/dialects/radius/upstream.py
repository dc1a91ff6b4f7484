"""A RADIUS server as upstream: logins relayed to it, records handed over, its two ports watched.

Authentication decides the state; accounting has a health of its own, and while it is bad records are kept and
acknowledged. With several addresses the first that answers is used until it fails. RFC 2865 section 2.3 (proxying), RFC
5080 section 2.2 (retransmission), RFC 5997 (Status-Server). Left out: requests that a server sends (RFC 5176).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocols.errors import Malformed, NotAuthentic, ProtocolError, TooLarge
from protocols.radius.forwarding import forwarded
from protocols.radius.packet import HEADER_SIZE, LARGEST_PACKET, Code, Packet, Type, encode, parse, size_of
from proxy.commands import Command, Keep, Tell
from proxy.dialects.radius.exchange import MAC_SIZE
from proxy.dialects.radius.host import ACCT, AUTH, Host, Port, Probe
from proxy.dialects.radius.hosts import Hosts
from proxy.dialects.radius.requests import RecordSent, RelayedLogin, Settings
from proxy.events import Event, Kept, Moment, NotKept, Received, Refused, Ticked
from proxy.link import Link, State
from proxy.tally import Tally
from proxy.upstream import UNKEPT, Upstream, Waiter
from storage.answers import OutboxItem
from storage.records import Record, Remember

PROBE_SOON = 0.5
SAME_BYTES_FOR = 5.0
SEND_AGAIN_AFTER = (1.0, 3.0)
TRY_EVERY = 10.0
JUST_NOW = 0.1


class RadiusUpstream(Upstream):
    """One RADIUS server. `fingerprint` names (address, ports, secret) without giving the secret away."""

    def __init__(
        self,
        name: str,
        link: Link,
        settings: Settings,
        tally: Tally,
        fingerprint: Callable[[str], str],
        proxy_state: bytes,
        recover_after: int = 3,
        window: int = 256,
    ) -> None:
        super().__init__(name, "radius", link, window)
        self.answer_timeout = settings.answer_timeout
        self.recover_after = recover_after
        self.settings = settings
        self.proxy_state = proxy_state
        self._proxy_state_octets = encode(((Type.PROXY_STATE, proxy_state),))
        self.proven_by: set[str] = set()
        self.signed_by: set[str] = set()
        self.status_answered: dict[str, set[str]] = {AUTH: set(), ACCT: set()}
        self.accounting_well = True
        self.hosts = Hosts()
        self._tally = tally
        self._fingerprint = fingerprint
        self._trial = False
        self._next_trial = 0.0
        self._next_login_trial = 0.0

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, Received):
            return self._received(event)
        if isinstance(event, Kept):
            return self.kept(event)
        if isinstance(event, Ticked):
            return self._ticked(event.at)
        if isinstance(event, Refused):
            return self._refused(event)
        return self.not_kept(event) if isinstance(event, NotKept) else []

    def reach(self, addresses: Sequence[str], at: Moment) -> list[Command]:
        """Use these addresses, in this order. Those that stay keep what is known of them."""
        return self._replace_hosts(addresses, at) + self._judge(at)

    def details(self) -> dict[str, object]:
        return {
            "accounting": "ok" if self.accounting_well else "not answered",
            "addresses": [host.address for host in self.hosts],
        }

    def _judge(self, at: Moment) -> list[Command]:
        return self.set_proven(any(host.fingerprint in self.proven_by for host in self.hosts), at)

    def _replace_hosts(self, addresses: Sequence[str], at: Moment) -> list[Command]:
        known = {host.address: host for host in self.hosts}
        ports = (self.settings.auth_port, self.settings.accounting_port)
        commands: list[Command] = []
        for address in known.keys() - set(addresses):
            commands += self._leave(known[address], at) + known[address].close()
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

    @property
    def lead(self) -> str:
        """The port whose contact decides the state."""
        return AUTH if AUTH in self.settings.roles else ACCT

    @property
    def relays_records(self) -> bool:
        return self.link.state.relays and self.accounting_well and bool(self.hosts)

    @property
    def takes_records(self) -> bool:
        return self.link.state.relays and (self.accounting_well or self._trial) and bool(self.hosts)

    def window(self) -> int:
        return self.outbox.window if self.accounting_well else 1

    def relay(self, login: RelayedLogin, at: Moment) -> list[Command]:
        """Send a login to the server, or send it again, with the same bytes, if it is under way already."""
        if login.pending is not None and login.pending.key in self.hosts.exchange(AUTH).live:
            return self.hosts.exchange(AUTH).again(login.pending)
        if not self.hosts:
            return []
        try:
            login.pending, commands = self.hosts.exchange(AUTH).access(
                Code.ACCESS_REQUEST, login.authenticator, login.body, login, at.now
            )
        except TooLarge as error:
            login.trouble = "it is too large to be relayed"
            return self._tally.note(error.reason, self.name, f"a login is too large to be relayed: {error}", at.now)
        if login.pending is None:
            words = f"{self.name}: too many logins wait for the server's answer; one was left to its device"
            return commands + self._tally.note("no-identifier", self.name, words, at.now)
        self.hosts.port(AUTH).contact.sent(at.now)
        return commands

    def with_proxy_state(self, body: bytes) -> bytes:
        """Add Locum's Proxy-State to a login's attributes, if it fits: what came must be able to go on."""
        marked = body + self._proxy_state_octets
        return marked if HEADER_SIZE + MAC_SIZE + len(marked) <= LARGEST_PACKET else body

    def forget(self, login: RelayedLogin) -> None:
        """Nobody waits for this login's answer any more; a late one is still told to it."""
        if login.pending is not None:
            for host in self.hosts:
                host.auth.exchange.let_go(login.pending)

    def tries_first(self, now: float) -> bool:
        """Whether an offline login goes to the server first: contacts succeed already, or nothing else could tell."""
        if any(host.ports[self.lead].steadiness.succeeding for host in self.hosts):
            return True
        blind = self.settings.test_login is None and not any(host.auth.answers_status for host in self.hosts)
        if not blind or now < self._next_login_trial:
            return False
        self._next_login_trial = now + TRY_EVERY
        return True

    def send_record(self, item: OutboxItem, at: Moment, waiter: Waiter | None) -> list[Command]:
        held = max(0, at.wall - item.at) // 1000
        try:
            attributes = forwarded(
                parse(item.raw),
                held=held,
                taken_at=item.at // 1000,
                record_id=item.id,
                vendor_id=self.settings.vendor_id,
            )
            marked = (*attributes, (Type.PROXY_STATE, self.proxy_state))
            if size_of(marked) > LARGEST_PACKET:
                marked = attributes
            pending, commands = self.hosts.exchange(ACCT).accounting(marked, RecordSent(item, waiter), at.now)
        except (Malformed, TooLarge) as error:
            commands = self.refused(item, f"it cannot be sent: {error}", at)
            return commands + (waiter.unanswered(at) if waiter else [])
        if pending is None:
            self.outbox.cut(item.seq)
            return commands + (waiter.unanswered(at) if waiter else [])
        self.hosts.port(ACCT).contact.sent(at.now)
        return commands

    def relay_unkept(self, raw: bytes, record: Record, waiter: Waiter, at: Moment) -> list[Command]:
        """Hand over a record that could not be stored; only the server's own answer acknowledges it."""
        item = OutboxItem(UNKEPT, "", record.at, self.name, record.dialect, record.device, record.order_key, 0, 0, raw)
        return self.send_record(item, at, waiter)

    def cut_records(self) -> list[tuple[OutboxItem, Waiter | None]]:
        return [cut for host in self.hosts for cut in self._cut_port(host.acct)]

    def _cut_port(self, port: Port) -> list[tuple[OutboxItem, Waiter | None]]:
        found = [pending for pending in port.exchange.live.values() if isinstance(pending.about, RecordSent)]
        for pending in found:
            port.exchange.let_go(pending)
        return [(p.about.item, p.about.waiter) for p in found if isinstance(p.about, RecordSent)]

    def _received(self, event: Received) -> list[Command]:
        behind = self.hosts.behind(event.channel)
        if behind is None:
            return []
        host, port = behind
        try:
            pending, packet, signed, late = port.exchange.answer(event.channel, event.data)
            commands = self._check_signature(host, port, signed, event.at)
        except ProtocolError as error:
            return self._tally.note(
                error.reason, self.name, f"{self.name}: an answer was dropped: {error}", event.at.now
            )
        port.exchange.settle(pending)
        commands += self._heard(host, port, event.at)
        about: Probe | RecordSent | RelayedLogin = pending.about
        if isinstance(about, Probe):
            commands += self._probe_answered(host, port, about)
        elif isinstance(about, RecordSent):
            commands += self._record_answered(about, packet, late or pending.sent_again > 0, event.at)
        else:
            commands += about.answered(packet, event.data, event.at)
        return commands

    def _probe_answered(self, host: Host, port: Port, probe: Probe) -> list[Command]:
        if not probe.status or port.answers_status:
            return []
        port.answers_status = True
        return [self._remember(f"status-{port.role}", host)]

    def _record_answered(self, about: RecordSent, packet: Packet, twice: bool, at: Moment) -> list[Command]:
        if packet.code != Code.ACCOUNTING_RESPONSE:
            commands = self.refused(about.item, f"the server answered with code {packet.code}", at)
            return commands + (about.waiter.unanswered(at) if about.waiter else [])
        commands = about.waiter.answered(packet.attributes, at) if about.waiter else []
        return commands + self.delivered(about.item, at, maybe_twice=twice)

    def _check_signature(self, host: Host, port: Port, signed: bool, at: Moment) -> list[Command]:
        """CVE-2024-3596: an unsigned answer to a login could be forged. Raises NotAuthentic where one is required."""
        if port.role == ACCT or self.settings.require_signature == "false":
            return []
        seen = host.fingerprint in self.signed_by
        if signed and not seen:
            self.signed_by.add(host.fingerprint)
            return [self._remember("signs", host)]
        if signed:
            return []
        if seen or self.settings.require_signature == "true":
            raise NotAuthentic("no-message-authenticator", "the server's answer has no Message-Authenticator")
        text = f"{self.name}: the server signs no answers (no Message-Authenticator): they could be forged; update it"
        return self._tally.note("server-signs-nothing", self.name, text, at.now)

    def _heard(self, host: Host, port: Port, at: Moment) -> list[Command]:
        port.contact.heard(at.now)
        port.failed = False
        commands: list[Command] = []
        used = self.hosts.used(port.role)
        if used is not host and used.ports[port.role].failed:
            commands += self._switch(port.role, host, at)
        if host.fingerprint not in self.proven_by:
            self.proven_by.add(host.fingerprint)
            commands.append(self._remember("proven", host))
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

    def _refused(self, event: Refused) -> list[Command]:
        behind = self.hosts.behind(event.channel)
        if behind is None:
            return []
        host, port = behind
        port.steadiness.broken()
        follows = port.contact.refused(probe=event.channel[-1] == "probe")
        if follows == "probe":
            return port.probe(self.settings.test_login, event.at)
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
        if others:
            return self._switch(role, others[0], at)
        commands: list[Command] = []
        if role == ACCT and ACCT in self.settings.roles:
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
        commands += to.ports[role].probe(self.settings.test_login, at)
        if role == ACCT:
            return commands + self._leave(before, at)
        for pending in list(before.auth.exchange.live.values()):
            if isinstance(pending.about, RelayedLogin):
                before.auth.exchange.let_go(pending)
                commands += self.relay(pending.about, at)
        return commands

    def _leave(self, host: Host, at: Moment) -> list[Command]:
        """Records in flight to this address wait again."""
        return self.put_back(self._cut_port(host.acct), f"{host.address} left", at)

    def _ticked(self, at: Moment) -> list[Command]:
        commands: list[Command] = []
        for host in self.hosts:
            for role in self.settings.roles | {self.lead}:
                commands += self._watch(host, host.ports[role], at)
            commands += self._watch_records(host.acct, at)
            for exchange in (host.auth.exchange, host.acct.exchange):
                exchange.expire(at.now)
        if not self.accounting_well and at.now >= self._next_trial:
            self._trial = not any(host.acct.answers_status for host in self.hosts)
        return commands + self.tick(at)

    def _watch(self, host: Host, port: Port, at: Moment) -> list[Command]:
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
            commands += port.probe(settings.test_login, at)
        return commands

    def _watch_records(self, port: Port, at: Moment) -> list[Command]:
        commands: list[Command] = []
        for pending in list(port.exchange.live.values()):
            if not isinstance(pending.about, RecordSent):
                continue
            age = at.now - pending.first_sent
            if age >= SAME_BYTES_FOR:
                port.exchange.let_go(pending)
                commands += self.unanswered(pending.about.item, at)
                commands += pending.about.waiter.unanswered(at) if pending.about.waiter else []
            elif pending.sent_again < len(SEND_AGAIN_AFTER) and age >= SEND_AGAIN_AFTER[pending.sent_again]:
                commands += port.exchange.again(pending)
        return commands

    def _is_well(self, role: str) -> bool:
        return self.link.state is State.ONLINE if role == self.lead else self.accounting_well

    def _remember(self, what: str, host: Host) -> Keep:
        return Keep(Remember(f"{what}:{self.name}:{host.fingerprint}", "1"), wait=False)
