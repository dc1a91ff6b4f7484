"""The details of a job, as `api.processJob` takes them: one text of name=value pairs.

    details = field *("," field)      field = pair / DQUOTE pair DQUOTE      pair = name "=" value

A pair with a comma is quoted whole, and a double quote in a value is doubled, in pairs that are not quoted too. What is
not known is not written. Left out: cost, size, invoice and client machine, which a copier does not tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from protocols.papercut.times import local_text

LONGEST_NAME = 255
JOB_TYPES: Final = {"print": "PRINT", "copy": "COPY", "scan": "SCAN", "fax": "FAX"}

PAPER: Final[dict[str, tuple[int, int]]] = {
    "a0": (841, 1189), "a1": (594, 841), "a2": (420, 594), "a3": (297, 420), "a4": (210, 297), "a5": (148, 210),
    "a6": (105, 148), "a7": (74, 105), "a8": (52, 74), "a9": (37, 52), "a10": (26, 37),
    "b0": (1000, 1414), "b1": (707, 1000), "b2": (500, 707), "b3": (353, 500), "b4": (250, 353), "b5": (176, 250),
    "b6": (125, 176), "b7": (88, 125), "b8": (62, 88), "b9": (44, 62), "b10": (31, 44),
    "c4": (229, 324), "c5": (162, 229), "c6": (114, 162), "dl": (110, 220),
    "letter": (216, 279), "legal": (216, 356), "ledger": (279, 432), "tabloid": (279, 432), "executive": (184, 267),
    "statement": (140, 216), "folio": (216, 330), "ansi a": (216, 279), "ansi b": (279, 432), "ansi c": (432, 559),
    "ansi d": (559, 864), "ansi e": (864, 1118),
}  # fmt: skip
"""Width and height in whole millimetres: ISO 216 and 269, ANSI/ASME Y14.1, and the North American office sizes."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is told of a job. `time` in ms UTC, `pages` with copies included; None or "": not known.

    `kind` as the ledger names it: print, copy, scan, fax. `record` is the record's id in the ledger.
    """

    user: str
    printer: str
    time: int
    record: str
    kind: str
    pages: int
    color_pages: int | None = None
    copies: int | None = None
    duplex: bool | None = None
    paper: str = ""
    document: str = ""
    account: str = ""
    server: str = "device"


def job_details(job: Job, zone: tzinfo) -> str:
    """The argument of `api.processJob`. `zone`: the server's time zone. Raises OverflowError for an impossible time."""
    size = PAPER.get(_plain(job.paper))
    color = job.color_pages
    return joined(
        (
            ("user", job.user),
            ("server", job.server),
            ("printer", job.printer),
            ("time", local_text(job.time, zone)),
            ("total-pages", str(job.pages)),
            ("total-color-pages", "" if color is None else str(color)),
            ("copies", str(job.copies) if job.copies else ""),
            ("document-name", job.document[:LONGEST_NAME]),
            ("duplex", _yes_or_no(job.duplex)),
            ("grayscale", _yes_or_no(None if color is None else color == 0)),
            ("job-type", JOB_TYPES.get(job.kind, "")),
            ("paper-size-name", job.paper[:LONGEST_NAME]),
            ("paper-width-mm", str(size[0]) if size else ""),
            ("paper-height-mm", str(size[1]) if size else ""),
            ("shared-account", job.account[:LONGEST_NAME]),
            ("comment", f"locum:{job.record}"),
        )
    )


def joined(pairs: Iterable[tuple[str, str]]) -> str:
    """Pairs as one text by the grammar above; a pair with an empty value is left out. Control characters become
    spaces.
    """
    return ",".join(_field(name, value) for name, value in pairs if value)


def _field(name: str, value: str) -> str:
    if not value.isprintable():
        value = "".join(character if character.isprintable() else " " for character in value)
    doubled = value.replace('"', '""')
    pair = f"{name}={doubled}"
    return f'"{pair}"' if "," in pair else pair


def _plain(paper: str) -> str:
    name = " ".join(paper.replace("_", " ").replace("-", " ").lower().split())
    return name.removeprefix("iso ").removeprefix("na ").removeprefix("us ")


def _yes_or_no(value: bool | None) -> str:
    return "" if value is None else ("TRUE" if value else "FALSE")
