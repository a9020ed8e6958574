"""A ranking as horizontal bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.core.charts.drawing import decimals, figures_table, hit, joined
from controlplane.core.figures import Number

_ROW = 34  # height of a bar with its name
_MAX_NAME = 34  # letters beside a figure on a narrow phone


@dataclass(frozen=True, slots=True)
class Bar:
    """One horizontal bar. text: the value as it is to be read; url: the list that adds up to it."""

    name: str
    value: Number
    text: str
    url: str = ""


def horizontal_bars(title: str, bars: Sequence[Bar], *, unit: str) -> SafeString:
    """A ranking, in the order given: name and figure above a bar from zero."""
    top = max((float(bar.value) for bar in bars), default=0.0) or 1.0
    first = f" First: {bars[0].name}, {bars[0].text}." if bars else ""
    return format_html(
        '<figure class="cp-chart"><svg width="100%" height="{}"><svg role="img" aria-label="{}">{}</svg>'
        '<g aria-hidden="true">{}</g></svg>{}</figure>',
        len(bars) * _ROW,
        f"{title}, {len(bars)} entries.{first}",
        joined(_row(index * _ROW, bar, top) for index, bar in enumerate(bars)),
        joined(
            hit(("0", index * _ROW, "100", _ROW), f"{bar.name}: {bar.text}", bar.url) for index, bar in enumerate(bars)
        ),
        figures_table(["", unit], [(bar.name, bar.url, [bar.text]) for bar in bars]),
    )


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
        decimals(max(float(bar.value) / top * 100, 0.6) if bar.value else 0),
    )
