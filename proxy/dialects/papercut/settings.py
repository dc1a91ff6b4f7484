"""What the config says of a PaperCut upstream."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo

from protocols.papercut.calls import PATH
from proxy.commands import Tls
from proxy.dialects.papercut.pool import Target
from proxy.dialects.papercut.resolving import CardRules


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds. `host`: the url's host, with a port where it is not the scheme's own, as the Host header says
    it. `time_zone`: the server's. `printers`: the name that a device has at the server.
    """

    host: str
    port: int
    token: str
    time_zone: tzinfo
    appliance: str
    printers: Callable[[str], str]
    path: str = PATH
    tls: Tls | None = None
    answer_timeout: float = 3.0
    probe_interval: float = 10.0
    card_regex: re.Pattern[str] | None = None
    card_converters: tuple[str, ...] = ()
    unknown_username: str = "unknown"

    @property
    def target(self) -> Target:
        return Target(self.host, self.port, self.path, self.tls, self.answer_timeout)

    @property
    def cards(self) -> CardRules:
        return CardRules(self.card_regex, self.card_converters, self.unknown_username)
