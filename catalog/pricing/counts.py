"""Counts of a usage as rules need them: without what is counted twice, never below 0."""

from __future__ import annotations

from catalog.pricing.bill import Bill
from catalog.pricing.prices import Rate
from catalog.pricing.usage import Usage


def uses_input(usage: Usage) -> bool:
    return bool(
        usage.prompt_tokens or usage.cached_tokens or usage.cache_write_tokens or usage.cache_write_5m_tokens
        or usage.cache_write_30m_tokens or usage.cache_write_1h_tokens or usage.cache_write_12h_tokens
        or usage.text_tokens or usage.audio_tokens or usage.image_tokens or usage.video_tokens or usage.citation_tokens
        or usage.characters or usage.images or usage.audio_seconds or usage.video_seconds or usage.queries
    )  # fmt: skip


def uses_output(usage: Usage) -> bool:
    return bool(
        usage.completion_tokens or usage.output_text_tokens or usage.reasoning_tokens or usage.output_audio_tokens
        or usage.output_image_tokens or usage.output_video_tokens
    )  # fmt: skip


def split(usage: Usage) -> tuple[int, int, int, int]:
    """Text, audio and image tokens without those that came from the cache, and the audio tokens that did."""
    text, audio, image, cached = usage.text_tokens, usage.audio_tokens, usage.image_tokens, usage.cached_tokens
    if not cached or not (usage.cached_audio_tokens or usage.cached_text_tokens or usage.cached_image_tokens):
        return text, audio, image, 0
    cached_audio = min(usage.cached_audio_tokens, cached)
    cached_text = min(usage.cached_text_tokens, cached - cached_audio)
    cached_image = min(usage.cached_image_tokens, cached - cached_audio - cached_text)
    return max(text - cached_text, 0), max(audio - cached_audio, 0), max(image - cached_image, 0), cached_audio


def fresh(usage: Usage) -> tuple[int, int, int, int, int]:
    """Text, audio, image and video tokens that are charged as such, and the cached audio tokens.

    Providers that count cached tokens in their parts too report more than the prompt: the parts share what is left of it.
    """
    text, audio, image, cached_audio = split(usage)
    video = usage.video_tokens
    prompt, kept = usage.prompt_tokens, usage.cached_tokens + usage.cache_write_tokens
    if kept and text + kept + audio + image + video > prompt:
        left = max(prompt - kept, 0)
        audio = min(audio, left)
        image = min(image, left - audio)
        video = min(video, left - audio - image)
        text = left - audio - image - video
    elif not text and not usage.images:
        text = max(prompt - kept - audio - image - video, 0)
    return text, audio, image, video, cached_audio


def charge_written(bill: Bill, usage: Usage, write: Rate | None, hour: Rate | None, half_day: Rate | None) -> None:
    """Add the lines of tokens written to a cache, by time to live; those without one cost as short ones do."""
    short = usage.cache_write_5m_tokens + usage.cache_write_30m_tokens
    hours, half_days = usage.cache_write_1h_tokens, usage.cache_write_12h_tokens
    plain = max(usage.cache_write_tokens - hours - half_days, short)
    if plain:
        bill.charge(bill.input, "cache_write", plain, "token", write)
    if hours:
        bill.charge(bill.input, "cache_write_1h", hours, "token", hour)
    if half_days:
        bill.charge(bill.input, "cache_write_12h", half_days, "token", half_day)
