"""Reads one table after another against its msgspec type and collects what is wrong, with lines and nearest keys.

msgspec stops at the first mistake and knows no lines; so each key is converted by itself, and all mistakes of a file
are reported together. A table with a mistake reads as None and the rest goes on. Values of keys that hold secrets are
never repeated in a message.
"""

import difflib
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from appliance.config.lines import Lines
from appliance.config.lines import Path as KeyPath
from appliance.config.tables import Duration, decode_hook
from appliance.config.values import Problem

S = TypeVar("S", bound=Struct)

_SECRET_KEYS = frozenset({"secret", "password", "token", "community", "auth_key", "priv_key"})


class Reader:
    """Collects the problems of one file."""

    def __init__(self, file: Path, lines: Lines) -> None:
        self.file = file
        self.lines = lines
        self.problems: list[Problem] = []

    def problem(self, at: KeyPath, text: str) -> None:
        self.problems.append(Problem(self.file, self.lines.of(at), text))

    def table(self, wanted: type[S], table: dict[str, Any], at: KeyPath) -> S | None:
        """`table` as a `wanted`, or None when it holds a mistake; each mistake has been noted then."""
        before = len(self.problems)
        fields = {info.encode_name: info for info in msgspec.structs.fields(wanted)}
        meant = {self.unknown_key((*at, key), list(fields)) for key in table if key not in fields}
        values: dict[str, Any] = {}
        for key, info in fields.items():
            if key in table:
                values[key] = self._value(info.type, table[key], (*at, key))
            elif info.required and key not in meant:
                self.problem(at, f"{key} is missing in {section(at)}; add {_example_line(key, info.type)}")
        return wanted(**values) if len(self.problems) == before else None

    def unknown_key(self, at: KeyPath, known: list[str]) -> str | None:
        """Note an unknown key; gives the known one that was probably meant."""
        key = str(at[-1])
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.55)
        advice = f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(known)}"
        self.problem(at, f"unknown key {printable(key)} in {section(at[:-1])}; {advice}")
        return near[0] if near else None

    def _value(self, wanted: Any, value: object, at: KeyPath) -> object:
        meta = _meta(wanted)
        try:
            result = msgspec.convert(value, wanted, dec_hook=decode_hook)
        except (msgspec.ValidationError, OverflowError):
            self.problem(at, _must_be(str(at[-1]), value, meta))
            return None
        if isinstance(result, Duration) and not _in_range(result, meta):
            self.problem(at, _must_be(str(at[-1]), value, meta))
            return None
        return result


def section(at: KeyPath) -> str:
    """How a person calls the table at `at`: `[offline]`, `[[listen]]`, `clients of [[listen]]`."""
    if not at:
        return "the file"
    head = f"[[{at[0]}]]" if len(at) > 1 and isinstance(at[1], int) else f"[{at[0]}]"
    inner = [str(part) for part in at[1:] if isinstance(part, str)]
    return f"{'.'.join(inner)} of {head}" if inner else head


def printable(value: object) -> str:
    """A short form of a value for a message of one line."""
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 60 else text[:57] + "..."


def _in_range(duration: Duration, meta: Meta | None) -> bool:
    limits = (meta.extra if meta is not None else None) or {}
    return bool(limits.get("least", 0) <= duration.seconds <= limits.get("most", float("inf")))


def _must_be(key: str, value: object, meta: Meta | None) -> str:
    wanted = meta.description if meta is not None and meta.description else "something else"
    given = "" if key in _SECRET_KEYS else f", not {_kind(value)}"
    return f"{key} must be {wanted}{given}{_for_example(key, meta)}"


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return printable(value)


def _for_example(key: str, meta: Meta | None) -> str:
    if meta is None or not meta.examples:
        return ""
    return f"; for example {key} = {meta.examples[0]}"


def _example_line(key: str, wanted: Any) -> str:
    meta = _meta(wanted)
    return f"{key} = {meta.examples[0] if meta is not None and meta.examples else '...'}"


def _meta(wanted: Any) -> Meta | None:
    """The first `Meta` with a description inside a type."""
    if isinstance(wanted, Meta):
        return wanted if wanted.description else None
    for part in get_args(wanted):
        found = _meta(part)
        if found is not None:
            return found
    return None
