"""The chapters on outages: when each server was away, what Locum did meanwhile, and what became of the records."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from markupsafe import Markup

from appliance.report import charts, wording
from appliance.report.chapters import Chapter, Table
from appliance.report.charts import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, Series, Spans
from appliance.report.wording import count, number, percent
from storage.summary.outages import Outage
from storage.summary.whole import Summary

MOST_ROWS = 60
MOST_REASONS = 12
_MARKS = 8
_LONGEST_REASON = 50
_STATES = {"waiting": "waits", "in_doubt": "in doubt", "rejected": "refused"}


def outages(summary: Summary) -> Chapter:
    """Outages on a time line."""
    found = summary.outages
    if not found:
        return Chapter("outages", "Outages", ("The ledger has no outage in this period.",))
    longest = max(found, key=lambda each: each.lasted)
    began = wording.spoken(summary.scope, longest.started)
    says = (
        "Each row is a server, each bar a time in which it was away: until Locum went offline, then in offline mode, "
        "then while Locum forwarded what had been kept. Bars that would be too thin to see are drawn wider.",
        f"The longest began on {began} and kept {wording.clean(longest.upstream)} away for "
        f"{wording.span(longest.lasted)}{'' if longest.recovered else ', and is not over'}.",
    )
    names = sorted({each.upstream for each in found})
    scope = summary.scope
    first, last = scope.first / 1000, min(scope.last, max(summary.until, scope.first + 60_000)) / 1000
    spans = _spans(found, names, first, last)
    chart = charts.time_line(names, _marks(summary, first, last), first, last, spans, "Outages on a time line")
    return Chapter("outages", "Outages", says, chart, (_table(summary, found),))


def records(summary: Summary) -> Chapter:
    """What became of the records, and what is still open."""
    fates = summary.fates
    if not fates.records and not summary.open:
        return Chapter(
            "records", "Records for the server", ("The ledger has no records of this period that had to be forwarded.",)
        )
    parts = (
        ("taken by the server", BLUE, fates.delivered),
        ("waiting", ORANGE, fates.waiting),
        ("in doubt", PURPLE, fates.in_doubt),
        ("refused by the server", RED, fates.rejected),
        ("given up by hand", SKY, fates.given_up),
        ("nothing to forward", GREY, fates.other),
    )
    says = [
        f"Of {count(fates.records, 'record')} of this period the server has taken {number(fates.delivered)}. "
        f"{count(fates.waiting, 'waits', 'wait')}, {number(fates.in_doubt)} {_are(fates.in_doubt)} in doubt, "
        f"{number(fates.rejected)} {_were(fates.rejected)} refused, {number(fates.given_up)} {_were(fates.given_up)} "
        "given up."
    ]
    if fates.maybe_twice:
        says.append(
            f"{count(fates.maybe_twice, 'record')} may stand twice in the server's book, because its answer was lost; "
            "both copies carry the same id (view maybe_forwarded_twice)."
        )
    table = Table(
        ("what became of them", "records", "share"),
        tuple((name, number(many), percent(many, fates.records)) for name, _, many in parts if many),
        frozenset({1, 2}),
    )
    tables = [table]
    chart = None
    if summary.open:
        says.append(
            "The chart shows what the server had not taken when this report was made, of this period and before it, "
            "and the last reason that was given."
        )
        chart = _open_chart(summary)
        tables.append(_open_table(summary))
    return Chapter("records", "Records for the server", tuple(says), chart, tuple(tables))


def _spans(found: tuple[Outage, ...], names: list[str], first: float, last: float) -> Iterator[Spans]:
    lost, offline, draining = (
        Spans("server away, not yet offline", SKY),
        Spans("offline mode", RED),
        Spans("forwarding what was kept", GREEN),
    )
    for each in found:
        place = names.index(each.upstream)
        recovered = each.recovered / 1000 if each.recovered is not None else last
        turned = each.offline / 1000 if each.offline is not None else recovered
        steps = [(lost, each.started / 1000, turned), (offline, turned, recovered)]
        if each.recovered is not None:
            steps.append((draining, recovered, each.drained / 1000 if each.drained is not None else last))
        for spans, begin, end in steps:
            if end > begin and end >= first and begin <= last:
                spans.spans.append((place, max(begin, first), min(end, last)))
    yield from (lost, offline, draining)


def _marks(summary: Summary, first: float, last: float) -> dict[str, float]:
    """Midnights for the axis, or full hours where there is no more than a day or two."""
    zone = summary.scope.zone
    begin, end = datetime.fromtimestamp(first, zone), datetime.fromtimestamp(last, zone)
    hours = (last - first) / 3600
    if hours > 24 * 3:
        day = datetime(begin.year, begin.month, begin.day, tzinfo=zone)
        step = timedelta(days=max(1, -(-int(hours / 24) // _MARKS)))
        points = (day + step * place for place in range(_MARKS + 2))
        long = begin.year != end.year
        return {wording.axis_day(at, long): at.timestamp() for at in points if first <= at.timestamp() <= last}
    step_hours = max(1, round(hours / _MARKS))
    hour = begin.replace(minute=0, second=0, microsecond=0)
    points = (hour + timedelta(hours=step_hours) * place for place in range(_MARKS * 3))
    return {f"{at:%-d %b %H:%M}": at.timestamp() for at in points if first <= at.timestamp() <= last}


def _table(summary: Summary, found: tuple[Outage, ...]) -> Table:
    shown = found[-MOST_ROWS:]
    rows = tuple(
        (
            wording.clean(each.upstream),
            wording.moment(summary.scope, each.started),
            wording.moment(summary.scope, each.offline) if each.offline is not None else "never",
            wording.moment(summary.scope, each.recovered) if each.recovered is not None else "not yet",
            wording.moment(summary.scope, each.drained) if each.drained is not None else "not yet",
            wording.span(each.lasted),
            number(each.let_in),
            number(each.jobs),
            number(each.pages),
            wording.words_of(each.cause),
        )
        for each in shown
    )
    times = ("first failed contact", "offline", "back", "all forwarded", "away for")
    heads = ("server", *times, "let in", "jobs", "pages", "cause")
    more = f" The newest {MOST_ROWS} of {len(found)} are listed." if len(found) > MOST_ROWS else ""
    return Table(heads, rows, frozenset({6, 7, 8}), f"Lengths and counts are of the part within the period.{more}")


def _open_chart(summary: Summary) -> Markup | None:
    shown = summary.open[:MOST_REASONS]
    many = len({each.upstream for each in shown}) > 1
    labels = [f"{wording.clean(each.upstream)}: {_why(each.reason)}" if many else _why(each.reason) for each in shown]
    colors = (("waiting", "waiting", ORANGE), ("in_doubt", "in doubt", PURPLE), ("rejected", "refused", RED))
    series = [
        Series(name, color, tuple(each.records if each.state == state else 0 for each in shown))
        for state, name, color in colors
    ]
    kept = [each for each in series if any(each.numbers)]
    return charts.rows(labels, kept, "Records that the server has not taken, by reason", longest=_LONGEST_REASON)


def _open_table(summary: Summary) -> Table:
    rows = tuple(
        (
            _STATES.get(each.state, each.state),
            wording.clean(each.upstream),
            _why(each.reason),
            number(each.records),
            number(each.pages),
            wording.moment(summary.scope, each.oldest),
        )
        for each in summary.open[:MOST_ROWS]
    )
    more = f"The {MOST_ROWS} commonest of {len(summary.open)} reasons." if len(summary.open) > MOST_ROWS else ""
    return Table(("state", "server", "reason", "records", "pages", "oldest"), rows, frozenset({3, 4}), more)


def _why(reason: str) -> str:
    return wording.words_of(reason) or "not tried yet"


def _are(many: int) -> str:
    return "is" if many == 1 else "are"


def _were(many: int) -> str:
    return "was" if many == 1 else "were"
