"""How values look in a list or on a page: pills, ids, times, money. Pure; everything is escaped."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.core.figures import dollars

NOTHING = "–"


def pill(text: str, tone: str = "") -> SafeString:
    """A word that stands out by tone: "ok", "warn", "bad", "info" or "" (quiet)."""
    return format_html('<span class="cp-pill {}">{}</span>', f"cp-{tone}" if tone else "", text)


def status(value: str, tones: dict[str, str], why: str = "") -> SafeString | str:
    """A state: plain text when it is the ordinary one (no tone), else a pill; why: shown on hovering it."""
    tone = tones.get(value)
    if tone is None:
        return value
    return format_html('<span title="{}">{}</span>', why, pill(value, tone)) if why else pill(value, tone)


def mono(text: str) -> SafeString:
    """A word that is read character by character."""
    return format_html('<span class="cp-mono">{}</span>', text)


def short_id(value: UUID | str | None) -> SafeString | str:
    """The last eight characters of an id, which tell ids of one moment apart; the whole one in the title."""
    if not value:
        return NOTHING
    text = str(value)
    return format_html('<span class="cp-id" title="{}">…{}</span>', text, text[-8:])


def named(name: str | None, value: UUID | None) -> SafeString | str:
    """The name of a row that an id means, with the id in the title; the short id where the name is not known."""
    if not value:
        return NOTHING
    return format_html('<span title="{}">{}</span>', value, name) if name else short_id(value)


def instant(at: datetime | None) -> SafeString | str:
    """`2026-11-21 13:41:07` in the present time zone."""
    if at is None:
        return NOTHING
    shown = f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S}"
    return format_html('<time class="cp-nowrap" datetime="{}">{}</time>', at.isoformat(), shown)


def day(at: datetime | None) -> SafeString | str:
    """`2026-11-21`, with the time in the title: enough for lists in which the hour does not matter."""
    if at is None:
        return NOTHING
    local = timezone.localtime(at)
    return format_html(
        '<time class="cp-nowrap" datetime="{}" title="{}">{}</time>',
        at.isoformat(),
        f"{local:%Y-%m-%d %H:%M:%S}",
        f"{local:%Y-%m-%d}",
    )


def number(value: int | None, unit: str = "") -> SafeString | str:
    """A count, right-aligned, grouped by thousands."""
    if value is None:
        return format_html('<span class="cp-num cp-quiet">{}</span>', NOTHING)
    return format_html('<span class="cp-num">{}{}</span>', f"{value:,}", f" {unit}" if unit else "")


def counts(*values: int | None) -> SafeString:
    """Several counts of one kind in one cell: 628 / 647."""
    text = " / ".join(NOTHING if value is None else f"{value:,}" for value in values)
    return format_html('<span class="cp-num">{}</span>', text)


def cost(value: Decimal | None) -> SafeString:
    """US dollars; None is "unpriced", never zero."""
    text = "unpriced" if value is None else dollars(value)
    return format_html('<span class="cp-num {}">{}</span>', "cp-quiet" if value is None else "", text)
