"""What all charts draw with: axes, rules, strokes, places that answer the pointer, and the figures as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from controlplane.core.figures import Number, short

Point = tuple[float, float]

HEIGHT = 160  # of the plot, in pixels
TOP = 10
LEFT = 46  # room for the axis' figures
_COLOURS = 6


def axis_ticks(values: Sequence[Number]) -> list[float]:
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


def joined(parts: Iterable[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))


def decimals(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def colour_of(index: int) -> int:
    return index % _COLOURS + 1


def height_of(value: Number, top: float) -> float:
    return HEIGHT * (1 - float(value) / top)


def coordinates(points: Sequence[Point]) -> str:
    return " ".join(f"{decimals(x)},{decimals(y)}" for x, y in points)


def polyline(points: Sequence[Point], colour: int, more: str = "") -> SafeString:
    return format_html('<polyline class="cp-line cp-s{} {}" points="{}"/>', colour, more, coordinates(points))


def hit(box: tuple[str, int, str, int], title: str, url: str) -> SafeString:
    """The place that answers the pointer: its title, and the way to its list.

    The keyboard and the screen reader have the same way in the table below, one stop and not thirty in the picture.
    box: x and width in per cent, y and height in pixels, as x, y, width, height.
    """
    place = format_html('<rect class="cp-hit" x="{}%" y="{}" width="{}%" height="{}"/><title>{}</title>', *box, title)
    if not url:
        return format_html('<g class="cp-slot">{}</g>', place)
    return format_html('<a class="cp-slot" href="{}" tabindex="-1">{}</a>', url, place)


def tick_texts(form: Callable[[Number], str], ticks: Sequence[float]) -> SafeString:
    sign = "$" if form(0).startswith("$") else ""
    rows = [(LEFT - 8, decimals(TOP + height_of(tick, ticks[-1])), sign + short(tick)) for tick in ticks]
    return format_html_join("", '<text x="{}" y="{}" dy="4" text-anchor="end">{}</text>', rows)


def rules(ticks: Sequence[float]) -> SafeString:
    rows = [(y, y) for y in (decimals(height_of(tick, ticks[-1])) for tick in ticks)]
    return format_html_join("", '<line class="cp-rule" x1="0" x2="100%" y1="{}" y2="{}"/>', rows)


def figures_table(heads: Sequence[str], rows: Sequence[tuple[str, str, Sequence[str]]]) -> SafeString:
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
