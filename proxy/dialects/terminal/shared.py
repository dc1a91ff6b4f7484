"""What the parts of one terminal listener share: where logins and records go, the site, and who relays.

A terminal server is reached by lines (`lines.py`); a PaperCut server has none and is asked about cards. While the
device's upstream is ONLINE or RECOVERING, and no drill runs on the device, its requests are the server's to answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from protocols.terminal.messages import OFFLINE_SESSION_BIT, TerminalState
from proxy.commands import Command
from proxy.dialects.terminal.connection import Asked, Deadlines
from proxy.dialects.terminal.lines import Lines
from proxy.events import Flow, Moment
from proxy.link import State
from proxy.site import Site
from proxy.tally import Tally
from proxy.upstream import Upstream

DIALECT = "terminal"


@dataclass(slots=True)
class Shared:
    """`flow` is the listener: it is told what was kept. `upstream` decides logins, `records_to` takes the jobs."""

    flow: Flow
    upstream: Upstream
    records_to: Upstream
    site: Site
    tally: Tally
    deadlines: Deadlines = field(default_factory=Deadlines)
    lines: Lines | None = field(init=False)

    def __post_init__(self) -> None:
        self.lines = cast(Lines, self.upstream) if self.upstream.dialect == DIALECT else None

    def state(self, device: str) -> State:
        """How the upstream stands, for this device."""
        return self.site.state_of(device, self.upstream)

    def relay(self, asked: Asked, lines: Lines, at: Moment) -> list[Command]:
        """Hand a request to the server; it is told what came of that, or that its time is over."""
        self.deadlines.add(asked, at.now + self.upstream.answer_timeout)
        return lines.relay(asked.device, asked.frame, asked, at)

    def shown(self, device: str) -> TerminalState:
        """The state that WELCOME and PONG tell this device, as far as Locum knows."""
        state = self.state(device)
        if state.relays:
            return TerminalState.ONLINE
        if state is State.GRACE or not self.site.policy_for(device).enabled:
            return TerminalState.UNAVAILABLE
        locked = self.site.shown(device, self.upstream) == "locked"
        return TerminalState.LOCKED if locked else TerminalState.OFFLINE


def mark_of(session: int) -> str:
    """The mark under which a session number is known everywhere else."""
    return f"{session:016x}"


def is_locums(session: int) -> bool:
    """Whether this is a number that only Locum grants."""
    return bool(session & OFFLINE_SESSION_BIT)
