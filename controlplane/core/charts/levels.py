"""How full something is: a bar of what is used and what is held, with marks where limits stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.core.charts.drawing import decimals, joined
from controlplane.core.figures import Number


@dataclass(frozen=True, slots=True)
class Mark:
    """A limit on a bar. firm: one that refuses; else one that only warns or is only counted, drawn dashed."""

    value: Number
    firm: bool = True


def share(used: Number, limit: Number | None) -> float | None:
    """Which part of a limit is used, 1.0 = all; None without a limit. Of a limit of 0 all is used."""
    if limit is None:
        return None
    return float(used) / float(limit) if limit else 1.0


def level_bar(title: str, used: Number, held: Number = 0, marks: Sequence[Mark] = ()) -> SafeString:
    """used, held: in the unit of the marks. The bar ends at the highest of all; without a mark it has no end to show.

    title: the same in words, for those who do not see it. Colours begin to warn at 80 % of the lowest firm mark, or of the
    lowest one if none is firm: whoever shows it says so in words too.
    """
    whole = float(used) + float(held)
    top = max([whole, *(float(mark.value) for mark in marks)]) or 1.0
    firm = [mark.value for mark in marks if mark.firm] or [mark.value for mark in marks]
    full = share(whole, min(firm, default=None)) or 0.0
    tone = "cp-full" if full >= 1 else "cp-near" if full >= 0.8 else ""
    return format_html(
        '<svg class="cp-level {}" width="100%" height="12" role="img" aria-label="{}"><title>{}</title>'
        '<rect class="cp-track" y="3" width="100%" height="6" rx="3"/>{}{}{}</svg>',
        tone, title, title,
        _part("cp-used", 0.0, float(used) / top) if used else "",
        _part("cp-held", float(used) / top, float(held) / top) if held else "",
        joined(_mark(mark, top) for mark in marks),
    )  # fmt: skip


def _part(name: str, start: float, width: float) -> SafeString:
    """What is not nothing is at least a hair wide."""
    wide = max(width * 100, 0.6)
    return format_html(
        '<rect class="{}" x="{}%" y="3" width="{}%" height="6" rx="2"/>',
        name, decimals(min(start * 100, 100 - wide)), decimals(wide),
    )  # fmt: skip


def _mark(mark: Mark, top: float) -> SafeString:
    x = decimals(min(max(float(mark.value) / top * 100, 0.5), 99.5))
    return format_html(
        '<line class="{}" x1="{}%" x2="{}%" y1="0" y2="12"/>', "cp-firm" if mark.firm else "cp-firm cp-open", x, x
    )
