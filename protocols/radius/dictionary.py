"""Names and types of attributes, read from text in FreeRADIUS's dictionary format.

Read: ATTRIBUTE, VALUE, VENDOR, BEGIN-VENDOR,
END-VENDOR, PROTOCOL blocks of version 4. Attributes inside another one (dotted numbers, TLVs) and those of vendors
with another framing than RFC 2865's are known by name only: asking for one is an error. Left out: $INCLUDE (no files
are read here) and structs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from types import MappingProxyType

from protocols.errors import Malformed
from protocols.radius import standard
from protocols.radius.typed import NUMBERS, Definition, Value, decode, encode, type_of

__all__ = [
    "Definition",
    "Dictionary",
    "Value",
    "decode",
    "encode",
    "parse_dictionary",
    "shipped_dictionary",
    "shipped_text",
    "standard_dictionary",
]


@dataclass(frozen=True, slots=True)
class Dictionary:
    """Attributes by name and by number.

    Made by `parse_dictionary` and `standard_dictionary`; never changed afterwards.
    """

    by_name: Mapping[str, Definition]
    by_number: Mapping[tuple[int | None, int], Definition]
    vendors: Mapping[str, int]
    unreadable: frozenset[str] = frozenset()

    def attribute(self, name: str) -> Definition:
        """The definition of a name, or of `vendor.name`, in any case of letters.

        Raises Malformed if there is none that can be read.
        """
        known = self.by_name.get(name.lower())
        if known is not None:
            return known
        if name.lower() in self.unreadable:
            raise Malformed(
                "dictionary", f"{name} is part of another attribute or framed in a vendor's own way: not readable"
            )
        raise Malformed("dictionary", f"there is no attribute {name}")

    def name(self, vendor: int | None, number: int) -> str:
        """The attribute's name, or one made of its numbers."""
        known = self.by_number.get((vendor, number))
        if known is not None:
            return known.name
        return f"Attr-{number}" if vendor is None else f"Attr-26.{vendor}.{number}"


@lru_cache(maxsize=1)
def standard_dictionary() -> Dictionary:
    """The attributes of `standard.py`."""
    by_name = {}
    for kind, text in standard.ATTRIBUTES.items():
        for number, name in standard.numbered(text):
            named = (
                {word: value for value, word in standard.numbered(standard.VALUES[name])}
                if name in standard.VALUES
                else {}
            )
            by_name[name.lower()] = Definition(None, number, kind, MappingProxyType(named), name)
    return Dictionary(by_name, {(None, each.number): each for each in by_name.values()}, {})


def shipped_text() -> str:
    """The text of `dictionary.locum`, to hand to a server."""
    return resources.files("protocols.radius").joinpath("dictionary.locum").read_text("utf-8")


@lru_cache(maxsize=1)
def shipped_dictionary() -> Dictionary:
    """The standard attributes and Locum's own."""
    return parse_dictionary(shipped_text())


def parse_dictionary(text: str, base: Dictionary | None = None) -> Dictionary:
    """A dictionary of `base` (None: the standard attributes) and of what the text adds.

    A later definition replaces an earlier one of the same vendor; a vendor that gets another number gives up the
    attributes of its old one. Raises Malformed with the number of the line that cannot be read.
    """
    reader = _Reader(standard_dictionary() if base is None else base)
    for count, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            try:
                reader.read(words)
            except (ValueError, IndexError) as error:
                raise Malformed("dictionary", f"line {count}: {error}: {line.strip()}") from None
    return reader.finished()


# Words of version 4 that change nothing about attributes framed as RFC 2865 says.
_PASSED_OVER = frozenset(
    {"PROTOCOL", "BEGIN-PROTOCOL", "END-PROTOCOL", "FLAGS", "ALIAS", "STRUCT", "MEMBER", "DEFINE", "ENUM"}
)


class _Reader:
    def __init__(self, base: Dictionary) -> None:
        self.by_name = dict(base.by_name)
        self.by_number = dict(base.by_number)
        self.vendors = dict(base.vendors)
        self.unreadable = set(base.unreadable)
        self.own_framing: set[int] = set()
        self.vendor: int | None = None
        self.depth = 0

    def read(self, words: list[str]) -> None:
        keyword, *rest = words
        match keyword.upper():
            case "ATTRIBUTE":
                self.attribute(*_at_least(rest, 3))
            case "VALUE":
                self.value(*_at_least(rest, 3)[:3])
            case "VENDOR":
                self.new_vendor(*_at_least(rest, 2))
            case "BEGIN-VENDOR":
                self.vendor = self.known_vendor(_at_least(rest, 1)[0])
            case "END-VENDOR":
                self.vendor = None
            case "BEGIN-TLV":
                self.depth += 1
            case "END-TLV":
                self.depth = max(0, self.depth - 1)
            case _ if keyword.upper() in _PASSED_OVER:
                pass
            case "$INCLUDE":
                raise ValueError("included files are not read: put their lines here")
            case _:
                raise ValueError(f"{keyword} is not known")

    def attribute(self, name: str, number: str, kind: str, *more: str) -> None:
        nested = self.depth > 0 or "." in number
        vendor = self.vendor
        if more and more[0] in self.vendors:
            vendor = self.vendors[more[0]]
        if nested or vendor in self.own_framing:
            if self.holds(name, vendor):
                self.by_name.pop(name.lower(), None)
                self.unreadable.add(name.lower())
            return
        base_type, size = type_of(kind)
        numeral = _number(number)
        if not 0 < numeral < 256:
            raise ValueError(f"{number} is not 1 to 255")
        if any(flag.startswith("has_tag") for word in more for flag in word.split(",")):
            base_type = "octets"
        self.store(Definition(vendor, numeral, base_type, MappingProxyType({}), name, size))

    def store(self, definition: Definition) -> None:
        if definition.vendor is not None:
            self.by_name[self.scoped(definition.name, definition.vendor)] = definition
        if self.holds(definition.name, definition.vendor):
            self.unreadable.discard(definition.name.lower())
            self.by_name[definition.name.lower()] = definition
        self.by_number[definition.vendor, definition.number] = definition

    def value(self, attribute: str, name: str, number: str) -> None:
        known = self.by_name.get(self.scoped(attribute, self.vendor)) or self.by_name.get(attribute.lower())
        if known is None:
            if attribute.lower() in self.unreadable:
                return
            raise ValueError(f"there is no attribute {attribute} before it")
        if known.type in NUMBERS:
            self.store(replace(known, values=MappingProxyType({**known.values, name: _number(number)})))

    def holds(self, name: str, vendor: int | None) -> bool:
        """Whether the plain name is free for this vendor: another's, or a standard one, is never taken away."""
        known = self.by_name.get(name.lower())
        return known is None or known.vendor == vendor

    def scoped(self, name: str, vendor: int | None) -> str:
        """The name that a vendor's attribute always has too: `vendor.name`."""
        of = next((each for each, number in self.vendors.items() if number == vendor), "")
        return f"{of}.{name}".lower()

    def new_vendor(self, name: str, number: str, *more: str) -> None:
        numeral = _number(number)
        if not 0 <= numeral < 1 << 32:
            raise ValueError(f"vendor number {number} does not fit in 32 bits")
        old = self.vendors.get(name)
        if old is not None and old != numeral:
            self.by_name = {key: each for key, each in self.by_name.items() if each.vendor != old}
            self.by_number = {key: each for key, each in self.by_number.items() if each.vendor != old}
        self.vendors[name] = numeral
        if any(word.startswith("format=") and not word.startswith("format=1,1") for word in more):
            self.own_framing.add(numeral)

    def known_vendor(self, name: str) -> int:
        if name not in self.vendors:
            raise ValueError(f"there is no vendor {name} before it")
        return self.vendors[name]

    def finished(self) -> Dictionary:
        return Dictionary(self.by_name, self.by_number, self.vendors, frozenset(self.unreadable))


def _number(word: str) -> int:
    return int(word, 0) if word[:2].lower() in ("0x", "0o") else int(word, 10)


def _at_least(words: list[str], count: int) -> list[str]:
    if len(words) < count:
        raise ValueError(f"{count} words are needed")
    return words
