"""The job details of PaperCut's `api.processJob`: one line of fields, read strictly.

`details = field *("," field)`, `field = pair / DQUOTE pair DQUOTE`, `pair = name "=" value`; a double quote in a value
is doubled, in pairs without quotes too. The server proper may be more lenient in places; the double is strict, so that
what it takes is right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

REQUIRED = ("user", "server", "printer")
TEXTS = frozenset(
    {
        *REQUIRED,
        *("time", "cost", "document-name", "paper-size-name", "invoice", "comment", "client-machine", "client-ip"),
        *("shared-account", "job-type"),
    }
)
COUNTS = frozenset({"total-pages", "total-color-pages", "copies"})
MEASURES = frozenset({"paper-width-mm", "paper-height-mm", "document-size-kb"})
BOOLEANS = frozenset({"duplex", "grayscale"})
KINDS = {"PRINT": "print", "COPY": "copy", "SCAN": "scan", "FAX": "fax"}

_QUOTED = re.compile(r'"((?:[^"]|"")*)"(?=,|\Z)')
_BARE = re.compile(r'((?:[^",]|"")*)(?=,|\Z)')
_NAME = re.compile(r"[a-z]+(?:-[a-z]+)*")
_MONEY = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,4})?")


class WrongDetails(Exception):
    """The details cannot be taken. The text says what is wrong with them."""


@dataclass(frozen=True, slots=True)
class JobDetails:
    """One job as `processJob` told it; `kind` is copy, print, scan, fax or "", `cost` None if it was not told."""

    user: str
    server: str
    printer: str
    time: str
    pages: int
    color_pages: int
    copies: int
    kind: str
    document: str
    cost: Decimal | None
    comment: str


def split(details: str) -> list[str]:
    """The pairs of the details without their quotes. Raises WrongDetails."""
    pairs: list[str] = []
    at = 0
    while True:
        match = (_QUOTED if details.startswith('"', at) else _BARE).match(details, at)
        if match is None:
            raise WrongDetails(f"a double quote stands alone near character {at + 1}")
        pairs.append(match[1].replace('""', '"'))
        at = match.end() + 1
        if at > len(details):
            return pairs


def read(details: str) -> JobDetails:
    """Read the details. Raises WrongDetails."""
    told: dict[str, str] = {}
    for pair in split(details):
        name, equals, value = pair.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise WrongDetails(f"'{pair[:60]}' is no pair of name=value")
        if name in told:
            raise WrongDetails(f"field {name} stands there twice")
        told[name] = _checked(name, value)
    missing = [name for name in REQUIRED if not told.get(name)]
    if missing:
        raise WrongDetails(f"required field {missing[0]} is missing")
    return JobDetails(
        user=told["user"],
        server=told["server"],
        printer=told["printer"],
        time=told.get("time", ""),
        # A job that does not say how long it is has one page.
        pages=int(told.get("total-pages", "1")),
        color_pages=int(told.get("total-color-pages", "0")),
        copies=int(told.get("copies", "1")),
        kind=KINDS.get(told.get("job-type", ""), ""),
        document=told.get("document-name", ""),
        cost=Decimal(told["cost"]) if "cost" in told else None,
        comment=told.get("comment", ""),
    )


def _checked(name: str, value: str) -> str:
    if name in COUNTS or name in MEASURES:
        right = re.fullmatch("[0-9]{1,10}" if name in COUNTS else r"[0-9]{1,10}(\.[0-9]+)?", value) is not None
    elif name in BOOLEANS:
        right = value in ("TRUE", "FALSE")
    elif name == "time":
        right = _is_time(value)
    elif name == "cost":
        right = _MONEY.fullmatch(value) is not None
    elif name == "job-type":
        right = value in KINDS
    elif name in TEXTS:
        right = True
    else:
        raise WrongDetails(f"there is no field {name}")
    if not right:
        raise WrongDetails(f"field {name} cannot be '{value[:60]}'")
    return value


def _is_time(value: str) -> bool:
    if not re.fullmatch(r"[0-9]{8}T[0-9]{6}", value):
        return False
    try:
        datetime.strptime(value, "%Y%m%dT%H%M%S")
    except ValueError:
        return False
    return True
