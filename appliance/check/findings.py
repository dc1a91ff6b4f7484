"""One thing that was tried, and what came of it."""

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How bad it is; the worst decides the exit status."""

    OK = 0
    WARNING = 1
    ERROR = 2

    @property
    def word(self) -> str:
        return self.name.lower()

    @property
    def color(self) -> str:
        return ("green", "yellow", "red")[self]


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` was tried, and a `text` of one line: what is the case and, unless it is fine, what to do."""

    level: Level
    what: str
    text: str


def ok(what: str, text: str) -> Finding:
    return Finding(Level.OK, what, text)


def warning(what: str, text: str) -> Finding:
    return Finding(Level.WARNING, what, text)


def error(what: str, text: str) -> Finding:
    return Finding(Level.ERROR, what, text)
