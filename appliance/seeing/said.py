"""What was said on the wire: one message of one dialect, with what a person or a script wants to know of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.capture.streams import Peer

SHOWN = 4
HIDDEN = "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True, slots=True, repr=False)
class Private:
    """A card number, code or password. It shows itself only where that was asked for; else its last four characters,
    and none of it where it is `whole` secret or shorter than eight.
    """

    value: str
    whole: bool = False

    def __repr__(self) -> str:
        return f"Private({self.short!r})"

    @property
    def short(self) -> str:
        return HIDDEN if self.whole or len(self.value) < 2 * SHOWN else HIDDEN + self.value[-SHOWN:]


Fact = str | int | bool | Private


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """`at` in ms UTC. `device`: as the dialect names it, "" if it did not. `message`: what `protocols` made of `raw`.

    `answers`: the request that this answers. `authentic`: whether the secret fits; None: there was none to check with.
    """

    at: int
    source: Peer
    target: Peer
    dialect: str
    name: str
    facts: dict[str, Fact]
    from_device: bool
    device: str = ""
    message: object = None
    raw: bytes = field(default=b"", repr=False)
    answers: Said | None = field(default=None, repr=False)
    authentic: bool | None = None
