"""The objects of an agent at one moment, and how requests are answered from them (RFC 3416 section 4.2).

Nothing can be written. An answer never grows past what the other side takes: GETBULK is cut short, the others are
tooBig.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from protocols.snmp.messages import Message, Pdu, Varbind

MOST_REPETITIONS = 128
MOST_ANSWERED = 1024
NOT_WRITABLE = 17
_ROOM = 256
"""Octets of an answer that are no varbinds, at most."""

Answer = tuple[int, int, Sequence[Varbind]]


class Tree:
    """`objects`: each once, in any order."""

    def __init__(self, objects: Iterable[Varbind] = ()) -> None:
        self._found = {each.oid: each for each in objects}
        ordered = sorted((_key(oid), oid) for oid in self._found)
        self._keys = [key for key, _ in ordered]
        self._oids = [oid for _, oid in ordered]

    def get(self, oid: str) -> Varbind:
        """The object, or that there is none."""
        return self._found.get(oid) or Varbind(oid, "no-such-object")

    def after(self, oid: str) -> Varbind:
        """The first object behind this name, or that there is none."""
        place = bisect_right(self._keys, _key(oid))
        if place == len(self._oids):
            return Varbind(oid, "end-of-mib")
        return self._found[self._oids[place]]

    def answer(self, asked: Message, largest: int) -> Answer | None:
        """error-status, error-index and objects for a request; None for what is no request."""
        names = [each.oid for each in asked.varbinds]
        match asked.pdu:
            case Pdu.GET:
                return 0, 0, [self.get(oid) for oid in names]
            case Pdu.GET_NEXT:
                return 0, 0, [self.after(oid) for oid in names]
            case Pdu.GET_BULK:
                return 0, 0, self._bulk(names, asked.status, asked.index, largest)
            case Pdu.SET:
                return NOT_WRITABLE, 1 if names else 0, asked.varbinds
            case _:
                return None

    def _bulk(self, names: list[str], alone: int, repetitions: int, largest: int) -> list[Varbind]:
        alone = max(0, min(alone, len(names)))
        found = [self.after(oid) for oid in names[:alone]]
        repeated = names[alone:]
        room = largest - _ROOM - sum(map(_size, found))
        for _ in range(max(0, min(repetitions, MOST_REPETITIONS)) if repeated else 0):
            row = [self.after(oid) for oid in repeated]
            room -= sum(map(_size, row))
            if room < 0 or len(found) + len(row) > MOST_ANSWERED:
                break
            found += row
            if all(each.kind == "end-of-mib" for each in row):
                break
            repeated = [each.oid for each in row]
        return found


def _size(each: Varbind) -> int:
    """Octets of a varbind on the wire, about."""
    value = each.value
    return 2 * len(each.oid) // 3 + 16 + (len(value) if isinstance(value, bytes | str) else 9)


def _key(oid: str) -> tuple[int, ...]:
    return tuple(map(int, oid.split(".")))
