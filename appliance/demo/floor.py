"""Which copiers the demo has: those of an office, one of which speaks RADIUS, and those of a school library.

The office goes offline by itself; in the library offline mode waits for an adult's code (environment education). Few
copiers are enough: one is an office's, two have a library's among them, three one that speaks RADIUS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from appliance.simulator.copier import Copier, Target
from appliance.simulator.lab import AnyCopier
from appliance.simulator.terminal import TerminalCopier, TerminalTarget

FIRST_PAUSE = 0.3


@dataclass(frozen=True, slots=True)
class Place:
    """A copier's name, the name that the server knows it by as a printer, and how it is."""

    name: str
    printer: str
    library: bool = False
    radius: bool = False


def places_of(count: int) -> list[Place]:
    """So many places, the office's first; its first copier is always a terminal."""
    library = min(2, count // 2)
    office = count - library
    found = [Place(f"office-{number}", f"office-{number}") for number in range(1, office + 1)]
    if count >= 3:
        found[-1] = Place(f"office-{office}", f"office-{office}", radius=True)
    # A comma in a printer's name has to be quoted on its way to the server.
    found += [Place(f"library-{number}", f"Library, room {number}", library=True) for number in (1, 2)[:library]]
    return found


class Floor:
    """The copiers, switched on."""

    def __init__(self, reactor: Any, places: Sequence[Place], terminals: TerminalTarget, radius: Target) -> None:
        self.office: list[AnyCopier] = []
        self.library: list[AnyCopier] = []
        for number, place in enumerate(places, 1):
            copier: AnyCopier
            if place.radius:
                source = f"127.0.1.{number}"
                copier = Copier(reactor, place.name, radius, source=source, first_pause=FIRST_PAUSE)
            else:
                copier = TerminalCopier(reactor, place.name, terminals, first_job=1)
            (self.library if place.library else self.office).append(copier)

    @property
    def copiers(self) -> list[AnyCopier]:
        """All of them."""
        return [*self.office, *self.library]

    def close(self) -> None:
        """Switch all of them off."""
        for copier in self.copiers:
            copier.close()
