"""One reading of an agent, whatever the transport: batched GETs and bounded walks, request after request.

`next_request` says what to ask, `answered` takes what came. What agents do wrong is dealt with here, once: SNMPv1's
noSuchName takes one object out and asks for the rest, tooBig halves the batch, a walk that goes round or never ends is
ended and noted. So one reading never takes more than `MOST_REQUESTS` requests nor `MOST_ROWS` rows of a walk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocols.snmp.messages import Pdu, Status, Varbind

BATCH = 24
"""Objects in a GET: an answer with as many texts still goes into one Ethernet frame."""
MOST_REQUESTS = 96
MOST_ROWS = 512
REPETITIONS = 16


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask next: GET of all, or GET_NEXT / GET_BULK of one."""

    pdu: Pdu
    oids: tuple[str, ...]
    repetitions: int = 0


@dataclass(slots=True)
class Asking:
    """`oids` are got, the columns in `walks` walked. `bulk`: the agent speaks SNMPv2c or SNMPv3.

    `found` fills with what the agent has; `troubles` with what it did wrong, each once.
    """

    oids: Sequence[str]
    walks: Sequence[str] = ()
    bulk: bool = True
    found: dict[str, Varbind] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    _asked: int = 0
    _answered: bool = False
    _batch: int = BATCH
    _open: list[str] = field(default_factory=list)
    _columns: list[str] = field(default_factory=list)
    _at: str = ""
    _rows: int = 0

    def __post_init__(self) -> None:
        self._open = list(dict.fromkeys(self.oids))
        self._columns = list(dict.fromkeys(self.walks))

    def next_request(self) -> Request | None:
        """What to ask; None: it is done."""
        if not (self._open or self._columns):
            return None
        if self._asked >= MOST_REQUESTS:
            self._trouble("it takes too many requests")
            return None
        self._asked += 1
        if self._open:
            return Request(Pdu.GET, tuple(self._open[: self._batch]))
        self._at = self._at or self._columns[0]
        if self.bulk:
            return Request(Pdu.GET_BULK, (self._at,), REPETITIONS)
        return Request(Pdu.GET_NEXT, (self._at,))

    def answered(self, status: int, index: int, varbinds: Sequence[Varbind]) -> None:
        """The answer to the last request that `next_request` gave."""
        self._answered = True
        if self._open:
            self._got(status, index, varbinds)
        elif self._columns:
            self._walked(status, varbinds)

    def unanswered(self) -> bool:
        """The last request had no answer, though others had; whether there is another way to go on.

        Some agents choke on GETBULK, some on a walk altogether: what they did answer is worth having.
        """
        if not self._answered or self._open or not self._columns:
            return False
        if self.bulk:
            self.bulk = False
            return True
        self._trouble(f"it does not answer a walk of {self._columns[0]}")
        self._columns.pop(0)
        self._at, self._rows = "", 0
        return True

    def _got(self, status: int, index: int, varbinds: Sequence[Varbind]) -> None:
        batch = self._open[: self._batch]
        if status == Status.NO_ERROR:
            for each in varbinds:
                if each.oid in batch and not each.absent:
                    self.found[each.oid] = each
            del self._open[: len(batch)]
        elif status == Status.TOO_BIG and len(batch) > 1:
            self._batch = len(batch) // 2
        elif 1 <= index <= len(batch):
            # SNMPv1: this one is not there (or cannot be read); the others may be.
            del self._open[index - 1]
        elif len(batch) > 1:
            self._batch = len(batch) // 2
        else:
            del self._open[0]

    def _walked(self, status: int, varbinds: Sequence[Varbind]) -> None:
        column = self._columns[0]
        inside = column + "."
        before = self._at
        for each in varbinds if status == Status.NO_ERROR else ():
            if each.absent or not each.oid.startswith(inside):
                break
            if _key(each.oid) <= _key(self._at):
                self._trouble(f"its walk of {column} goes round")
                break
            self.found[each.oid] = each
            self._at = each.oid
            self._rows += 1
            if self._rows >= MOST_ROWS:
                self._trouble(f"its walk of {column} has no end")
                break
        else:
            if self._at != before:
                return
        self._columns.pop(0)
        self._at, self._rows = "", 0

    def _trouble(self, text: str) -> None:
        if text not in self.troubles:
            self.troubles.append(text)


def _key(oid: str) -> tuple[int, ...]:
    return tuple(map(int, oid.split(".")))
