"""Houses in line: the server knows the copiers, each by its address and secret, and nobody else.

What reaches it from any other address, or is not made with that copier's secret, fails the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network

from appliance.config import ClientConfig, Config, InlineConfig, Secret
from protocols.radius.packet import Code, parse
from protocols.radius.secrets import verify_accounting_request, verify_message_authenticator
from proxy.commands import Close, Command, Connect, Open, Send, Source
from proxy.events import Channel
from tests.flows.house import COPIER, ToServer
from tests.flows.pairs import PairHouse

OTHER = b"secret-of-the-other-floor"
FLOOR = ClientConfig(ip_network("10.8.0.0/24"), Secret(OTHER), "copier", True, False)
SIXTH = ClientConfig(ip_network("2001:db8:7::/64"), Secret(OTHER), "copier", True, False)
"""Other networks of copiers, with a secret of their own."""


@dataclass
class InLineHouse(PairHouse):
    """`source_of` is where each open channel towards a server comes from; `opened` all that ever were, in order."""

    known: dict[str, bytes] = field(default_factory=lambda: {"10.7.0.": COPIER, "10.8.0.": OTHER, "2001:db8:7:": OTHER})

    def __post_init__(self) -> None:
        self.source_of: dict[Channel, Source | None] = {}
        self.opened: list[tuple[Channel, Source | None]] = []
        super().__post_init__()

    def config(self) -> Config:
        return replace(super().config(), inline=InlineConfig("bridge", "eth1", "eth2"))

    def restart(self, down_for: float = 0.0, **how: object) -> None:
        self.source_of.clear()
        super().restart(down_for, **how)

    def run(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Open | Connect):
                self.source_of[command.channel] = command.source
                self.opened.append((command.channel, command.source))
            elif isinstance(command, Close):
                self.source_of.pop(command.channel, None)
            super().run([command])

    def secret_of(self, address: str) -> bytes:
        return next(secret for begins, secret in self.known.items() if address.startswith(begins))

    def source(self, sent: ToServer) -> tuple[str, int]:
        source = next(source for channel, source in reversed(self.opened) if channel == sent.channel)
        assert source is not None
        return source.address, source.port

    def _at_server(self, send: Send) -> None:
        source = self.source_of[send.channel]
        assert source is not None, "the server does not know Locum"
        packet, secret = parse(send.data), self.secret_of(source.address)
        if packet.code == Code.ACCOUNTING_REQUEST:
            verify_accounting_request(send.data, packet, secret)
        else:
            assert verify_message_authenticator(send.data, packet, secret)
        self.server_secret = secret
        super()._at_server(send)
