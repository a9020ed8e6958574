"""What tokens cost: the rules that most calls are priced by, and the tokens of images, speech and transcription."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from catalog.errors import UsageError
from catalog.pricing.batch import BatchRates
from catalog.pricing.bill import Bill
from catalog.pricing.counts import charge_written, fresh, uses_input, uses_output
from catalog.pricing.offpeak import OffPeak
from catalog.pricing.prices import TIERS, Prices, Rate
from catalog.pricing.sheets import Plan, Sheet
from catalog.pricing.usage import Usage

_TIER_OF = {"fast": "priority", **{tier: tier for tier in TIERS}}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRates:
    """What tokens cost by a price. plans: by service tier, "" for none and for those that differ in nothing.

    search: what a web search costs, by size of its context (low, medium, high). own: the plan of a family that looks its
    rates up in another way. wall_clock: what a second costs, where only time counts.
    """

    prices: Prices
    plans: dict[str, Plan]
    off_peak: OffPeak | None
    batch: BatchRates
    search: Mapping[str, Rate]
    own: Plan | None = None
    wall_clock: Rate | None = None

    def plan(self, usage: Usage) -> Plan:
        """By the service tier that was used."""
        tier = usage.service_tier and _TIER_OF.get(usage.service_tier.lower(), "")
        return self.plans.get(tier) or self.plans[""]

    def sheet(self, plan: Plan, prompt: int, usage: Usage, worst: bool) -> Sheet:
        """The rates that hold for a prompt; worst: for one of so many tokens or fewer. Raises UsageError missing_time."""
        is_open = False
        if self.off_peak:
            if usage.at is None:
                raise UsageError("missing_time")
            is_open = self.off_peak.is_open(usage.at)
        return plan.worst(prompt, is_open) if worst else plan.sheet(prompt, is_open)


def charge_tokens(bill: Bill, tokens: TokenRates, plan: Plan, usage: Usage, worst: bool) -> None:
    """Add the lines of a call's tokens. worst: at the rates that no prompt of so many tokens, or fewer, exceeds."""
    sheet = tokens.sheet(plan, usage.prompt_tokens, usage, worst)
    charge_input(bill, tokens.prices, sheet, usage)
    charge_output(bill, sheet, usage)


def lacks_side(plan: Plan, usage: Usage) -> bool:
    """Whether a side is used that the price has no field for."""
    return (not plan.prices_input and uses_input(usage)) or (not plan.prices_output and uses_output(usage))


def charge_input(bill: Bill, prices: Prices, sheet: Sheet, usage: Usage) -> None:
    """Add the lines of the input: fresh, cached and written tokens, and what is not counted in tokens."""
    side, cached = bill.input, usage.cached_tokens
    text, audio, image, video, cached_audio = fresh(usage)
    if usage.characters or usage.images or usage.audio_seconds or usage.video_seconds or usage.queries:
        by_count = _charge_counts(bill, prices, usage)
        text = 0 if "characters" in by_count else text
        image = 0 if "images" in by_count else image
        audio = 0 if "audio_seconds" in by_count else audio
        video = 0 if "video_seconds" in by_count else video
    if text:
        bill.charge(side, "text", text, "token", sheet.text)
    if cached:
        read = (sheet.explicit if usage.cache_type == "ephemeral" else None) or sheet.read
        if cached > cached_audio:
            bill.charge(side, "cache_read", cached - cached_audio, "token", read)
        if cached_audio:
            bill.charge(side, "cache_read_audio", cached_audio, "token", sheet.cached_audio or read)
    if audio:
        bill.charge(side, "audio", audio, "token", sheet.audio)
    if image:
        bill.charge(side, "image", image, "token", sheet.image)
    if video:
        bill.charge(side, "video", video, "token", sheet.video)
    charge_written(bill, usage, sheet.write, sheet.write_1h, sheet.write_12h)


_COUNTS = (
    ("characters", "character", "input_cost_per_character"),
    ("images", "image", "input_cost_per_image"),
    ("audio_seconds", "second", "input_cost_per_audio_per_second"),
    ("video_seconds", "second", "input_cost_per_video_per_second"),
    ("queries", "query", "input_cost_per_query"),
)


def _charge_counts(bill: Bill, prices: Prices, usage: Usage) -> set[str]:
    """Add the lines of input that is not counted in tokens. Returns the kinds that have a rate: their tokens are free."""
    found = set()
    for kind, unit, field in _COUNTS:
        quantity = getattr(usage, kind)
        if quantity:
            bill.charge(bill.input, kind, quantity, unit, prices.get(field))
            if field in prices:
                found.add(kind)
    return found


def charge_output(bill: Bill, sheet: Sheet, usage: Usage) -> None:
    """Add the lines of the output: text, reasoning, audio, image and video tokens."""
    side, completion, reasoning = bill.output, usage.completion_tokens, usage.reasoning_tokens
    audio, image, video = usage.output_audio_tokens, usage.output_image_tokens, usage.output_video_tokens
    text = usage.output_text_tokens
    if text:  # some providers count reasoning in the text too
        text -= min(reasoning, text, max(text + reasoning + audio + image + video - completion, 0))
    if not text:
        text = max(completion - reasoning - audio - image - video, 0)
    if text:
        bill.charge(side, "output", text, "token", sheet.output)
    if reasoning:
        bill.charge(side, "reasoning", reasoning, "token", sheet.reasoning)
    if audio:
        bill.charge(side, "output_audio", audio, "token", sheet.output_audio)
    if image:
        bill.charge(side, "output_image", image, "token", sheet.output_image)
    if video:
        bill.charge(side, "output_video", video, "token", sheet.output_video)
