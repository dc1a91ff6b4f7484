"""Charts as SVG that stands in a page by itself: nothing is loaded, nothing runs, and it prints.

Pygal draws. The colours are those of Okabe and Ito, which colour-blind people tell apart; ink and guides follow the
page, so that they are readable in the dark. What pygal adds for its script is taken out again; the values that it would
show are kept as titles, which browsers show by themselves. An empty chart is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from xml.etree.ElementTree import Element

from markupsafe import Markup
from pygal import XY, Config, HorizontalBar, HorizontalStackedBar, StackedBar
from pygal.style import Style

BLUE, ORANGE, GREEN, SKY, PURPLE, RED, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#56B4E9",
    "#CC79A7",
    "#D55E00",
    "#7A7A7A",
)
WIDTH = 900
LONGEST_LABEL = 30
_ROW, _FRAME, _LEGEND = 25, 70, 24
_LETTER = 7
_MOST_TICKS = 6
_THINNEST = 0.004
_BAR = 22


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of a chart, and its numbers by row or column."""

    name: str
    color: str
    numbers: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Spans:
    """One colour of a time line: from and to (seconds), by the place of the row."""

    name: str
    color: str
    spans: list[tuple[int, float, float]] = field(default_factory=list)


def columns(labels: Sequence[str], series: Sequence[Series], said: str) -> Markup | None:
    """Stacked columns in order of time. `said`: what the chart shows, for those who cannot see it."""
    if not _any(series):
        return None
    room = WIDTH // (_LETTER * (max(map(len, labels)) + 4))
    every = -(-len(labels) // max(1, room))
    chart = StackedBar(_config(series, 340, said), show_minor_x_labels=False, x_labels_major_every=every)
    chart.x_labels = list(labels)
    return _drawn(chart, series, _sums(series))


def rows(
    labels: Sequence[str], series: Sequence[Series], said: str, stacked: bool = True, longest: int = LONGEST_LABEL
) -> Markup | None:
    """Bars beside their names, the first on top; names are cut to `longest` characters."""
    if not _any(series):
        return None
    high = _FRAME + _LEGEND + len(labels) * (_ROW if stacked else _ROW * len(series) * 3 // 4)
    kind = HorizontalStackedBar if stacked else HorizontalBar
    chart = kind(_config(series, high, said), truncate_label=longest)
    chart.x_labels = [short(label, longest) for label in reversed(labels)]
    upwards = [Series(each.name, each.color, each.numbers[::-1]) for each in series]
    return _drawn(chart, upwards, _sums(series) if stacked else [n or 0 for each in series for n in each.numbers])


def time_line(
    names: Sequence[str], marks: Mapping[str, float], first: float, last: float, spans: Iterable[Spans], said: str
) -> Markup | None:
    """A row of bars for each name, over the time from `first` to `last` (seconds). `marks`: labels of the axis.

    Bars that would be too thin to be seen are drawn a little wider than they are.
    """
    kept = list(spans)
    if not any(each.spans for each in kept):
        return None
    thin = (last - first) * _THINNEST
    chart = XY(
        _config([Series(each.name, each.color, ()) for each in kept], _FRAME + _LEGEND + 46 * len(names), said),
        show_legend=True,
        xrange=(first, last),
        range=(-0.6, len(names) - 0.4),
        show_dots=False,
        allow_interruptions=True,
        show_y_guides=False,
        show_x_guides=True,
    )
    chart.x_labels = [{"label": label, "value": value} for label, value in marks.items()]
    chart.y_labels = [{"label": short(name), "value": place} for place, name in enumerate(reversed(names))]
    for each in kept:
        points: list[Any] = []
        for place, begin, end in each.spans:
            row = len(names) - 1 - place
            points += [(begin, row), (max(end, min(begin + thin, last)), row), None]
        chart.add(each.name, points)
    # Pygal's own style for lines goes first, so the width of these must stand in the drawing itself.
    chart.add_xml_filter(_thick)
    return _rendered(chart)


def short(label: str, longest: int = LONGEST_LABEL) -> str:
    """A name that fits beside a chart."""
    return label if len(label) <= longest else label[: longest - 1] + "…"


def _any(series: Sequence[Series]) -> bool:
    return any(number for each in series for number in each.numbers)


def _config(series: Sequence[Series], height: int, said: str) -> Config:
    colors = tuple(each.color for each in series)
    return Config(
        style=Style(
            background="transparent",
            plot_background="transparent",
            foreground="var(--ink)",
            foreground_strong="var(--ink)",
            foreground_subtle="var(--faint)",
            guide_stroke_color="var(--faint)",
            major_guide_stroke_color="var(--faint)",
            guide_stroke_dasharray="none",
            major_guide_stroke_dasharray="none",
            font_family="system-ui, sans-serif",
            label_font_size=12,
            major_label_font_size=12,
            legend_font_size=13,
            opacity="1",
            stroke_opacity="1",
            transition="0s",
            colors=colors,
            value_colors=("var(--ink)",) * len(colors),
        ),
        js=[],
        title=said,
        show_legend=len(series) > 1,
        legend_at_bottom=True,
        legend_at_bottom_columns=len(series),
        width=WIDTH,
        height=height,
        margin=8,
        spacing=8,
        truncate_label=LONGEST_LABEL,
        truncate_legend=-1,
        value_formatter=lambda value: f"{value:,.0f}",
        xml_filters=[],
    )


def _sums(series: Sequence[Series]) -> list[float]:
    return [sum(number or 0 for number in row) for row in zip(*(each.numbers for each in series), strict=True)]


def _ticks(numbers: Iterable[float]) -> list[int]:
    """Whole numbers for the axis, 0 among them, from the smallest of `numbers` to beyond the largest."""
    low, high = min(0.0, *numbers), max(1.0, *numbers)
    steps = (lead * 10**zeros for zeros in range(20) for lead in (1, 2, 5))
    step = next(each for each in steps if (high - low) / each <= _MOST_TICKS)
    return list(range(int(low // step) * step, int(-(-high // step)) * step + 1, step))


def _drawn(chart: Any, series: Sequence[Series], heights: Sequence[float]) -> Markup:
    chart.y_labels = _ticks(heights)
    for each in series:
        chart.add(each.name, list(each.numbers))
    return _rendered(chart)


def _rendered(chart: Any) -> Markup:
    # Known by its title and not by chance, so that the same ledger gives the same page.
    chart.uuid = sha256(chart.config.title.encode()).hexdigest()[:8]
    chart.add_xml_filter(_still)
    return Markup(chart.render(is_unicode=True, disable_xml_declaration=True))


def _thick(root: Element) -> Element:
    for path in root.iter():
        if str(path.tag).endswith("path") and "reactive" in (path.get("class") or "").split():
            path.set("style", f"stroke-width:{_BAR}px;stroke-linecap:butt")
    return root


def _still(root: Element) -> Element:
    """The drawing without what belongs to pygal's script; the drawn title goes, as the page has its own words."""
    root.set("role", "img")
    for parent in list(root.iter()):
        for child in list(parent):
            name = str(child.tag).rpartition("}")[2] if isinstance(child.tag, str) else ""
            classes = (child.get("class") or "").split()
            if name == "desc" and "value" in classes and child.text:
                title = parent.makeelement("title", {})
                title.text = child.text
                parent.append(title)
            if name in ("script", "desc", "") or "tooltip" in classes or "title" in classes:
                parent.remove(child)
    return root
