"""How a counter is made of what an agent answers: `meters.toml` writes it as a sum of terms.

    formula = term *(("+" / "-") term)
    term = ("life" / oid / oid "#" HEXTAG / "@" type) ["?"]

`life` is prtMarkerLifeCount over all markers that count pages; `oid#00` the value with that tag in a packed block
(Brother); `@200` the rows of the vendor's own table whose type is 200 (Ricoh). A term with `?` may be missing; at least
one term must be there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from protocols.snmp.messages import NUMBERS, Varbind

LARGEST = (1 << 53) - 1
"""Above this nothing is a page counter, and no ledger holds it exactly."""
LIFE = "life"
_TERM = re.compile(
    r"\s*([+-]?)\s*(?:(life)|@([0-9]{1,10})|([0-9]+(?:\.[0-9]+)+)(?:#([0-9a-fA-F]{2}))?)(\?)?\s*(?=[+-]|$)"
)
_END = 0xFF
_DIGITS = re.compile(rb"[ \t]*([0-9]{1,15})[ \t\r\n\0]*")


class WrongTable(ValueError):
    """The table of meters is wrong; the text is one line: where, what, what to do."""


class Counter(NamedTuple):
    """One number that an agent counts. `oid` and, in a packed block, `tag` (-1: the object itself)."""

    oid: str
    tag: int = -1


class Value(NamedTuple):
    """What a counter shows. `modulus`: where it begins again at 0 by itself; 0: nowhere."""

    number: int
    modulus: int


@dataclass(frozen=True, slots=True)
class Term:
    """`sign` is 1 or -1; one of `life`, `kind` (of the vendor's table) and `counter` says what is counted."""

    sign: int
    optional: bool
    life: bool = False
    kind: int | None = None
    counter: Counter | None = None


Formula = tuple[Term, ...]
Resolved = tuple[tuple[int, Counter], ...]
"""A formula as one device has it: sign and counter of each term that is there."""


def parse(text: str) -> Formula:
    """Read a formula. Raises WrongTable."""
    terms: list[Term] = []
    place = 0
    while place < len(text):
        found = _TERM.match(text, place)
        if found is None or bool(found[1]) != bool(terms):
            raise WrongTable(
                f"{text!r} is no formula; write OID + OID, OID#TAG, @TYPE or life, with ? where it may miss"
            )
        sign = -1 if found[1] == "-" else 1
        counter = Counter(found[4], int(found[5], 16) if found[5] else -1) if found[4] else None
        terms.append(Term(sign, bool(found[6]), bool(found[2]), int(found[3]) if found[3] else None, counter))
        place = found.end()
    if not terms:
        raise WrongTable("an empty text is no formula")
    return tuple(terms)


def objects(formula: Formula) -> Iterator[str]:
    """The objects to get for it, `life` and the vendor's table apart."""
    return (term.counter.oid for term in formula if term.counter is not None)


def resolve(
    formula: Formula, found: Mapping[str, Varbind], life: Resolved, rows: Mapping[int, list[Counter]]
) -> Resolved | None:
    """The formula's counters that this device has; None: it lacks one that it needs, or all."""
    resolved: list[tuple[int, Counter]] = []
    for term in formula:
        if term.life:
            there = [(term.sign * sign, counter) for sign, counter in life]
        elif term.kind is not None:
            there = [(term.sign, counter) for counter in rows.get(term.kind, ()) if read(counter, found) is not None]
        else:
            there = [(term.sign, term.counter)] if term.counter and read(term.counter, found) is not None else []
        if not there and not term.optional:
            return None
        resolved += there
    return tuple(resolved) or None


def read(counter: Counter, found: Mapping[str, Varbind]) -> Value | None:
    """What the counter shows; None: it is not there, or what is there is no count."""
    given = found.get(counter.oid)
    if given is None:
        return None
    if counter.tag >= 0:
        number = packed(given.value).get(counter.tag) if isinstance(given.value, bytes) else None
        return None if number is None else Value(number, 1 << 32)
    if given.kind == "octets" and isinstance(given.value, bytes) and (digits := _DIGITS.fullmatch(given.value)):
        return Value(int(digits[1]), 0)  # some firmware writes its counters as text
    if given.kind not in NUMBERS or not isinstance(given.value, int) or not 0 <= given.value <= LARGEST:
        return None
    return Value(given.value, 1 << 32 if given.kind == "counter32" else 0)


def packed(block: bytes) -> dict[int, int]:
    """The values of a packed block by tag: tag, 01, length, value, and so on up to FF or the end. What is cut short is
    left out.
    """
    values: dict[int, int] = {}
    place = 0
    while place + 3 <= len(block) and block[place] != _END:
        tag, size = block[place], block[place + 2]
        end = place + 3 + size
        if block[place + 1] != 1 or not 1 <= size <= 8 or end > len(block):
            break
        values.setdefault(tag, int.from_bytes(block[place + 3 : end], "big"))
        place = end
    return values
