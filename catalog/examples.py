"""What ordinary calls cost by a price, in sentences: how a person sees that a rate is right. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from catalog import units
from catalog.pricing import Rates, Usage, cost

_TOKENS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("1,000 in + 500 out", {"prompt_tokens": 1_000, "completion_tokens": 500}),
    (
        "100,000 in, of which 90,000 cached, + 2,000 out",
        {"prompt_tokens": 100_000, "cached_tokens": 90_000, "completion_tokens": 2_000},
    ),
)
_BY_KIND: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "image": (("1 image", {"output_images": 1}),),
    "video": (("10 seconds of video", {"output_video_seconds": Decimal(10)}),),
    "speech": (("1,000 characters", {"characters": 1_000}),),
    "transcription": (("1 minute of audio", {"audio_seconds": Decimal(60)}),),
    "rerank": (("1 query", {"queries": 1}),),
    "search": (("1 query", {"queries": 1}),),
    "ocr": (("1 page", {"pages": 1}),),
}


def examples(rates: Rates, at: datetime, before: Rates | None = None) -> Iterator[str]:
    """Sentences such as `1,000 in + 500 out = 0.0075 USD`. at: aware; before: the price that these rates replace."""
    for words, used in _BY_KIND.get(rates.kind, _TOKENS):
        usage = Usage(at=at, **used)
        told = _told(rates, usage)
        was = "" if before is None else _told(before, usage)
        yield f"{words} = {told}" + (f", before {was}" if was and was != told else "")


def _told(rates: Rates, usage: Usage) -> str:
    total = cost(rates, usage).total
    return "unpriced" if total is None else f"{units.plain(total)} USD"
