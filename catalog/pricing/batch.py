"""What the tokens of a batch cost: by rates of their own, else half of the usual ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from catalog.pricing.bill import Bill
from catalog.pricing.counts import charge_written, split, uses_input, uses_output
from catalog.pricing.prices import CR, CW, CW_1H, CW_12H, I, O, Prices, Rate, dearest, half
from catalog.pricing.sheets import thresholds_of
from catalog.pricing.usage import Usage

SUFFIX = "batches"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSheet:
    """The rates of a batch's tokens. halved: the price has no batch rate of input, these are half of its usual ones.

    read, write None: such tokens cost as text.
    """

    halved: bool
    text: Rate | None
    read: Rate | None
    write: Rate | None
    write_1h: Rate | None
    write_12h: Rate | None
    cached_audio: Rate | None
    audio: Rate | None
    image: Rate | None
    video: Rate | None
    output: Rate | None
    output_image: Rate | None


@dataclass(frozen=True, slots=True)
class BatchRates:
    """base: the sheet of a prompt that crosses no threshold; bands: of those over a threshold, the highest first."""

    base: BatchSheet
    bands: tuple[tuple[int, BatchSheet], ...]

    def sheet(self, prompt: int) -> BatchSheet:
        for above, sheet in self.bands:
            if prompt > above:
                return sheet
        return self.base

    def worst(self, prompt: int) -> BatchSheet:
        """A sheet that is in nothing cheaper than any sheet of so many tokens of prompt, or fewer."""
        return _worst([sheet for above, sheet in self.bands if prompt > above] + [self.base])


def read_batch(prices: Prices, *, inclusive: bool) -> BatchRates:
    """The batch rates of a price. inclusive: a threshold is crossed as soon as it is reached."""
    thresholds = thresholds_of(prices, SUFFIX)
    bands = []
    for count, (above, _) in enumerate(thresholds, 1):
        crossed = [size for _, size in reversed(thresholds[:count])]
        bands.append((above - inclusive, _sheet(prices, crossed)))
    return BatchRates(_sheet(prices, []), tuple(reversed(bands)))


def charge_batch(bill: Bill, rates: BatchRates, usage: Usage, worst: bool) -> bool:
    """Add the lines of a batch's tokens; False: the price has nothing for a side that is used."""
    sheet = rates.worst(usage.prompt_tokens) if worst else rates.sheet(usage.prompt_tokens)
    if not sheet.text and uses_input(usage):
        return False
    if not (sheet.output or sheet.output_image) and uses_output(usage):
        return False
    if sheet.halved:
        _charge_halves(bill, sheet, usage)
    else:
        _charge_input(bill, sheet, usage)
    image = min(usage.output_image_tokens, usage.completion_tokens)
    if usage.completion_tokens > image:
        bill.charge(bill.output, "output", usage.completion_tokens - image, "token", sheet.output)
    if image:
        bill.charge(bill.output, "output_image", image, "token", sheet.output_image)
    return True


def _sheet(prices: Prices, crossed: Sequence[str]) -> BatchSheet:
    def own(name: str) -> Rate | None:
        for size in crossed:
            rate = prices.get(f"{name}_above_{size}_tokens_{SUFFIX}")
            if rate:
                return rate
        return prices.get(f"{name}_{SUFFIX}")

    usual = prices.get(I)
    text, read, write, write_1h, write_12h = map(own, (I, CR, CW, CW_1H, CW_12H))
    halved = text is None
    if halved:
        text, read, write = _half(usual), _half(prices.get(CR) or usual), _half(prices.get(CW) or usual)
    elif write or write_1h or write_12h:
        write = write or text
    output = own(O) or _half(prices.get(O))
    return BatchSheet(
        halved=halved,
        text=text,
        read=read,
        write=write,
        write_1h=write_1h or write,
        write_12h=write_12h or write,
        cached_audio=own("cache_read_input_audio_token_cost") or read,
        audio=own("input_cost_per_audio_token") or text,
        image=own("input_cost_per_image_token") or text,
        video=own("input_cost_per_video_token") or text,
        output=output,
        output_image=own("output_cost_per_image_token") or _half(prices.get("output_cost_per_image_token")) or output,
    )


def _half(rate: Rate | None) -> Rate | None:
    return half(rate) if rate else None


def _charge_input(bill: Bill, sheet: BatchSheet, usage: Usage) -> None:
    side = bill.input
    _, audio, image, cached_audio = split(usage)
    video = usage.video_tokens
    cached = usage.cached_tokens if sheet.read else 0
    written = usage.cache_write_tokens if sheet.write else 0
    text = max(usage.prompt_tokens - audio - image - video - cached - written, 0)
    if text:
        bill.charge(side, "text", text, "token", sheet.text)
    if cached:
        if cached > cached_audio:
            bill.charge(side, "cache_read", cached - cached_audio, "token", sheet.read)
        if cached_audio:
            bill.charge(side, "cache_read_audio", cached_audio, "token", sheet.cached_audio)
    if audio:
        bill.charge(side, "audio", audio, "token", sheet.audio)
    if image:
        bill.charge(side, "image", image, "token", sheet.image)
    if video:
        bill.charge(side, "video", video, "token", sheet.video)
    if sheet.write:
        charge_written(bill, usage, sheet.write, sheet.write_1h, sheet.write_12h)


def _charge_halves(bill: Bill, sheet: BatchSheet, usage: Usage) -> None:
    cached, written = usage.cached_tokens, usage.cache_write_tokens
    text = max(usage.prompt_tokens - cached - written, 0)
    if text:
        bill.charge(bill.input, "text", text, "token", sheet.text)
    if cached:
        bill.charge(bill.input, "cache_read", cached, "token", sheet.read)
    if written:
        bill.charge(bill.input, "cache_write", written, "token", sheet.write)


def _worst(sheets: Sequence[BatchSheet]) -> BatchSheet:
    """One sheet with the dearest of all: every input at it or, where that is more, at its own rate."""

    def over(name: str, *more: Rate | None) -> Rate | None:
        return dearest(*(getattr(sheet, name) for sheet in sheets), *more)

    text = over("text", over("read"), over("write"), over("write_1h"), over("write_12h"))
    output = over("output")
    return BatchSheet(
        halved=all(sheet.halved for sheet in sheets), text=text, read=text, write=text, write_1h=text, write_12h=text,
        cached_audio=over("cached_audio", text), audio=over("audio", text), image=over("image", text),
        video=over("video", text), output=output, output_image=over("output_image", output),
    )  # fmt: skip
