"""The page: one HTML file with its style and its drawings inside, that asks for nothing from anywhere.

It forbids itself to load or run anything (Content-Security-Policy), so that a name which looks like a script can do
nothing even if it were not escaped, which it is.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from appliance.report import away, chapters, deeds, gaps, opening, wording
from appliance.report.chapters import Chapter
from storage.checkpoints import Checkpoint
from storage.summary.whole import Summary
from storage.verify import Report

TITLE = "Report of the ledger"
GENERATOR = "Locum, locum ledger report"
"""By this in its head a page is known as a report of ours."""
_HEAD = 4_096


def page(summary: Summary, report: Report, checkpoint: Checkpoint | None, made_at: int, version: str) -> str:
    """The report as HTML. `made_at`: ms; `version`: Locum's."""
    html: str = _template().render(
        generator=GENERATOR,
        title=f"{TITLE}, {opening.period(summary)}",
        style=Markup(_read("report.css")),
        heading=TITLE,
        period=opening.period(summary),
        sentences=opening.sentences(summary, report),
        warning=report.wrong is not None,
        chapters=all_chapters(summary, report, checkpoint),
        made=f"Made on {wording.moment(summary.scope, made_at)} ({summary.scope.zone}) by Locum {version}.",
    )
    return html


def is_one(file: Path) -> bool:
    """Whether a file is such a page. Raises OSError."""
    with file.open("rb") as stream:
        return f'<meta name="generator" content="{GENERATOR}">'.encode() in stream.read(_HEAD)


def all_chapters(summary: Summary, report: Report, checkpoint: Checkpoint | None) -> list[Chapter]:
    """In the order in which they stand."""
    return [
        chapters.pages(summary),
        away.outages(summary),
        chapters.devices(summary),
        chapters.users(summary),
        chapters.unknown_cards(summary),
        away.records(summary),
        gaps.meters(summary),
        deeds.unlocks(summary),
        deeds.by_hand(summary),
        deeds.proof(summary, report, checkpoint),
        deeds.limits(summary),
    ]


@cache
def _template() -> Any:
    world = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return world.from_string(_read("report.html.j2"))


def _read(name: str) -> str:
    return (files("appliance.report") / "templates" / name).read_text("utf-8")
