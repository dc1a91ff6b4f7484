"""The chapter on meters: what the copiers' own counters say, against what the ledger has between the same readings."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.report import charts, wording
from appliance.report.chapters import Chapter, Table
from appliance.report.charts import BLUE, ORANGE, Series
from appliance.report.wording import clean, count, number
from storage.summary.meters import Gap
from storage.summary.whole import Summary

MOST_DRAWN = 20
MOST_ROWS = 200
_TITLE = "Meters against the ledger"
_ALL = "total"


def meters(summary: Summary) -> Chapter:
    """Meters against the ledger, by copier."""
    found = summary.gaps
    if not found:
        words = "No readings of the copiers' own meters were entered that say something of this period (locum meters)."
        return Chapter("meters", _TITLE, (words,))
    counter = _ALL if any(each.counter == _ALL for each in found) else found[0].counter
    of_all = [each for each in found if each.counter == counter]
    drawn = of_all[:MOST_DRAWN]
    largest = f" The {MOST_DRAWN} with the largest gaps are drawn." if len(of_all) > MOST_DRAWN else ""
    series = [
        Series("the copier's meter", BLUE, tuple(each.meter for each in drawn)),
        Series("the ledger", ORANGE, tuple(each.ledger for each in drawn)),
    ]
    chart = charts.rows([clean(each.device) for each in drawn], series, "Meters against the ledger", stacked=False)
    return Chapter("meters", _TITLE, (_says(of_all, counter) + largest,), chart, (_table(summary, found),))


def _says(gaps: Sequence[Gap], counter: str) -> str:
    meter, ledger = sum(each.meter for each in gaps), sum(each.ledger for each in gaps)
    said = (
        f"Between their readings the meters ({counter}) of {count(len(gaps), 'copier')} counted "
        f"{count(meter, 'page')}, and the ledger has {number(ledger)} of the same times: "
    )
    if meter == ledger:
        return f"{said}they agree."
    what = "fewer than were made" if meter > ledger else "more than the meters saw"
    return f"{said}{number(abs(meter - ledger))} {what}, {wording.share(abs(meter - ledger), meter)}."


def _table(summary: Summary, gaps: Sequence[Gap]) -> Table:
    rows = tuple(
        (
            clean(each.device),
            each.counter,
            wording.moment(summary.scope, each.first),
            wording.moment(summary.scope, each.last),
            number(each.meter),
            number(each.ledger),
            f"{each.gap:+,}",
            wording.NOT_THERE if each.percent is None else f"{each.percent:+.1f} %",
            "; ".join(map(clean, each.remarks)),
        )
        for each in gaps[:MOST_ROWS]
    )
    heads = ("copier", "counter", "first reading", "last reading", "meter", "ledger", "gap", "of the meter", "remarks")
    more = f" The {MOST_ROWS} largest of {len(gaps):,} gaps." if len(gaps) > MOST_ROWS else ""
    says = f"A gap above zero: the copier made pages that the ledger does not have.{more}"
    return Table(heads, rows, frozenset({4, 5, 6, 7}), says)
