"""What one request to an SNMP agent can come to."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.snmp.messages import Varbind


@dataclass(frozen=True, slots=True)
class Answer:
    """The agent's answer, as on the wire."""

    status: int
    index: int
    varbinds: tuple[Varbind, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """There is none. `kind`, `why`: as in `MetersUnread`."""

    kind: str
    why: str
