"""Payloads as runs of numbers with texts between them, read and written by `struct`.

A text is an octet of length and that many octets of UTF-8. Written by hand because every job passes here: with
construct it would take ten times as long. `definition.py` declares the same.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Any, Final

from protocols.errors import Malformed, TooLarge

LARGEST_TEXT: Final = 255


class Part(Enum):
    TEXT = "a text"
    LENIENT = "a text of which bad UTF-8 is read with replacement characters"
    TEXTS = "an octet of count, then so many texts"


class Layout:
    """A payload's parts in order: each a text, a list of texts, or a run of numbers in `struct`'s letters."""

    __slots__ = ("_counts", "_name", "_parts")

    def __init__(self, name: str, *parts: str | Part) -> None:
        self._name = name
        self._parts = [struct.Struct("!" + part) if isinstance(part, str) else part for part in parts]
        self._counts = [
            len(part.unpack(bytes(part.size))) if isinstance(part, struct.Struct) else 1 for part in self._parts
        ]

    def read(self, payload: bytes) -> list[Any]:
        """The fields, in order. Raises Malformed for a payload that is shorter or longer, and for bad UTF-8."""
        try:
            fields, size = self._read(payload)
        except (struct.error, IndexError):
            raise Malformed("payload-length", f"{len(payload)} octets are no whole {self._name}") from None
        except UnicodeDecodeError:
            raise Malformed("bad-utf8", f"a text of {self._name}") from None
        # A text that overruns was read cut short; it shows here.
        if size != len(payload):
            raise Malformed("payload-length", f"{len(payload)} octets where {self._name} has {size}")
        return fields

    def _read(self, payload: bytes) -> tuple[list[Any], int]:
        fields: list[Any] = []
        at = 0
        for part in self._parts:
            if isinstance(part, struct.Struct):
                fields += part.unpack_from(payload, at)
                at += part.size
            elif part is Part.TEXTS:
                texts, at = _read_texts(payload, at)
                fields.append(texts)
            else:
                end = at + 1 + payload[at]
                octets = payload[at + 1 : end]
                at = end
                try:
                    fields.append(octets.decode())
                except UnicodeDecodeError:
                    if part is Part.TEXT:
                        raise
                    fields.append(replaced(octets))
        return fields, at

    def write(self, fields: list[Any]) -> bytes:
        """The payload. Raises TooLarge for a text over 255 octets or a list over 255 texts, Malformed for a number out
        of its range and for a text that is no Unicode.
        """
        pieces: list[bytes] = []
        at = 0
        try:
            for part, count in zip(self._parts, self._counts, strict=True):
                if isinstance(part, struct.Struct):
                    pieces.append(part.pack(*fields[at : at + count]))
                elif part is Part.TEXTS:
                    pieces.append(_texts(fields[at]))
                else:
                    pieces.append(_text(fields[at]))
                at += count
        except struct.error:
            raise Malformed("field-range", f"a number of {self._name}") from None
        except UnicodeEncodeError:
            raise Malformed("no-unicode", f"a text of {self._name}") from None
        return b"".join(pieces)


def clip(text: str) -> str:
    """As much of a text as a field can hold: at most 255 octets of UTF-8, whole characters, no lone surrogates."""
    return text.encode("utf-8", "replace")[:LARGEST_TEXT].decode("utf-8", "ignore")


def replaced(octets: bytes) -> str:
    """Octets that are no UTF-8, with replacement characters; clipped, so that what was read can be written again."""
    return clip(octets.decode("utf-8", "replace"))


def _read_texts(payload: bytes, at: int) -> tuple[tuple[str, ...], int]:
    texts: list[str] = []
    count, at = payload[at], at + 1
    for _ in range(count):
        end = at + 1 + payload[at]
        texts.append(payload[at + 1 : end].decode())
        at = end
    return tuple(texts), at


def _texts(texts: tuple[str, ...]) -> bytes:
    if len(texts) > 255:
        raise TooLarge("too-many-values", f"{len(texts)}, at most 255")
    return bytes((len(texts),)) + b"".join(map(_text, texts))


def _text(text: str) -> bytes:
    octets = text.encode()
    if len(octets) > LARGEST_TEXT:
        raise TooLarge("text-too-long", f"{len(octets)} octets, at most {LARGEST_TEXT}")
    return bytes((len(octets),)) + octets
