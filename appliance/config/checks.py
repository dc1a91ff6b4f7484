"""What several sections need to check: texts that must fit a rule, names of upstreams, names that stand once."""

import difflib
import re
import warnings
from collections.abc import Callable
from typing import TypeVar

from appliance.config import addresses
from appliance.config.lines import Path as KeyPath
from appliance.config.reading import Reader, printable

T = TypeVar("T")


def checked(reader: Reader, check: Callable[[str], T], text: str, at: KeyPath) -> T | None:
    """What `check` makes of `text`, or None with its ValueError noted: "KEY VALUE is ...; do ..."."""
    try:
        return check(text)
    except ValueError as error:
        key = next(str(part) for part in reversed(at) if isinstance(part, str))
        reader.problem(at, f"{key} {printable(text)} {error}")
        return None


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression. ValueError says what is wrong and what to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a doubtful pattern is an error here, not a line on standard error
        try:
            return re.compile(text)
        except (re.error, OverflowError, RecursionError, Warning) as error:
            raise ValueError(f"is not a regular expression ({error}); correct it") from None


def hosts(reader: Reader, address: str | list[str], at: KeyPath) -> tuple[str, ...] | None:
    """One address or several, each an IP literal or a name; None with what is wrong noted."""
    if isinstance(address, str):
        only = checked(reader, addresses.host, address, at)
        return None if only is None else (only,)
    if not address:
        reader.problem(at, 'address is an empty list; write for example address = "10.0.0.5"')
        return None
    found = [checked(reader, addresses.host, text, (*at, index)) for index, text in enumerate(address)]
    good = tuple(text for text in found if text is not None)
    if len(set(good)) != len(good):
        reader.problem(at, "address names the same address twice; remove one of them")
    return good if len(good) == len(found) else None


def unique(reader: Reader, what: str, named: list[tuple[object, KeyPath]]) -> None:
    """Note every name or address that stands twice."""
    first: dict[object, KeyPath] = {}
    for name, at in named:
        if name in first:
            line = reader.lines.of(first[name])
            reader.problem(at, f"{what} {printable(name)} is used twice (first in line {line}); change one of them")
        first.setdefault(name, at)


def did_you_mean(given: str, known: list[str], else_: str) -> str:
    """Advice for a wrong name: the nearest known one, or `else_`."""
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f'did you mean "{near[0]}"?' if near else else_
