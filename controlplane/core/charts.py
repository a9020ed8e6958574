"""Charts as SVG text: pure functions from numbers to markup, no I/O, no script, no inline style.

Widths are shares of the page and heights are pixels, so letters keep their size on every screen. One chart has one
axis with one unit; bars and axes begin at zero. Classes are in cp_core/pages.css.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from controlplane.core.figures import Number, dollars, plain, short

Point = tuple[float, float]

__all__ = (
    "Bar",
    "Series",
    "Span",
    "StepTimeline",
    "Steps",
    "Timeline",
    "dollars",
    "horizontal_bars",
    "line_chart",
    "plain",
    "short",
    "spark_line",
    "stacked_bars",
    "step_chart",
)

_HEIGHT = 160  # of the plot, in pixels
_TOP = 10
_LEFT = 46  # room for the axis' figures
_ROW = 34  # of a horizontal bar
_COLOURS = 6
_MAX_LABELS = 6
_MAX_DOTS = 31
_LAST_NAME = 92.4  # per cent of a phone's plot (250 px) that leave half a name (19 px) beside it
_MAX_NAME = 34  # letters beside a figure on a narrow phone


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


@dataclass(frozen=True, slots=True)
class Bar:
    """One horizontal bar. text: the value as it is to be read; url: the list that adds up to it."""

    name: str
    value: Number
    text: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """A value that holds from start to end (excluded), both aware."""

    start: datetime
    end: datetime
    value: Number


@dataclass(frozen=True, slots=True)
class Steps:
    """One value over time, which holds until it is another. colour: number of the chart colour, from 0; several lines may
    share one. dashed: sets a line of the same colour apart."""

    name: str
    spans: Sequence[Span]
    colour: int
    dashed: bool = False

    def at(self, instant: datetime) -> Number | None:
        return next((span.value for span in self.spans if span.start <= instant < span.end), None)


@dataclass(frozen=True, slots=True)
class StepTimeline:
    """Values of one unit that change at instants, from start to end; now: where what is planned begins."""

    title: str
    unit: str
    start: datetime
    end: datetime
    now: datetime
    lines: Sequence[Steps]
    form: Callable[[Number], str] = plain

    def place(self, instant: datetime) -> float:
        """Where an instant stands, in per cent of the plot's width."""
        return max(0.0, min(100.0, (instant - self.start) / (self.end - self.start) * 100))

    @property
    def changes(self) -> list[tuple[datetime, datetime]]:
        """The times between which no value changes."""
        inside = {at for line in self.lines for span in line.spans for at in (span.start, span.end)}
        return list(pairwise(sorted({self.start, self.end} | {at for at in inside if self.start < at < self.end})))

    def texts(self, instant: datetime) -> list[str]:
        values = [line.at(instant) for line in self.lines]
        return ["–" if value is None else self.form(value) for value in values]


def line_chart(timeline: Timeline) -> SafeString:
    """Lines over time; a single series is filled down to its axis. A gap stays a gap."""
    ticks = _ticks([value for one in timeline.series for value in one.values if value is not None])
    alone = len(timeline.series) == 1
    marks = [
        _line(one.values, ticks[-1], _colour(number), unfinished=timeline.unfinished, filled=alone)
        for number, one in enumerate(timeline.series)
    ]
    return _figure(timeline, ticks, marks)


def stacked_bars(timeline: Timeline) -> SafeString:
    """Parts of a whole over time, the first series at the bottom; values are not negative."""
    count = len(timeline.periods)
    columns = [[one.values[index] or 0 for one in timeline.series] for index in range(count)]
    ticks = _ticks([sum(map(float, column)) for column in columns])
    marks = [
        _stack(column, ticks[-1], index, count, hollow=timeline.unfinished and index == count - 1)
        for index, column in enumerate(columns)
    ]
    return _figure(timeline, ticks, marks)


def step_chart(timeline: StepTimeline) -> SafeString:
    """Values that hold until they are others, over true time: steps, and never a slope between them."""
    ticks = _ticks([span.value for line in timeline.lines for span in line.spans])
    marks = _joined(_steps(timeline, line, ticks[-1]) for line in timeline.lines)
    spans = timeline.changes
    return format_html(
        '<figure class="cp-chart">{}<div class="cp-axes"><svg aria-hidden="true" width="{}" height="{}">{}</svg>'
        '<svg width="100%" height="{}"><svg role="img" aria-label="{}"><g transform="translate(0 {})">{}{}{}</g></svg>'
        '<g aria-hidden="true" transform="translate(0 {})">{}</g></svg></div>{}</figure>',
        _step_legend(timeline),
        _LEFT,
        _TOP + _HEIGHT + 22,
        _tick_texts(timeline.form, ticks),
        _TOP + _HEIGHT + 22,
        _step_sentence(timeline),
        _TOP,
        _rules(ticks),
        marks,
        _instants(timeline),
        _TOP,
        _joined(_step_slot(timeline, start, end) for start, end in spans),
        _table(
            ["", *(line.name for line in timeline.lines)],
            [(f"{start:%Y-%m-%d} to {end:%Y-%m-%d}", "", timeline.texts(start)) for start, end in reversed(spans)],
        ),
    )


def horizontal_bars(title: str, bars: Sequence[Bar], *, unit: str) -> SafeString:
    """A ranking, in the order given: name and figure above a bar from zero."""
    top = max((float(bar.value) for bar in bars), default=0.0) or 1.0
    first = f" First: {bars[0].name}, {bars[0].text}." if bars else ""
    return format_html(
        '<figure class="cp-chart"><svg width="100%" height="{}"><svg role="img" aria-label="{}">{}</svg>'
        '<g aria-hidden="true">{}</g></svg>{}</figure>',
        len(bars) * _ROW,
        f"{title}, {len(bars)} entries.{first}",
        _joined(_row(index * _ROW, bar, top) for index, bar in enumerate(bars)),
        _joined(
            _hit(("0", index * _ROW, "100", _ROW), f"{bar.name}: {bar.text}", bar.url) for index, bar in enumerate(bars)
        ),
        _table(["", unit], [(bar.name, bar.url, [bar.text]) for bar in bars]),
    )


def spark_line(values: Sequence[Number | None], *, title: str, unfinished: bool = False) -> SafeString:
    """A line of the size of a word, from zero to its own highest value; title: the sentence that replaces it."""
    count = len(values)
    top = max((float(value) for value in values if value is not None), default=0.0) or 1.0
    known = [((i + 0.5) * 100 / count, 26 - 24 * float(v) / top) for i, v in enumerate(values) if v is not None]
    closed = known[:-1] if unfinished else known
    parts = [_area(closed, 1, 28), _polyline(closed, 1)] if len(closed) > 1 else []
    if unfinished and len(known) > 1:
        parts.append(_polyline(known[-2:], 1, "cp-open"))
    return format_html(
        '<svg class="cp-spark" role="img" aria-label="{}" viewBox="0 0 100 28" preserveAspectRatio="none">{}</svg>',
        title,
        _joined(parts),
    )


def _ticks(values: Sequence[Number]) -> list[float]:
    """The axis' ticks, from zero to its end, in steps of 1, 2 or 5 times a power of ten; counts never get halves."""
    highest = max(map(float, values), default=0.0)
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if rough <= factor * power * 1.0000001)
    if all(float(value).is_integer() for value in values):
        step = max(step, 1.0)
    return [number * step for number in range(math.ceil(highest / step - 1e-9) + 1)]


def _joined(parts: Iterable[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _colour(index: int) -> int:
    return index % _COLOURS + 1


def _inset(count: int) -> float:
    """Room beside the first and the last period, in per cent, so that a name below them stays in the picture."""
    share = 1 - 0.5 / count
    return max((100 * share - _LAST_NAME) / (2 * share - 1), 0.0) if count > 1 else 0.0


def _slot_width(count: int) -> float:
    return (100 - 2 * _inset(count)) / count


def _middle(index: int, count: int) -> float:
    """Where a period stands: the middle of its slot, in per cent of the plot's width."""
    return _inset(count) + (index + 0.5) * _slot_width(count)


def _height(value: Number, top: float) -> float:
    return _HEIGHT * (1 - float(value) / top)


def _coordinates(points: Sequence[Point]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _polyline(points: Sequence[Point], colour: int, more: str = "") -> SafeString:
    return format_html('<polyline class="cp-line cp-s{} {}" points="{}"/>', colour, more, _coordinates(points))


def _area(points: Sequence[Point], colour: int, floor: float) -> SafeString:
    around = _coordinates([(points[0][0], floor), *points, (points[-1][0], floor)])
    return format_html('<polygon class="cp-area cp-s{}" points="{}"/>', colour, around)


def _line(values: Sequence[Number | None], top: float, colour: int, *, unfinished: bool, filled: bool) -> SafeString:
    """One series: its runs of known values, the way to an unfinished period dashed, and its points.

    The line lies in a picture of its own, 100 wide, that is stretched to the plot; its stroke and the points are not.
    """
    count = len(values)
    points = [None if value is None else (_middle(i, count), _height(value, top)) for i, value in enumerate(values)]
    closed = points[:-1] if unfinished else points
    runs = [[p for p in run if p is not None] for known, run in groupby(closed, lambda p: p is not None) if known]
    parts = [_area(run, colour, _HEIGHT) for run in runs if filled and len(run) > 1]
    parts += [_polyline(run, colour) for run in runs if len(run) > 1]
    way = [point for point in points[-2:] if point is not None]
    if unfinished and len(way) == 2:
        parts.append(_polyline(way, colour, "cp-open"))
    drawn = format_html(
        '<svg width="100%" height="{}" viewBox="0 0 100 {}" preserveAspectRatio="none">{}</svg>',
        _HEIGHT,
        _HEIGHT,
        _joined(parts),
    )
    return drawn + _dots(points, colour, unfinished)


def _dots(points: Sequence[Point | None], colour: int, unfinished: bool) -> SafeString:
    last = len(points) - 1
    dots = [
        (_number(point[0]), _number(point[1]), colour, "cp-hollow" if unfinished and index == last else "")
        for index, point in enumerate(points)
        if point is not None and (len(points) <= _MAX_DOTS or index == last)
    ]
    return format_html_join("", '<circle cx="{}%" cy="{}" r="2.5" class="cp-dot cp-s{} {}"/>', dots)


def _stack(column: Sequence[Number], top: float, index: int, count: int, *, hollow: bool) -> SafeString:
    """One period's bar. A part that is not zero is at least a pixel and a half high, so that it can be seen."""
    width = min(0.72 * _slot_width(count), 8.0)
    left = _middle(index, count) - width / 2
    floor = float(_HEIGHT)
    parts = []
    for number, value in enumerate(column):
        height = max(float(value) / top * _HEIGHT, 1.5) if value else 0.0
        floor -= height
        if value:
            parts.append(
                (_colour(number), "cp-bar-open" if hollow else "", *map(_number, (left, floor, width, height)))
            )
    return format_html_join("", '<rect class="cp-s{} {}" x="{}%" y="{}" width="{}%" height="{}"/>', parts)


def _row(y: int, bar: Bar, top: float) -> SafeString:
    """One entry of a ranking. A value that is not zero is never an empty bar."""
    return format_html(
        '<text class="cp-name" x="0" y="{0}">{1}</text>'
        '<text class="cp-name" x="100%" y="{0}" text-anchor="end">{2}</text>'
        '<rect class="cp-track" x="0" y="{3}" width="100%" height="6" rx="3"/>'
        '<rect class="cp-s1" x="0" y="{3}" width="{4}%" height="6" rx="3"/>',
        y + 14,
        bar.name if len(bar.name) <= _MAX_NAME else f"{bar.name[: _MAX_NAME - 1]}…",
        bar.text,
        y + 21,
        _number(max(float(bar.value) / top * 100, 0.6) if bar.value else 0),
    )


def _hit(box: tuple[str, int, str, int], title: str, url: str) -> SafeString:
    """The place that answers the pointer: its title, and the way to its list.

    The keyboard and the screen reader have the same way in the table below, one stop and not thirty in the picture.
    box: x and width in per cent, y and height in pixels, as x, y, width, height.
    """
    place = format_html('<rect class="cp-hit" x="{}%" y="{}" width="{}%" height="{}"/><title>{}</title>', *box, title)
    if not url:
        return format_html('<g class="cp-slot">{}</g>', place)
    return format_html('<a class="cp-slot" href="{}" tabindex="-1">{}</a>', url, place)


def _figure(timeline: Timeline, ticks: Sequence[float], marks: Iterable[SafeString]) -> SafeString:
    """The picture: the axis' figures, and beside them one named image with the places that answer over it."""
    count = len(timeline.periods)
    urls = timeline.urls or [""] * count
    height = _TOP + _HEIGHT + (36 if timeline.unfinished else 22)
    return format_html(
        '<figure class="cp-chart">{}<div class="cp-axes"><svg aria-hidden="true" width="{}" height="{}">{}</svg>'
        '<svg width="100%" height="{}"><svg role="img" aria-label="{}"><g transform="translate(0 {})">{}{}{}</g></svg>'
        '<g aria-hidden="true" transform="translate(0 {})">{}</g></svg></div>{}</figure>',
        _legend(timeline),
        _LEFT,
        height,
        _tick_texts(timeline.form, ticks),
        height,
        _sentence(timeline),
        _TOP,
        _rules(ticks),
        _joined(marks),
        _period_texts(timeline),
        _TOP,
        _joined(_slot(timeline, index, urls[index]) for index in range(count)),
        _table(
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
    box = (_number(_middle(index, count) - width / 2), 0, _number(width), _HEIGHT)
    return _hit(box, "\n".join([timeline.names[index], *lines]), url)


def _tick_texts(form: Callable[[Number], str], ticks: Sequence[float]) -> SafeString:
    sign = "$" if form(0).startswith("$") else ""
    rows = [(_LEFT - 8, _number(_TOP + _height(tick, ticks[-1])), sign + short(tick)) for tick in ticks]
    return format_html_join("", '<text x="{}" y="{}" dy="4" text-anchor="end">{}</text>', rows)


def _rules(ticks: Sequence[float]) -> SafeString:
    rows = [(y, y) for y in (_number(_height(tick, ticks[-1])) for tick in ticks)]
    return format_html_join("", '<line class="cp-rule" x1="0" x2="100%" y1="{}" y2="{}"/>', rows)


def _period_texts(timeline: Timeline) -> SafeString:
    """At most six names, evenly from the newest back, so that the last one is there."""
    count = len(timeline.periods)
    step = max(math.ceil(count / _MAX_LABELS), 1)
    shown = [index for index in range(count) if (count - 1 - index) % step == 0]
    rows = [(_number(_middle(index, count)), _HEIGHT + 17, timeline.periods[index]) for index in shown]
    if timeline.unfinished and count:
        rows.append((_number(_middle(count - 1, count)), _HEIGHT + 31, "so far"))
    return format_html_join("", '<text x="{}%" y="{}" text-anchor="middle">{}</text>', rows)


def _legend(timeline: Timeline) -> SafeString:
    rows = [(_colour(number), one.name) for number, one in enumerate(timeline.series)]
    entries = format_html_join("", '<li><i class="cp-s{}"></i>{}</li>', rows)
    return format_html('<ul class="cp-legend">{}</ul>', entries) if len(rows) > 1 else _joined([])


def _steps(timeline: StepTimeline, line: Steps, top: float) -> SafeString:
    """One line: a run of spans that meet is one stroke, up and down where the value changes."""
    runs: list[list[Point]] = []
    for span in sorted(line.spans, key=lambda span: span.start):
        left, right, y = timeline.place(span.start), timeline.place(span.end), _height(span.value, top)
        if not runs or runs[-1][-1][0] < left:
            runs.append([])
        runs[-1] += [(left, y), (right, y)]
    return format_html(
        '<svg overflow="visible" width="100%" height="{}" viewBox="0 0 100 {}" preserveAspectRatio="none">{}</svg>',
        _HEIGHT,
        _HEIGHT,
        _joined(_polyline(run, _colour(line.colour), "cp-open" if line.dashed else "") for run in runs),
    )


def _instants(timeline: StepTimeline) -> SafeString:
    """The beginning, the middle and the end, and where now is, if something is planned after it."""
    length = timeline.end - timeline.start
    pattern = "%d %b %Y" if length.days < 300 else "%b %Y"
    places = (("start", 0), ("middle", 50), ("end", 100))
    texts = [(x, _HEIGHT + 17, anchor, f"{timeline.start + length * x / 100:{pattern}}") for anchor, x in places]
    shown = format_html_join("", '<text x="{}%" y="{}" text-anchor="{}">{}</text>', texts)
    if timeline.now >= timeline.end:
        return shown
    here = _number(timeline.place(timeline.now))
    return shown + format_html('<line class="cp-now" x1="{}%" x2="{}%" y1="0" y2="{}"/>', here, here, _HEIGHT)


def _step_slot(timeline: StepTimeline, start: datetime, end: datetime) -> SafeString:
    left, right = timeline.place(start), timeline.place(end)
    pairs = zip(timeline.lines, timeline.texts(start), strict=True)
    lines = [f"{line.name}: {text}" for line, text in pairs if text != "–"]
    title = "\n".join([f"{start:%Y-%m-%d} to {end:%Y-%m-%d}", *(lines or ["no price"]), timeline.unit])
    return _hit((_number(left), 0, _number(right - left), _HEIGHT), title, "")


def _step_legend(timeline: StepTimeline) -> SafeString:
    rows = [(_colour(line.colour), "cp-dashed" if line.dashed else "", line.name) for line in timeline.lines]
    return format_html(
        '<ul class="cp-legend">{}</ul>', format_html_join("", '<li><i class="cp-s{} {}"></i>{}</li>', rows)
    )


def _step_sentence(timeline: StepTimeline) -> str:
    said = [f"{timeline.title}, {timeline.start:%Y-%m-%d} to {timeline.end:%Y-%m-%d}, in {timeline.unit}."]
    for line in timeline.lines:
        first, last = line.spans[0], line.spans[-1]
        changes = f" {len(line.spans)} values, from {timeline.form(first.value)}" if len(line.spans) > 1 else ""
        said.append(f"{line.name}:{changes} {'to ' if changes else ''}{timeline.form(last.value)}.")
    return " ".join(said)


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


def _table(heads: Sequence[str], rows: Sequence[tuple[str, str, Sequence[str]]]) -> SafeString:
    """The same numbers to read and to copy; rows: name, address of its list or "", figures."""
    head = format_html_join("", '<th scope="col" class="cp-num">{}</th>', [(text,) for text in heads[1:]])
    cells = [
        (
            format_html('<a href="{}">{}</a>', url, name) if url else name,
            format_html_join("", '<td class="cp-num">{}</td>', [(text,) for text in texts]),
        )
        for name, url, texts in rows
    ]
    return format_html(
        '<details class="cp-figures"><summary>Figures</summary><div tabindex="0"><table class="cp-table">'
        "<thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table></div></details>",
        head,
        format_html_join("", '<tr><th scope="row">{}</th>{}</tr>', cells),
    )
