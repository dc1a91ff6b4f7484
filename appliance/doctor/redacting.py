"""What must not leave the machine is taken out by its key, never by a guess at how it looks.

Of the configuration only keys that this version knows are shown, and of these not the secrets and not the users; a key
that was misspelt may hold a secret too. What was taken out there, and what the secret files hold, is then looked for in
everything else that was gathered. Comments of the configuration are left out. Of the log only our own lines are kept
(and what systemd says of the unit), without who did a thing and why.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from appliance.config import tables

REMOVED = "(removed)"
SECRET_KEYS = frozenset({"secret", "password", "token", "community", "auth_key", "priv_key"})
PERSONAL_KEYS = frozenset({"user"})
SHORTEST = 4
"""What is shorter is not looked for elsewhere: it would be found in words that have nothing to do with it."""
_LARGEST_SECRET = 1 << 16
_BOTH = (True, False)

_LINE = re.compile(r"(?:<\d>)?\S+Z (?:info|warning|error) ")
_JSON_LINE = re.compile(r'(?:<\d>)?\{"time": "[^"]*", "level": "(?:info|warning|error)", ')
_STACK = re.compile(r'Fatal Python error: \w+|(?:Current thread|Thread) 0x|  File "[^"]*", line \d+ in ')
_REFUSED = re.compile(r"locum: ")
_CONFIG = re.compile(r"/\S*:(?:\d+:)? ")
_BY_HAND = re.compile(r' (?:who|reason)=(?:"(?:[^"\\]|\\.)*"|\S*)')


@dataclass(frozen=True, slots=True)
class Redacted:
    """A configuration that may be shown, as JSON, and `removed`: what was taken out of it, and out of secret files."""

    text: str
    removed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One of the journal's. `at`: as it is shown; `program`: who said it."""

    at: str
    program: str
    message: str


def known_keys() -> frozenset[str]:
    """Every key that the configuration may have."""
    structs = [each for each in vars(tables).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    return frozenset(field.encode_name for each in structs for field in msgspec.structs.fields(each))


def config(file: Path) -> Redacted:
    """The configuration in `file` without secrets. Raises OSError, and ValueError if it is no TOML."""
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        # Its text may repeat a value.
        raise ValueError("it is no TOML; locum check says in which line") from error
    removed: set[str] = set()
    shown = _shown(document, known_keys(), removed)
    for secret_file in _secret_files(document):
        removed |= _content(file.parent, secret_file)
    return Redacted(json.dumps(shown, indent=2, ensure_ascii=False, default=str), frozenset(removed))


def without(text: str, removed: Iterable[str]) -> str:
    """`text` without what was removed elsewhere, the longest first."""
    written = {form for each in removed for form in (each, *(json.dumps(each, ensure_ascii=so)[1:-1] for so in _BOTH))}
    for each in sorted((each for each in written if len(each) >= SHORTEST), key=len, reverse=True):
        text = text.replace(each, REMOVED)
    return text


def log_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """The lines of a journal that may be shown: ours, and those of systemd and of `locum inline`, with their times.

    A traceback (`--debug`) may hold what a device sent. Where the threads stood when the watchdog bit is places only.
    What is said of a configuration is left out: it may name what stood there; `locum check` says what is wrong now.
    """
    for entry in entries:
        line = entry.message
        if entry.program == "systemd" or (entry.program == "locum-inline" and not _CONFIG.match(line)):
            yield f"{entry.at} {entry.program}: {line}"
        elif _REFUSED.match(line):
            yield f"{entry.at} {line}"
        elif _STACK.match(line):
            yield line
        elif _LINE.match(line):
            yield _BY_HAND.sub("", line) if " who=" in line else line
        elif _JSON_LINE.match(line):
            yield _without_hand(line)


def _without_hand(line: str) -> str:
    try:
        fields = json.loads(line[line.index("{") :])
    except ValueError:
        return REMOVED
    if "who" in fields:
        fields = {key: value for key, value in fields.items() if key not in ("who", "reason")}
    return json.dumps(fields, ensure_ascii=False)


def _shown(value: Any, known: frozenset[str], removed: set[str]) -> Any:
    if isinstance(value, dict):
        shown: dict[str, Any] = {}
        for key, inner in value.items():
            if key not in known:
                shown[key] = REMOVED
            elif key in SECRET_KEYS | PERSONAL_KEYS:
                shown[key] = REMOVED
                removed.update(_texts(inner))
            else:
                shown[key] = _shown(inner, known, removed)
        return shown
    if isinstance(value, list):
        return [_shown(each, known, removed) for each in value]
    if isinstance(value, str) and (login := _login_in(value)):
        removed.add(login)
        return value.replace(login, REMOVED)
    return value


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, numbers as they would be written."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    else:
        yield str(value)


def _login_in(text: str) -> str:
    """What stands before the @ of a URL, "" if nothing does."""
    try:
        place = urlsplit(text).netloc
    except ValueError:
        return ""
    return place.rpartition("@")[0]


def _secret_files(value: Any) -> Iterator[str]:
    """Every path under a key like `secret_file`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key.removesuffix("_file") in SECRET_KEYS and key.endswith("_file") and isinstance(inner, str):
                yield inner
            else:
                yield from _secret_files(inner)
    elif isinstance(value, list):
        for each in value:
            yield from _secret_files(each)


def _content(folder: Path, named: str) -> set[str]:
    """What a secret file holds. Where there is no such file, somebody may have written the secret in its place."""
    try:
        with (folder / named).open("rb") as stream:
            text = stream.read(_LARGEST_SECRET).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {named}
    except OSError:
        return set()
    return {text.strip(), *(line.strip() for line in text.splitlines())}
