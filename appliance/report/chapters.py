"""What a chapter of the report is made of, and the chapters on pages: by day, by copier, by person, unknown cards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from markupsafe import Markup

from appliance.report import charts, wording
from appliance.report.charts import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, Series
from appliance.report.wording import count, number, percent
from storage.summary import volume
from storage.summary.whole import Summary

MOST_CARDS = 20
_DAYS_ONE_BY_ONE, _DAYS_BY_WEEK = 92, 731
_KINDS = (("copy", "copies", BLUE), ("print", "prints", ORANGE), ("fax", "faxes", GREEN), ("scan", "scans", SKY))
_NAMED = {kind for kind, _, _ in _KINDS}
_WHO_LET_IN = (
    ("server", "let in by the server", BLUE, ("online",)),
    ("locum", "let in by Locum", ORANGE, ("offline",)),
    ("drill", "in a drill", PURPLE, ("drill",)),
    ("unknown", "not known", GREY, ("unknown", "recovered", "")),
)


@dataclass(frozen=True, slots=True)
class Table:
    """`numbers`: the columns, from 0, that are set to the right. `says`: what it has, above it."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    says: str = ""


@dataclass(frozen=True, slots=True)
class Chapter:
    """`says`: sentences that stand before the chart; `code`: lines that must be copied letter by letter."""

    anchor: str
    title: str
    says: tuple[str, ...]
    chart: Markup | None = None
    tables: tuple[Table, ...] = ()
    code: tuple[str, ...] = ()


def pages(summary: Summary) -> Chapter:
    """Pages by day and kind."""
    made = summary.pages
    if not made.jobs:
        return Chapter("pages", "Pages", ("No jobs were recorded in this period.",))
    by_day = {day: sum(kinds.values()) for day, kinds in made.by_day.items()}
    busiest = max(by_day, key=lambda day: (by_day[day], -day.toordinal()))
    kinds = _kinds_of([made.by_kind])
    unit, labels, columns = _columns(summary, [series for series, _, _ in kinds])
    quiet = _quiet(summary)
    says = [
        f"Pages per {unit} and kind. The busiest day was {wording.day(busiest)}, with {count(by_day[busiest], 'page')}"
        + (f"; nothing was made on {count(quiet, 'day')}." if quiet else ".")
        + ("" if unit == "day" else f" The first and the last {unit} may lie in the period only in part.")
    ]
    series = [Series(name, color, tuple(column.get(kind, 0) for column in columns)) for kind, name, color in kinds]
    chart = charts.columns(labels, series, f"Pages per {unit} and kind")
    if made.superseded:
        rows = count(made.superseded, "further row")
        says.append(f"{rows} of the ledger repeat what a later one says of the same job, and are not counted.")
    sums = [(name, _of(made.by_kind, kind)) for kind, name, _ in kinds]
    cells = tuple((name, number(many), percent(many, made.pages)) for name, many in sums)
    table = Table(("kind", "pages", "share"), cells, frozenset({1, 2}))
    return Chapter("pages", "Pages", tuple(says), chart, (table,))


def devices(summary: Summary) -> Chapter:
    """Copiers by volume."""
    found = summary.devices
    if not found.rows:
        return Chapter("copiers", "Copiers", ("No copier reported a job in this period.",))
    top = found.rows[0]
    says = (
        f"{count(found.many, 'copier')} reported jobs. The one with the most pages is {wording.called(top)}: "
        f"{count(top.pages, 'page')}, {wording.share(top.pages, found.pages)} of all."
        + _only_the_largest(found, "copiers"),
    )
    kinds = _kinds_of([row.parts for row in found.rows])
    shown = _drawn(found)
    series = [Series(name, color, tuple(_of(row.parts, kind) for row in shown)) for kind, name, color in kinds]
    chart = charts.rows([wording.called(row) for row in shown], series, "Pages by copier and kind")
    return Chapter("copiers", "Copiers", says, chart, (_volumes(found, "copier"),))


def users(summary: Summary) -> Chapter:
    """People by volume."""
    found = summary.users
    if not found.rows:
        return Chapter("people", "People", ("Nobody made a page in this period.",))
    largest = next((row for row in found.rows if row.naming in (volume.Naming.USER, volume.Naming.CARD)), None)
    first = "No job has a name or a card."
    if largest is not None:
        first = (
            f"The most pages were made by {wording.called(largest)}: {count(largest.pages, 'page')}, "
            f"{wording.share(largest.pages, found.pages)} of all."
        )
    says = (
        first + _only_the_largest(found, "people"),
        "A person has the name under which the server took the records; else the one that the copier sent, or that the "
        "server gave for the card at a login; else the card's number."
        + (" Here they are pseudonyms, which mean nothing outside of this report." if summary.pseudonyms else ""),
    )
    shown = _drawn(found)
    series = [
        Series(name, color, tuple(sum(row.parts.get(mode, 0) for mode in modes) for row in shown))
        for _, name, color, modes in _WHO_LET_IN
    ]
    kept = [each for each in series if any(each.numbers)]
    chart = charts.rows([wording.called(row) for row in shown], kept, "Pages by person, and who let them in")
    return Chapter("people", "People", says, chart, (_volumes(found, "person"),))


def unknown_cards(summary: Summary) -> Chapter:
    """Cards that nobody has."""
    cards = summary.unknown_cards
    title = "Unknown cards"
    if not cards:
        return Chapter("unknown-cards", title, ("The server took no record for a card that nobody has.",))
    jobs, made = sum(each.jobs for each in cards), sum(each.pages for each in cards)
    shown = cards[:MOST_CARDS]
    them = "it" if len(cards) == 1 else "them"
    rest = f" The {MOST_CARDS} with the most pages are shown." if len(cards) > MOST_CARDS else ""
    says = (
        f"The server says that nobody has {count(len(cards), 'card')} of those that were used; "
        f"{count(made, 'page')} in {count(jobs, 'job')} were made with {them}.{rest} Ask at the copiers where they "
        "were used.",
    )
    labels = [wording.clean(each.card) or "no card" for each in shown]
    series = [Series("pages", RED, tuple(each.pages for each in shown))]
    table = Table(
        ("card", "jobs", "pages", "copiers", "first record", "last record"),
        tuple(
            (
                label,
                number(each.jobs),
                number(each.pages),
                number(each.devices),
                wording.moment(summary.scope, each.first),
                wording.moment(summary.scope, each.last),
            )
            for label, each in zip(labels, shown, strict=True)
        ),
        frozenset({1, 2, 3}),
    )
    return Chapter("unknown-cards", title, says, charts.rows(labels, series, "Pages by unknown card"), (table,))


def _quiet(summary: Summary) -> int:
    return sum(not sum(summary.pages.by_day.get(day, {}).values()) for day in summary.scope.days())


def _columns(summary: Summary, kinds: Sequence[str]) -> tuple[str, list[str], list[dict[str, int]]]:
    """The unit of time, and for each of them its label and its pages by kind."""
    days = summary.scope.days()
    long = days[0].year != days[-1].year
    if len(days) <= _DAYS_ONE_BY_ONE:
        unit, start = "day", {day: day for day in days}
    elif len(days) <= _DAYS_BY_WEEK:
        unit, start = "week", {day: day - timedelta(days=day.weekday()) for day in days}
    else:
        unit, start = "month", {day: day.replace(day=1) for day in days}
    sums: dict[date, dict[str, int]] = {each: defaultdict(int) for each in start.values()}
    for day, made in summary.pages.by_day.items():
        for kind in kinds:
            sums[start[day]][kind] += _of(made, kind)
    labels = [f"{day:%b %Y}" if unit == "month" else wording.axis_day(day, long and unit == "week") for day in sums]
    return unit, labels, list(sums.values())


def _kinds_of(parts: Sequence[dict[str, int]]) -> list[tuple[str, str, str]]:
    """The kinds that occur: kind, what its pages are called, colour. "" and "*" stand for none and any other."""
    there = {kind for part in parts for kind, made in part.items() if made}
    found = [each for each in _KINDS if each[0] in there]
    if there - _NAMED - {""}:
        found.append(("*", "other kinds", PURPLE))
    if "" in there:
        found.append(("", "kind not said", GREY))
    return found


def _of(parts: dict[str, int], kind: str) -> int:
    if kind == "*":
        return sum(made for each, made in parts.items() if each and each not in _NAMED)
    return parts.get(kind, 0)


def _drawn(found: volume.Volumes) -> list[volume.Volume]:
    """The others together would make all bars beside theirs too short to compare."""
    return [row for row in found.rows if row.naming is not volume.Naming.OTHERS]


def _only_the_largest(found: volume.Volumes, what: str) -> str:
    if found.many <= volume.MOST:
        return ""
    return f" The {volume.MOST} largest of {found.many:,} {what} are drawn; the table has the others together."


def _volumes(found: volume.Volumes, head: str) -> Table:
    rows = tuple(
        (
            wording.called(row),
            number(row.jobs),
            number(row.pages),
            number(row.color_pages),
            percent(row.pages, found.pages),
        )
        for row in found.rows
    )
    return Table((head, "jobs", "pages", "in colour", "share"), rows, frozenset({1, 2, 3, 4}))
