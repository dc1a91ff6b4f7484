"""Where RADIUS devices reach Locum: two ports, and the checks that every datagram passes before a flow sees it.

A datagram must come from a configured client, be well framed, hold together under that client's secret (RFC 2866
section 3, RFC 3579 section 3.2) and not have come from Locum itself. What fails is dropped in silence, as RFC 2865
section 3 asks, counted by reason and told at most once a minute per client and reason. Status-Server is answered for
Locum, not for the server behind it (RFC 5997 section 4).
"""

from __future__ import annotations

from collections.abc import Sequence

from protocols.errors import Malformed, NotAuthentic, ProtocolError
from protocols.radius.packet import Code, Packet, Type, parse
from protocols.radius.secrets import sign_response, verify_accounting_request, verify_message_authenticator
from proxy.commands import Command, Send
from proxy.dialects.radius.accounting import AccountingFlow
from proxy.dialects.radius.clients import Asked, Client, Clients
from proxy.dialects.radius.logins import LoginFlow
from proxy.events import Event, Kept, NotKept, Received, Ticked
from proxy.tally import Tally
from storage.records import Quarantined


class RadiusListener:
    """One `[[listen]]` of the dialect radius: hands authentic requests to its login flow and its accounting flow.

    `proxy_state`: what marks Locum's own requests (RFC 2865 section 5.33), so that one that comes back is seen.
    """

    def __init__(
        self,
        clients: Sequence[Client],
        logins: LoginFlow,
        accounting: AccountingFlow,
        tally: Tally,
        proxy_state: bytes,
    ) -> None:
        self.clients = Clients(clients)
        self.logins = logins
        self.accounting = accounting
        self._tally = tally
        self.proxy_state = proxy_state

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, Received):
            return self._received(event)
        if isinstance(event, Ticked):
            return self.logins.tick(event.at) + self.accounting.tick(event.at)
        if isinstance(event, Kept | NotKept):
            return self.logins.handle(event) + self.accounting.handle(event)
        return []

    def configure(self, clients: Sequence[Client]) -> None:
        """A reload: other clients, or other secrets."""
        self.clients = Clients(clients)

    def _received(self, event: Received) -> list[Command]:
        address, at = event.peer[0], event.at
        client = self.clients.find(address)
        if client is None:
            text = f"a datagram from {address}, which is no configured client; add it to [[listen]] clients"
            return self._tally.note("unknown-client", address, text, at.now)
        try:
            packet = parse(event.data)
            if event.channel == self.logins.channel:
                return self._login(event, client, packet)
            return self._record(event, client, packet)
        except ProtocolError as error:
            return self._dropped(event, error)

    def _login(self, event: Received, client: Client, packet: Packet) -> list[Command]:
        if packet.code not in (Code.ACCESS_REQUEST, Code.STATUS_SERVER):
            raise Malformed("unexpected-code", f"code {packet.code} on the authentication port")
        signed = verify_message_authenticator(event.data, packet, client.secret)
        needed = (
            client.require_signature or packet.code == Code.STATUS_SERVER or packet.get(Type.EAP_MESSAGE) is not None
        )
        if needed and not signed:
            raise NotAuthentic("no-message-authenticator", "a request without Message-Authenticator")
        asked = Asked(client, event.peer, packet, signed)
        if packet.code == Code.STATUS_SERVER:
            return self._alive(event, asked, Code.ACCESS_ACCEPT)
        self._check_loop(packet)
        return self._spoke(event) + self.logins.asked(asked, event.data, event.at)

    def _record(self, event: Received, client: Client, packet: Packet) -> list[Command]:
        signed = verify_message_authenticator(event.data, packet, client.secret)
        asked = Asked(client, event.peer, packet, signed)
        if packet.code == Code.STATUS_SERVER:
            if not signed:
                raise NotAuthentic("no-message-authenticator", "a Status-Server without Message-Authenticator")
            return self._alive(event, asked, Code.ACCOUNTING_RESPONSE)
        if packet.code != Code.ACCOUNTING_REQUEST:
            raise Malformed("unexpected-code", f"code {packet.code} on the accounting port")
        verify_accounting_request(event.data, packet, client.secret)
        self._check_loop(packet)
        return self._spoke(event) + self.accounting.asked(asked, event.data, event.at)

    def _spoke(self, event: Received) -> list[Command]:
        address, at = event.peer[0], event.at
        commands = self.logins.upstream.device_spoke(address, at)
        if self.accounting.upstream is not self.logins.upstream:
            commands += self.accounting.upstream.device_spoke(address, at)
        return commands

    def _alive(self, event: Received, asked: Asked, code: Code) -> list[Command]:
        packet, states = asked.packet, asked.proxy_states()
        answer = sign_response(
            code, packet.identifier, states, packet.authenticator, asked.client.secret, message_authenticator=True
        )
        return [Send(event.channel, answer, event.peer)]

    def _check_loop(self, packet: Packet) -> None:
        if (Type.PROXY_STATE, self.proxy_state) in packet.attributes:
            raise NotAuthentic("loop", "a request of Locum's own came back: the upstream's address is Locum's")

    def _dropped(self, event: Received, error: ProtocolError) -> list[Command]:
        address = event.peer[0]
        commands = self._tally.note(
            error.reason, address, f"a datagram from {address} was dropped: {error}", event.at.now
        )
        if commands and event.channel == self.accounting.channel and isinstance(error, Malformed):
            # With its line, so as rarely: anyone could send these.
            kept = Quarantined(event.at.wall, "radius", "", address, error.reason, event.data)
            commands.append(self.accounting.site.gaps.keep(kept, self.accounting.upstream.name))
        return commands
