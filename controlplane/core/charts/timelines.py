"""Figures of periods: lines, stacked bars, and a line of the size of a word."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from controlplane.core.charts.drawing import (
    HEIGHT,
    LEFT,
    TOP,
    Point,
    axis_ticks,
    colour_of,
    coordinates,
    decimals,
    figures_table,
    height_of,
    hit,
    joined,
    polyline,
    rules,
    tick_texts,
)  # fmt: skip
from controlplane.core.figures import Number, plain

_MAX_LABELS = 6
_MAX_DOTS = 31
_LAST_NAME = 92.4  # per cent of a phone's plot (250 px) that leave half a name (19 px) beside it


@dataclass(frozen=True, slots=True)
class Series:
    """One line or one layer of bars. values: one per period, in the chart's unit; None where nothing is known."""

    name: str
    values: Sequence[Number | None]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Figures of one unit over time.

    periods: their names, oldest first. unit: of every value ("requests"). urls: per period the list that holds it.
    unfinished: the last period is not over, so it is drawn hollow and named "so far". form: value → text.
    """

    title: str
    periods: Sequence[str]
    series: Sequence[Series]
    unit: str = ""
    urls: Sequence[str] = ()
    unfinished: bool = False
    form: Callable[[Number], str] = plain

    @property
    def names(self) -> list[str]:
        last = len(self.periods) - 1
        return [f"{name} so far" if self.unfinished and i == last else name for i, name in enumerate(self.periods)]

    def texts(self, index: int) -> list[str]:
        """The figures of one period, in the order of the series."""
        values = [one.values[index] for one in self.series]
        return ["no figure" if value is None else self.form(value) for value in values]


def line_chart(timeline: Timeline) -> SafeString:
    """Lines over time; a single series is filled down to its axis. A gap stays a gap."""
    ticks = axis_ticks([value for one in timeline.series for value in one.values if value is not None])
    alone = len(timeline.series) == 1
    marks = [
        _line(one.values, ticks[-1], colour_of(number), unfinished=timeline.unfinished, filled=alone)
        for number, one in enumerate(timeline.series)
    ]
    return _figure(timeline, ticks, marks)


def stacked_bars(timeline: Timeline) -> SafeString:
    """Parts of a whole over time, the first series at the bottom; values are not negative."""
    count = len(timeline.periods)
    columns = [[one.values[index] or 0 for one in timeline.series] for index in range(count)]
    ticks = axis_ticks([sum(map(float, column)) for column in columns])
    marks = [
        _stack(column, ticks[-1], index, count, hollow=timeline.unfinished and index == count - 1)
        for index, column in enumerate(columns)
    ]
    return _figure(timeline, ticks, marks)


def spark_line(values: Sequence[Number | None], *, title: str, unfinished: bool = False) -> SafeString:
    """A line of the size of a word, from zero to its own highest value; title: the sentence that replaces it."""
    count = len(values)
    top = max((float(value) for value in values if value is not None), default=0.0) or 1.0
    known = [((i + 0.5) * 100 / count, 26 - 24 * float(v) / top) for i, v in enumerate(values) if v is not None]
    closed = known[:-1] if unfinished else known
    parts = [_area(closed, 1, 28), polyline(closed, 1)] if len(closed) > 1 else []
    if unfinished and len(known) > 1:
        parts.append(polyline(known[-2:], 1, "cp-open"))
    return format_html(
        '<svg class="cp-spark" role="img" aria-label="{}" viewBox="0 0 100 28" preserveAspectRatio="none">{}</svg>',
        title,
        joined(parts),
    )


def _inset(count: int) -> float:
    """Room beside the first and the last period, in per cent, so that a name below them stays in the picture."""
    share = 1 - 0.5 / count
    return max((100 * share - _LAST_NAME) / (2 * share - 1), 0.0) if count > 1 else 0.0


def _slot_width(count: int) -> float:
    return (100 - 2 * _inset(count)) / count


def _middle(index: int, count: int) -> float:
    """Where a period stands: the middle of its slot, in per cent of the plot's width."""
    return _inset(count) + (index + 0.5) * _slot_width(count)


def _area(points: Sequence[Point], colour: int, floor: float) -> SafeString:
    around = coordinates([(points[0][0], floor), *points, (points[-1][0], floor)])
    return format_html('<polygon class="cp-area cp-s{}" points="{}"/>', colour, around)


def _line(values: Sequence[Number | None], top: float, colour: int, *, unfinished: bool, filled: bool) -> SafeString:
    """One series: its runs of known values, the way to an unfinished period dashed, and its points.

    The line lies in a picture of its own, 100 wide, that is stretched to the plot; its stroke and the points are not.
    """
    count = len(values)
    points = [None if value is None else (_middle(i, count), height_of(value, top)) for i, value in enumerate(values)]
    closed = points[:-1] if unfinished else points
    runs = [[p for p in run if p is not None] for known, run in groupby(closed, lambda p: p is not None) if known]
    parts = [_area(run, colour, HEIGHT) for run in runs if filled and len(run) > 1]
    parts += [polyline(run, colour) for run in runs if len(run) > 1]
    way = [point for point in points[-2:] if point is not None]
    if unfinished and len(way) == 2:
        parts.append(polyline(way, colour, "cp-open"))
    drawn = format_html(
        '<svg width="100%" height="{}" viewBox="0 0 100 {}" preserveAspectRatio="none">{}</svg>',
        HEIGHT,
        HEIGHT,
        joined(parts),
    )
    return drawn + _dots(points, colour, unfinished)


def _dots(points: Sequence[Point | None], colour: int, unfinished: bool) -> SafeString:
    last = len(points) - 1
    dots = [
        (decimals(point[0]), decimals(point[1]), colour, "cp-hollow" if unfinished and index == last else "")
        for index, point in enumerate(points)
        if point is not None and (len(points) <= _MAX_DOTS or index == last)
    ]
    return format_html_join("", '<circle cx="{}%" cy="{}" r="2.5" class="cp-dot cp-s{} {}"/>', dots)


def _stack(column: Sequence[Number], top: float, index: int, count: int, *, hollow: bool) -> SafeString:
    """One period's bar. A part that is not zero is at least a pixel and a half high, so that it can be seen."""
    width = min(0.72 * _slot_width(count), 8.0)
    left = _middle(index, count) - width / 2
    floor = float(HEIGHT)
    parts = []
    for number, value in enumerate(column):
        height = max(float(value) / top * HEIGHT, 1.5) if value else 0.0
        floor -= height
        if value:
            parts.append(
                (colour_of(number), "cp-bar-open" if hollow else "", *map(decimals, (left, floor, width, height)))
            )
    return format_html_join("", '<rect class="cp-s{} {}" x="{}%" y="{}" width="{}%" height="{}"/>', parts)


def _figure(timeline: Timeline, ticks: Sequence[float], marks: Iterable[SafeString]) -> SafeString:
    """The picture: the axis' figures, and beside them one named image with the places that answer over it."""
    count = len(timeline.periods)
    urls = timeline.urls or [""] * count
    height = TOP + HEIGHT + (36 if timeline.unfinished else 22)
    return format_html(
        '<figure class="cp-chart">{}<div class="cp-axes"><svg aria-hidden="true" width="{}" height="{}">{}</svg>'
        '<svg width="100%" height="{}"><svg role="img" aria-label="{}"><g transform="translate(0 {})">{}{}{}</g></svg>'
        '<g aria-hidden="true" transform="translate(0 {})">{}</g></svg></div>{}</figure>',
        _legend(timeline),
        LEFT,
        height,
        tick_texts(timeline.form, ticks),
        height,
        _sentence(timeline),
        TOP,
        rules(ticks),
        joined(marks),
        _period_texts(timeline),
        TOP,
        joined(_slot(timeline, index, urls[index]) for index in range(count)),
        figures_table(
            ["", *(one.name for one in timeline.series)],
            [(name, urls[index], timeline.texts(index)) for index, name in enumerate(timeline.names)],
        ),
    )


def _slot(timeline: Timeline, index: int, url: str) -> SafeString:
    """One period's column."""
    count = len(timeline.periods)
    figures = zip(timeline.series, timeline.texts(index), strict=True)
    lines = [f"{one.name}: {text} {timeline.unit}".rstrip() for one, text in figures]
    width = _slot_width(count)
    box = (decimals(_middle(index, count) - width / 2), 0, decimals(width), HEIGHT)
    return hit(box, "\n".join([timeline.names[index], *lines]), url)


def _period_texts(timeline: Timeline) -> SafeString:
    """At most six names, evenly from the newest back, so that the last one is there."""
    count = len(timeline.periods)
    step = max(math.ceil(count / _MAX_LABELS), 1)
    shown = [index for index in range(count) if (count - 1 - index) % step == 0]
    rows = [(decimals(_middle(index, count)), HEIGHT + 17, timeline.periods[index]) for index in shown]
    if timeline.unfinished and count:
        rows.append((decimals(_middle(count - 1, count)), HEIGHT + 31, "so far"))
    return format_html_join("", '<text x="{}%" y="{}" text-anchor="middle">{}</text>', rows)


def _legend(timeline: Timeline) -> SafeString:
    rows = [(colour_of(number), one.name) for number, one in enumerate(timeline.series)]
    entries = format_html_join("", '<li><i class="cp-s{}"></i>{}</li>', rows)
    return format_html('<ul class="cp-legend">{}</ul>', entries) if len(rows) > 1 else joined([])


def _sentence(timeline: Timeline) -> str:
    """What a person who does not see the chart is told: the span, and per series the highest value and when."""
    names = timeline.names
    if not names:
        return f"{timeline.title}: nothing in this time."
    said = [f"{timeline.title}, {names[0]} to {names[-1]}" + (f", in {timeline.unit}." if timeline.unit else ".")]
    for one in timeline.series:
        known = [(value, name) for value, name in zip(one.values, names, strict=True) if value is not None]
        if known:
            value, name = max(known, key=lambda pair: pair[0])
            said.append(f"{one.name}: highest {timeline.form(value)} on {name}.")
    return " ".join(said)
