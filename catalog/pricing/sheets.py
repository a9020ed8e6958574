"""Which rate holds for a token: by service tier, size of the prompt and hour, worked out once per price."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from catalog.errors import BadRate
from catalog.pricing.offpeak import OffPeak
from catalog.pricing.prices import (
    CR,
    CW,
    CW_1H,
    CW_12H,
    EXPLICIT,
    REASONING,
    TIERS,
    I,
    O,
    Prices,
    Rate,
    at,
    dearest,
    number,
    read_row,
)

_THRESHOLD = re.compile(rf"(?:{I}|{O}|{CR}|{CW}|{CW_1H}|{CW_12H})_above_(\d{{1,18}})(k?)_tokens(?:_(\w+))?")
_NO_RATES: Prices = {}
_INPUT = ("input_cost_", "cache_read_input_", "cache_creation_input_", "explicit_cache_read_input_", "citation_cost_")
_OUTPUT = ("output_cost_",)
_VARIANT = re.compile(rf"_({'|'.join(TIERS)}|batches|decisions)$")
_IDLE = re.compile(
    r"_cache_hit$|_interval$|^cache_read_input_image_|^cache_creation_input_audio_|^input_cost_per_(request|text_message)$"
)
"""Price fields that no rule uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The rates of one call's tokens, fallbacks followed; None: there is no rate.

    explicit: what reading an explicit cache costs, None: as `read`. cached_audio None: as what is read.
    """

    text: Rate | None
    output: Rate | None
    read: Rate | None
    write: Rate | None
    write_1h: Rate | None
    write_12h: Rate | None
    explicit: Rate | None
    reasoning: Rate | None
    cached_audio: Rate | None = None
    audio: Rate | None = None
    image: Rate | None = None
    video: Rate | None = None
    output_audio: Rate | None = None
    output_image: Rate | None = None
    output_video: Rate | None = None


Sheets = tuple[Sheet, Sheet]
"""The sheet of usual hours and the one of off-peak hours, in this order: is_open is the index."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a tier table, for start < prompt <= end. sheets None: it has no input rate, so the rest of the price holds."""

    start: Decimal
    end: Decimal
    rates: Mapping[str, Rate]
    sheets: Sheets | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The sheets of one service tier. base: of a prompt that crosses no threshold; bands: of those over a threshold, the
    highest first; rows: of the tier table, ascending: where there is a prompt, they win. prices_input, prices_output:
    whether there is any price of that side."""

    base: Sheets
    bands: tuple[tuple[int, Sheets], ...] = ()
    rows: tuple[Row, ...] = ()
    prices_input: bool = True
    prices_output: bool = True

    def sheet(self, prompt: int, is_open: bool) -> Sheet:
        if self.rows and prompt:
            row = row_for(self.rows, prompt)
            if row.sheets:
                return row.sheets[is_open]
        for above, sheets in self.bands:
            if prompt > above:
                return sheets[is_open]
        return self.base[is_open]

    def worst(self, prompt: int, is_open: bool) -> Sheet:
        """A sheet that is in nothing cheaper than any sheet of so many tokens of prompt, or fewer."""
        found: list[Sheets | None] = []
        if self.rows and prompt:
            found = [row.sheets for row in self.rows if row.start < prompt] + [row_for(self.rows, prompt).sheets]
        if not found or None in found:
            found += [sheets for above, sheets in self.bands if prompt > above] + [self.base]
        return _worst([sheets[is_open] for sheets in found if sheets])


def row_for(rows: Sequence[Row], prompt: int) -> Row:
    """The row whose range the prompt is in; none: the last."""
    for row in rows:
        if row.start < prompt <= row.end:
            return row
    return rows[-1]


def read_rows(table: Any) -> tuple[Row, ...]:
    """The rows of a tier table that have a range of prompts, ascending. Raises BadRate."""
    if not table:
        return ()
    if not isinstance(table, list | tuple):
        raise BadRate("tiered_pricing", table)
    rows = []
    for place, row in enumerate(table):
        where = f"tiered_pricing[{place}]"
        if not isinstance(row, Mapping):
            raise BadRate(where, row)
        if row.get("range") is not None:
            start, end = bounds(f"{where}.range", row["range"])
            rows.append(Row(start, end, read_row(row, where)))
    return tuple(sorted(rows, key=lambda row: row.start))


def bounds(field: str, value: Any) -> tuple[Decimal, Decimal]:
    """The two ends of a range of a table. Raises BadRate."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise BadRate(field, value)
    return number(field, value[0]), number(field, value[1])


def read_plan(prices: Prices, tier: str, rows: Sequence[Row], off_peak: OffPeak | None, *, inclusive: bool) -> Plan:
    """The sheets of a service tier ("": none). inclusive: a threshold is crossed as soon as it is reached."""
    block = off_peak.rates if off_peak else None
    thresholds = thresholds_of(prices, None, tier)
    bands = []
    for count, (above, _) in enumerate(thresholds, 1):
        crossed = [text for _, text in thresholds[:count]]
        bands.append((above - inclusive, _sheets(prices, tier, crossed, block)))
    prices_input, prices_output = (True, True) if rows else _sides(prices, tier)
    return Plan(
        base=_sheets(prices, tier, [], block),
        bands=tuple(reversed(bands)),
        rows=tuple(Row(row.start, row.end, row.rates, _row_sheets(prices, tier, row.rates, block)) for row in rows),
        prices_input=prices_input,
        prices_output=prices_output,
    )


def _sides(prices: Prices, tier: str) -> tuple[bool, bool]:
    """Whether there is any price of the input, and of the output, that a call of this service tier may have."""
    usable = []
    for name in prices:
        variant = _VARIANT.search(name)
        if not _IDLE.search(name) and (variant is None or variant[1] == tier):
            usable.append(name)
    return any(name.startswith(_INPUT) for name in usable), any(name.startswith(_OUTPUT) for name in usable)


def thresholds_of(prices: Prices, *suffixes: str | None) -> list[tuple[int, str]]:
    """The sizes of prompts at which rates change, ascending, as number and as it is written in the names of the fields."""
    found = filter(None, map(_THRESHOLD.fullmatch, prices))
    sizes = {
        (int(match[1]) * (1000 if match[2] else 1), match[1] + match[2]) for match in found if match[3] in suffixes
    }
    return sorted(sizes)


def _sheets(prices: Prices, tier: str, crossed: Sequence[str], block: Prices | None) -> Sheets:
    text, output, read, write = (at(prices, name, tier) for name in (I, O, CR, CW))
    if not output or not output.value:
        output = prices.get("output_cost_per_image_token") or output
    hour, half_day = CW_1H, CW_12H
    for size in crossed:
        over = f"_above_{size}_tokens"
        text = at(prices, I + over, tier) or text
        output = at(prices, O + over, tier) or output
        read = at(prices, CR + over, tier) or read
        write = at(prices, CW + over, tier) or write
        exactly = f"{over}_{tier}" if tier else over
        hour = CW_1H + over if CW_1H + exactly in prices else hour
        half_day = CW_12H + over if CW_12H + exactly in prices else half_day

    def sheet(block: Prices) -> Sheet:
        otherwise = block.get(I) or text
        return _finish(
            prices, tier, _NO_RATES, block,
            text=text, output=output, read=read or otherwise, write=write or otherwise,
            write_1h=at(prices, hour, tier), write_12h=at(prices, half_day, tier),
        )  # fmt: skip

    usual = sheet(_NO_RATES)
    return usual, usual if block is None else sheet(block)


def _row_sheets(prices: Prices, tier: str, row: Prices, block: Prices | None) -> Sheets | None:
    text = row.get(I)
    if not text:
        return None

    def sheet(block: Prices) -> Sheet:
        return _finish(
            prices, tier, row, block,
            text=text, output=row.get(O) or prices.get(O), read=row.get(CR) or text, write=row.get(CW) or text,
            write_1h=row.get(CW_1H), write_12h=row.get(CW_12H),
        )  # fmt: skip

    usual = sheet(_NO_RATES)
    return usual, usual if block is None else sheet(block)


def _finish(
    prices: Prices, tier: str, row: Prices, block: Prices, *,
    text: Rate | None, output: Rate | None, read: Rate | None, write: Rate | None,
    write_1h: Rate | None, write_12h: Rate | None,
) -> Sheet:  # fmt: skip
    """The sheet of these rates, once the rates of an open off-peak block have replaced them. row, block: {} = none."""
    explicit = explicit_read(prices, tier, row, block)
    text, output = block.get(I) or text, block.get(O) or output
    read, write = block.get(CR) or read, block.get(CW) or write
    return Sheet(
        text=text,
        output=output,
        read=read,
        write=write,
        write_1h=write_1h or write,
        write_12h=write_12h or write,
        explicit=explicit,
        reasoning=block.get(REASONING) or row.get(REASONING) or row.get(O) or _reasoning(prices, tier) or output,
        cached_audio=at(prices, "cache_read_input_audio_token_cost", tier),
        audio=at(prices, "input_cost_per_audio_token", tier) or text,
        image=at(prices, "input_cost_per_image_token", tier) or text,
        video=at(prices, "input_cost_per_video_token", tier) or text,
        output_audio=prices.get("output_cost_per_audio_token") or output,
        output_image=prices.get("output_cost_per_image_token") or output,
        output_video=prices.get("output_cost_per_video_token") or output,
    )


def _reasoning(prices: Prices, tier: str) -> Rate | None:
    """The rate of reasoning tokens; None: as output. A tier with an output rate of its own has no other's reasoning rate."""
    if tier and f"{REASONING}_{tier}" not in prices and f"{O}_{tier}" in prices:
        return None
    return at(prices, REASONING, tier)


def explicit_read(prices: Prices, tier: str, row: Prices, block: Prices) -> Rate | None:
    """What reading an explicit cache costs; None: nobody states it, it costs what reading any cache does."""
    stated = at(prices, EXPLICIT, tier)
    if not (stated or EXPLICIT in row or EXPLICIT in block):
        return None
    usual = stated or at(prices, CR, tier) or prices.get(I)
    if row:
        usual = row.get(EXPLICIT) or row.get(CR) or row.get(I)
    return block.get(EXPLICIT) or block.get(CR) or usual


def _worst(sheets: Sequence[Sheet]) -> Sheet:
    """One sheet with the dearest of all: every input at it or, where that is more, at its own rate; output likewise."""

    def over(name: str, *more: Rate | None) -> Rate | None:
        return dearest(*(getattr(sheet, name) for sheet in sheets), *more)

    text = over("text", over("read"), over("write"), over("write_1h"), over("write_12h"), over("explicit"))
    output = over("output", over("reasoning"))
    return Sheet(
        text=text, read=text, write=text, write_1h=text, write_12h=text, explicit=None,
        cached_audio=over("cached_audio", text), audio=over("audio", text), image=over("image", text),
        video=over("video", text), output=output, reasoning=output, output_audio=over("output_audio", output),
        output_image=over("output_image", output), output_video=over("output_video", output),
    )  # fmt: skip
