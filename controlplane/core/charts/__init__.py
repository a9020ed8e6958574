"""Charts as SVG text: pure functions from numbers to markup, no I/O, no script, no inline style.

Widths are shares of the page and heights are pixels, so letters keep their size on every screen. One chart has one
axis with one unit; bars and axes begin at zero. Classes are in cp_core/pages.css.
"""

from __future__ import annotations

from controlplane.core.charts.levels import Mark, level_bar, share
from controlplane.core.charts.rankings import Bar, horizontal_bars
from controlplane.core.charts.steps import Span, Steps, StepTimeline, step_chart
from controlplane.core.charts.timelines import Series, Timeline, line_chart, spark_line, stacked_bars
from controlplane.core.figures import dollars, plain, short

__all__ = (
    "Bar",
    "Mark",
    "Series",
    "Span",
    "StepTimeline",
    "Steps",
    "Timeline",
    "dollars",
    "horizontal_bars",
    "level_bar",
    "line_chart",
    "plain",
    "share",
    "short",
    "spark_line",
    "stacked_bars",
    "step_chart",
)
