"""Values that hold from one instant to another, over true time: what a price was, and will be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from controlplane.core.charts.drawing import (
    HEIGHT,
    LEFT,
    TOP,
    Point,
    axis_ticks,
    colour_of,
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


def step_chart(timeline: StepTimeline) -> SafeString:
    """Values that hold until they are others, over true time: steps, and never a slope between them."""
    ticks = axis_ticks([span.value for line in timeline.lines for span in line.spans])
    marks = joined(_steps(timeline, line, ticks[-1]) for line in timeline.lines)
    spans = timeline.changes
    return format_html(
        '<figure class="cp-chart">{}<div class="cp-axes"><svg aria-hidden="true" width="{}" height="{}">{}</svg>'
        '<svg width="100%" height="{}"><svg role="img" aria-label="{}"><g transform="translate(0 {})">{}{}{}</g></svg>'
        '<g aria-hidden="true" transform="translate(0 {})">{}</g></svg></div>{}</figure>',
        _step_legend(timeline),
        LEFT,
        TOP + HEIGHT + 22,
        tick_texts(timeline.form, ticks),
        TOP + HEIGHT + 22,
        _step_sentence(timeline),
        TOP,
        rules(ticks),
        marks,
        _instants(timeline),
        TOP,
        joined(_step_slot(timeline, start, end) for start, end in spans),
        figures_table(
            ["", *(line.name for line in timeline.lines)],
            [(f"{start:%Y-%m-%d} to {end:%Y-%m-%d}", "", timeline.texts(start)) for start, end in reversed(spans)],
        ),
    )


def _steps(timeline: StepTimeline, line: Steps, top: float) -> SafeString:
    """One line: a run of spans that meet is one stroke, up and down where the value changes."""
    runs: list[list[Point]] = []
    for span in sorted(line.spans, key=lambda span: span.start):
        left, right, y = timeline.place(span.start), timeline.place(span.end), height_of(span.value, top)
        if not runs or runs[-1][-1][0] < left:
            runs.append([])
        runs[-1] += [(left, y), (right, y)]
    return format_html(
        '<svg overflow="visible" width="100%" height="{}" viewBox="0 0 100 {}" preserveAspectRatio="none">{}</svg>',
        HEIGHT,
        HEIGHT,
        joined(polyline(run, colour_of(line.colour), "cp-open" if line.dashed else "") for run in runs),
    )


def _instants(timeline: StepTimeline) -> SafeString:
    """The beginning, the middle and the end, and where now is, if something is planned after it."""
    length = timeline.end - timeline.start
    pattern = "%d %b %Y" if length.days < 300 else "%b %Y"
    places = (("start", 0), ("middle", 50), ("end", 100))
    texts = [(x, HEIGHT + 17, anchor, f"{timeline.start + length * x / 100:{pattern}}") for anchor, x in places]
    shown = format_html_join("", '<text x="{}%" y="{}" text-anchor="{}">{}</text>', texts)
    if timeline.now >= timeline.end:
        return shown
    here = decimals(timeline.place(timeline.now))
    return shown + format_html('<line class="cp-now" x1="{}%" x2="{}%" y1="0" y2="{}"/>', here, here, HEIGHT)


def _step_slot(timeline: StepTimeline, start: datetime, end: datetime) -> SafeString:
    left, right = timeline.place(start), timeline.place(end)
    pairs = zip(timeline.lines, timeline.texts(start), strict=True)
    lines = [f"{line.name}: {text}" for line, text in pairs if text != "–"]
    title = "\n".join([f"{start:%Y-%m-%d} to {end:%Y-%m-%d}", *(lines or ["no price"]), timeline.unit])
    return hit((decimals(left), 0, decimals(right - left), HEIGHT), title, "")


def _step_legend(timeline: StepTimeline) -> SafeString:
    rows = [(colour_of(line.colour), "cp-dashed" if line.dashed else "", line.name) for line in timeline.lines]
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
