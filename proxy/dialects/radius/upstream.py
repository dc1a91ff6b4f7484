"""A RADIUS server as upstream: logins relayed to it, records handed over, its answers checked.

How its two ports are watched stands in `watched.py`. While accounting is not answered, records are kept and
acknowledged. RFC 2865 section 2.3 (proxying), RFC 5080 section 2.2 (retransmission). Left out: requests that a server
sends (RFC 5176).
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.errors import Malformed, NotAuthentic, ProtocolError, TooLarge
from protocols.radius.forwarding import forwarded
from protocols.radius.packet import HEADER_SIZE, LARGEST_PACKET, Code, Packet, Type, encode, parse, size_of
from proxy.commands import Command, Source
from proxy.dialects.radius.clients import Asked
from proxy.dialects.radius.exchange import MAC_SIZE
from proxy.dialects.radius.host import ACCT, AUTH, Host, Port, Probe
from proxy.dialects.radius.lent import Sender
from proxy.dialects.radius.requests import RecordSent, RelayedLogin, RelayedRecord, Settings
from proxy.dialects.radius.watched import WatchedUpstream
from proxy.events import Event, Kept, Moment, NotKept, Received, Refused, Ticked
from proxy.handover import UNKEPT, Waiter
from proxy.link import Link
from proxy.tally import Tally
from storage.answers import OutboxItem
from storage.records import Record

SAME_BYTES_FOR = 5.0
SEND_AGAIN_AFTER = (1.0, 3.0)


class RadiusUpstream(WatchedUpstream):
    """One RADIUS server. `fingerprint` names (address, ports, secret) without giving the secret away.

    In line the server knows the devices and not Locum: what is relayed or forwarded goes out as its device, under the
    device's secret (`clients`).
    """

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
        super().__init__(name, link, settings, fingerprint, recover_after, window)
        self.proxy_state = proxy_state
        self._proxy_state_octets = encode(((Type.PROXY_STATE, proxy_state),))
        self.signed_by: set[str] = set()
        self._tally = tally

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, Received):
            return self._received(event)
        if isinstance(event, Kept):
            return self.kept(event)
        if isinstance(event, Ticked):
            return self._ticked(event.at)
        if isinstance(event, Refused):
            return self.nobody_there(event)
        return self.not_kept(event) if isinstance(event, NotKept) else []

    @property
    def relays_records(self) -> bool:
        return self.link.state.relays and self.accounting_well and bool(self.hosts)

    @property
    def takes_records(self) -> bool:
        return self.link.state.relays and (self.accounting_well or self._trial) and bool(self.hosts)

    def window(self) -> int:
        return self.outbox.window if self.accounting_well else 1

    @property
    def wants_facts(self) -> bool:
        return self.lender is not None

    def secret_for(self, asked: Asked) -> bytes:
        """The secret under which this request goes to the server."""
        return self.settings.secret if self.lender is None else asked.client.secret

    def relay(self, login: RelayedLogin, at: Moment) -> list[Command]:
        """Send a login to the server, or send it again, with the same bytes, if it is under way already."""
        if not self.hosts:
            return []
        sender = None if self.lender is None else login.asked.sender()
        port = self.hosts.towards(AUTH, sender.source if sender else None)
        if login.pending is not None and login.pending.key in port.exchange.live:
            return port.exchange.again(login.pending)
        try:
            login.pending, commands = port.exchange.access(
                Code.ACCESS_REQUEST, login.authenticator, login.body, login, at.now, sender=sender
            )
        except TooLarge as error:
            login.trouble = "it is too large to be relayed"
            return self._tally.note(error.reason, self.name, f"a login is too large to be relayed: {error}", at.now)
        if login.pending is None:
            words = f"{self.name}: too many logins wait for the server's answer; one was left to its device"
            return commands + self._tally.note("no-identifier", self.name, words, at.now)
        port.contact.sent(at.now)
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
            sender = self._sender_of(item, waiter)
            port = self.hosts.towards(ACCT, sender.source if sender else None)
            pending, commands = port.exchange.accounting(marked, RecordSent(item, waiter), at.now, sender)
        except (Malformed, TooLarge) as error:
            commands = self.refused(item, f"it cannot be sent: {error}", at)
            return commands + (waiter.unanswered(at) if waiter else [])
        if pending is None:
            self.outbox.cut(item.seq)
            return commands + (waiter.unanswered(at) if waiter else [])
        port.contact.sent(at.now)
        return commands

    def _sender_of(self, item: OutboxItem, waiter: Waiter | None) -> Sender | None:
        """As whom a record goes out; None: as Locum. Raises Malformed if nobody has the secret of its device."""
        if self.lender is None:
            return None
        if isinstance(waiter, RelayedRecord):
            return waiter.asked.sender()
        address = item.facts.client if item.facts else ""
        sender = self.as_device(Source(address)) if address else None
        if sender is None:
            words = f"its device, {address or 'unknown'}, is in no [[listen]] clients any more, so it has no secret"
            raise Malformed("no-client", words)
        return sender

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

    def take_back(self, host: Host, at: Moment) -> list[Command]:
        return self.put_back(self._cut_port(host.acct), f"{host.address} left", at)

    def relay_anew(self, host: Host, at: Moment) -> list[Command]:
        commands: list[Command] = []
        for pending in list(host.auth.exchange.live.values()):
            if isinstance(pending.about, RelayedLogin):
                host.auth.exchange.let_go(pending)
                commands += self.relay(pending.about, at)
        return commands

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
        commands += self.heard(host, port, event.at)
        about: Probe | RecordSent | RelayedLogin = pending.about
        if isinstance(about, Probe):
            commands += self.probe_answered(host, port, about)
        elif isinstance(about, RecordSent):
            commands += self._record_answered(about, packet, late or pending.sent_again > 0, event.at)
        else:
            commands += about.answered(packet, event.data, event.at)
        return commands

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
            return [self.remember("signs", host)]
        if signed:
            return []
        if seen or self.settings.require_signature == "true":
            raise NotAuthentic("no-message-authenticator", "the server's answer has no Message-Authenticator")
        text = f"{self.name}: the server signs no answers (no Message-Authenticator): they could be forged; update it"
        return self._tally.note("server-signs-nothing", self.name, text, at.now)

    def _ticked(self, at: Moment) -> list[Command]:
        commands: list[Command] = []
        for host in self.hosts:
            commands += self.watch(host, at)
            commands += self._watch_records(host.acct, at)
            for exchange in (host.auth.exchange, host.acct.exchange):
                commands += exchange.expire(at.now)
        self.try_accounting(at.now)
        return commands + self.tick(at)

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
