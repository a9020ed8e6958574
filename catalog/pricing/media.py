"""What images, video, speech and transcription cost."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal

from catalog.pricing.bill import Bill
from catalog.pricing.markup import charge_uplifts
from catalog.pricing.prices import ONE, I, O, Prices, Rate
from catalog.pricing.rates import Rates
from catalog.pricing.tokens import charge_tokens, lacks_side
from catalog.pricing.usage import Usage

_PER_IMAGE = frozenset(
    {
        "fal_ai", "aiml", "recraft", "cometapi", "runwayml", "gemini", "vertex_ai", "azure_ai", "dashscope", "bedrock",
        "tencent",
    }
)  # fmt: skip
"""Providers, or families of them, that charge what `output_cost_per_image` says, and nothing else, by image."""

_TOKEN_RATES = (I, O, "input_cost_per_image_token", "output_cost_per_image_token")
_SIZE = re.compile(r"(\d{1,6})(?:x|-x-|\*)(\d{1,6})")
_MEGAPIXEL = 1_048_576


def charge_image(bill: Bill, rates: Rates, usage: Usage, worst: bool) -> bool:
    """Add the lines of images: by token where tokens are reported and priced, else by image or pixel, on the input."""
    if (usage.prompt_tokens or usage.completion_tokens) and any(name in rates.prices for name in _TOKEN_RATES):
        return _charge_by_token(bill, rates, _image_tokens(usage), "image", worst)
    if rates.provider == "fal_ai" and _charge_fal(bill, rates.prices, usage):
        return True
    flat = rates.prices.get("output_cost_per_image")
    if rates.family == "azure_ai" and not (flat and flat.value):
        return _charge_by_image_or_pixel(bill, rates.prices, usage)
    if not _PER_IMAGE & {rates.provider, rates.family}:
        return _charge_by_image_or_pixel(bill, rates.prices, usage)
    if rates.family == "dashscope" and usage.images:
        bill.charge(bill.input, "images", usage.images, "image", rates.prices.get("input_cost_per_image"))
    priced = _charge_images(bill, usage.output_images, "image", flat)
    charge_uplifts(bill, rates.uplifts, rates.family, "image", usage)
    return priced


def charge_video(bill: Bill, prices: Prices, usage: Usage) -> bool:
    """Add the lines of video: what the provider says, else by second of it."""
    if usage.provider_cost is not None:
        bill.charge(bill.output, "provider_cost", usage.provider_cost, "USD", Rate("", ONE))
        return True
    names = ("video_per_second", f"second_{usage.resolution.strip().lower()}", "second")
    by_second = next((rate for name in names if (rate := prices.get(f"output_cost_per_{name}"))), None)
    if by_second is None or usage.output_video_seconds is None:
        return False
    seconds = usage.output_video_seconds * usage.videos
    if seconds:
        bill.charge(bill.output, "video_seconds", seconds, "second", by_second)
    if usage.images:
        bill.charge(bill.input, "images", usage.images, "image", prices.get("input_cost_per_image"))
    return True


def charge_speech(bill: Bill, rates: Rates, usage: Usage, worst: bool) -> bool:
    """Add the lines of speech that is made: by character if there is such a rate, else by token."""
    by_character = rates.prices.get("input_cost_per_character")
    if by_character is None:
        return _charge_by_token(bill, rates, usage, "speech", worst)
    if usage.characters:
        bill.charge(bill.input, "characters", usage.characters, "character", by_character)
    return True


def charge_transcription(bill: Bill, rates: Rates, usage: Usage, worst: bool) -> bool:
    """Add the lines of a transcription: by token where tokens are reported and priced, else by second of audio."""
    prices, seconds = rates.prices, usage.audio_seconds
    reported = usage.prompt_tokens or usage.completion_tokens or usage.text_tokens or usage.audio_tokens
    if reported and (not seconds or any(name in prices for name in (I, O, "input_cost_per_audio_token"))):
        return _charge_by_token(bill, rates, usage, "transcription", worst)
    by_output, by_input = prices.get("output_cost_per_second"), prices.get("input_cost_per_second")
    side, rate = bill.input, by_input or by_output
    if by_output and by_output.value:
        side, rate = bill.output, by_output
    if seconds and rate:
        bill.charge(side, "audio_seconds", seconds, "second", rate)
    return rate is not None or not seconds


def _charge_by_token(bill: Bill, rates: Rates, usage: Usage, kind: str, worst: bool) -> bool:
    """By the rules of tokens, which are here the same in every family, service tiers too."""
    plan = rates.tokens.plan(usage)
    if kind != "image" and lacks_side(plan, usage):
        return False
    charge_tokens(bill, rates.tokens, plan, usage, worst)
    charge_uplifts(bill, rates.uplifts, rates.family, kind, usage)
    return True


def _image_tokens(usage: Usage) -> Usage:
    """The tokens of images as they are charged: no tier, no cache; what nobody assigned is image tokens, else text."""
    known = usage.output_text_tokens + usage.reasoning_tokens + usage.output_audio_tokens + usage.output_image_tokens
    text, image = usage.output_text_tokens, usage.output_image_tokens
    if known:
        text += max(usage.completion_tokens - known, 0)
    else:
        image = usage.completion_tokens
    return replace(
        usage, images=0, service_tier="", output_text_tokens=text, output_image_tokens=image,
        cached_tokens=0, cached_text_tokens=0, cached_audio_tokens=0, cached_image_tokens=0, cache_type="",
        cache_write_tokens=0, cache_write_5m_tokens=0, cache_write_30m_tokens=0, cache_write_1h_tokens=0,
        cache_write_12h_tokens=0,
    )  # fmt: skip


def _charge_fal(bill: Bill, prices: Prices, usage: Usage) -> bool:
    """By resolution, or by started megapixel where the size is known; False: it is charged by image."""
    by_resolution = prices.get(f"output_cost_per_image_{usage.image_resolution}")
    by_pixel, size = prices.get("output_cost_per_pixel"), _size(usage.image_size)
    if by_resolution:
        return _charge_images(bill, usage.output_images, "image", by_resolution)
    if by_pixel and size:
        started = -(-size[0] * size[1] // _MEGAPIXEL)
        return _charge_images(bill, usage.output_images * started * _MEGAPIXEL, "pixel", by_pixel)
    return False


def _charge_by_image_or_pixel(bill: Bill, prices: Prices, usage: Usage) -> bool:
    by_image = prices.get("input_cost_per_image") or prices.get("output_cost_per_image")
    if by_image:
        return _charge_images(bill, usage.output_images, "image", by_image)
    width, height = _size(usage.image_size) or (1024, 1024)
    return _charge_images(bill, usage.output_images * width * height, "pixel", prices.get("input_cost_per_pixel"))


def _charge_images(bill: Bill, quantity: int | Decimal, unit: str, rate: Rate | None) -> bool:
    if quantity and rate:
        bill.charge(bill.input, "output_images", quantity, unit, rate)
    return rate is not None


def _size(text: str) -> tuple[int, int] | None:
    """Width and height of an image, from 1024x1024, 1024-x-1024 or 1024*1024; None: neither."""
    found = _SIZE.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else None
