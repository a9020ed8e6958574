"""Two weeks of calls of the demo's apps, made up: the same arguments give the same calls. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from math import log
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

DAYS = 14

_DAY = {
    "office": (1, 1, 1, 1, 1, 2, 6, 16, 40, 62, 70, 66, 44, 58, 68, 64, 50, 30, 14, 8, 5, 3, 2, 1),
    "evening": (14, 7, 4, 2, 2, 3, 8, 16, 24, 28, 30, 34, 42, 38, 32, 32, 36, 44, 58, 72, 80, 70, 48, 28),
    "night": (60, 66, 70, 64, 52, 40, 26, 12, 6, 4, 4, 4, 4, 4, 4, 5, 6, 10, 18, 30, 42, 50, 56, 58),
    "batch": (4, 90, 100, 96, 70, 20, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3),
}
"""Weight of each local hour."""

_WEEK = {
    "office": (1.0, 1.08, 1.1, 1.04, 0.86, 0.16, 0.1),
    "evening": (0.82, 0.84, 0.9, 0.98, 1.2, 1.4, 1.3),
    "night": (0.94, 0.9, 0.9, 0.95, 1.15, 1.25, 1.05),
    "batch": (1.0, 1.0, 1.0, 1.0, 1.0, 0.3, 0.6),
}
"""Weight of each weekday, Monday first."""

_FAILURES = (
    ("provider_overloaded", "The provider is overloaded.", 40),
    ("rate_limited", "The provider's rate limit is reached.", 30),
    ("timeout", "No answer within 60 s.", 20),
    ("content_filtered", "The provider's filter stopped the answer.", 10),
)


@dataclass(frozen=True, slots=True)
class Mix:
    """One way in which an app uses a model. prompt, completion: median tokens; speed: output tokens a second."""

    model: str
    weight: int
    prompt: int
    completion: int
    speed: int = 80
    asked_as: str = ""
    cached: float = 0.0
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """How an app is used. calls: of the two weeks; ends: it has been quiet for that many days."""

    tenant: str
    app: str
    calls: int
    rhythm: str
    mixes: tuple[Mix, ...]
    quiet_days: int = 0


PROFILES = (
    Profile(
        "marlow-daughters", "readers-desk", 5600, "evening",
        (
            Mix("anthropic/claude-haiku-5-5", 70, 900, 180, 140, "quick", 0.5, streamed=True),
            Mix("anthropic/claude-sonnet-5-5", 22, 1600, 420, 85, cached=0.5, streamed=True),
            Mix("openai/gpt-5.4-mini", 8, 700, 160, 150, streamed=True),
        ),
    ),
    Profile(
        "marlow-daughters", "manuscripts", 1100, "office",
        (
            Mix("anthropic/claude-opus-5-5", 45, 38000, 1500, 55, "thorough", 0.7, streamed=True),
            Mix("anthropic/claude-sonnet-5-5", 55, 14000, 900, 85, "house-style", 0.6, streamed=True),
        ),
    ),
    Profile(
        "marlow-daughters", "back-catalogue", 3300, "batch",
        (
            Mix("openai/gpt-5.4-nano", 55, 1200, 210, 190),
            Mix("openai/text-embedding-3-large", 45, 480, 0, 0),
        ),
    ),
    Profile(
        "nordlys-klinikk", "discharge-letters", 4700, "office",
        (
            Mix("mistral/mistral-large-4", 88, 3200, 640, 75, "journal", streamed=True),
            Mix("mistral/mistral-medium-3-5", 12, 1500, 300, 110, streamed=True),
        ),
    ),
    Profile(
        "nordlys-klinikk", "night-line", 2600, "night",
        (
            Mix("mistral/mistral-medium-3-5", 75, 650, 120, 110, streamed=True),
            Mix("mistral/mistral-large-4", 25, 1100, 240, 75, "journal", streamed=True),
        ),
    ),
    Profile(
        "nordlys-klinikk", "coding", 3500, "batch",
        (
            Mix("mistral/mistral-medium-3-5", 60, 2100, 90, 110),
            Mix("mistral/mistral-embed", 40, 380, 0, 0),
        ),
    ),
    Profile(
        "tamarind-travel", "trip-planner", 6200, "evening",
        (
            Mix("gemini/gemini-3.8-flash", 68, 1400, 350, 170, "quick", 0.4, streamed=True),
            Mix("openai/gpt-5.6", 32, 2600, 700, 90, cached=0.4, streamed=True),
        ),
    ),
    Profile(
        "tamarind-travel", "concierge", 2400, "evening",
        (
            Mix("openai/gpt-5.6", 60, 9000, 380, 90, cached=0.7),
            Mix("anthropic/claude-sonnet-5-5", 40, 7600, 420, 85, cached=0.7),
        ),
    ),
    Profile(
        "tamarind-travel", "fare-watch", 600, "office",
        (Mix("gemini/gemini-3.8-flash", 100, 820, 60, 170),), quiet_days=6,
    ),
)  # fmt: skip


BEFORE = Profile("nordlys-klinikk", "night-line", 240, "night", PROFILES[4].mixes)
"""A few calls of the month before, so that there is a month to close."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A key that calls: its id, and what it is bound to. weight: its share of the app's calls."""

    api_key: object
    branch: object = None
    user: object = None
    weight: int = 1


def calls(
    profile: Profile, zone: str, tenant: object, app: object, callers: Sequence[Caller], end: datetime
) -> Iterator[dict[str, Any]]:
    """Calls of an app in the 14 days before `end` (aware), in time, as `ingest` takes them. zone: the tenant's."""
    draw = Random(f"{profile.tenant}/{profile.app}")  # noqa: S311 - made-up figures
    shares = list(accumulate(mix.weight for mix in profile.mixes))
    parts = list(accumulate(caller.weight for caller in callers))
    for number, at in enumerate(_instants(profile, ZoneInfo(zone), end, draw), 1):
        caller = draw.choices(callers, cum_weights=parts)[0]
        mix = draw.choices(profile.mixes, cum_weights=shares)[0]
        yield {
            "request_id": f"demo-{profile.app}-{number:05d}",
            "created_at": at,
            "tenant_id": tenant,
            "app_id": app,
            "branch_id": caller.branch,
            "user_id": caller.user,
            "api_key_id": caller.api_key,
            "provider": mix.model.partition("/")[0],
            "model": mix.model,
            "requested_model": mix.asked_as or None,
            **_outcome(mix, draw, troubled=_in_outage(mix, at, end)),
        }


def month_before(end: datetime) -> datetime:
    """An instant at whose two weeks before it is the month before that of `end`, wherever one is."""
    return end.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(hours=14)


def _instants(profile: Profile, zone: ZoneInfo, end: datetime, draw: Random) -> list[datetime]:
    hours = [end - timedelta(hours=n) for n in range(DAYS * 24, profile.quiet_days * 24, -1)]
    local = [hour.astimezone(zone) for hour in hours]
    day, week = _DAY[profile.rhythm], _WEEK[profile.rhythm]
    weights = [day[at.hour] * week[at.weekday()] * draw.lognormvariate(0, 0.18) for at in local]
    whole = sum(weights)
    found = []
    for hour, weight in zip(hours, weights, strict=True):
        expected = profile.calls * weight / whole
        found += [
            hour + timedelta(microseconds=int(draw.random() * 3_600e6)) for _ in range(int(expected + draw.random()))
        ]
    return sorted(found)


def _in_outage(mix: Mix, at: datetime, end: datetime) -> bool:
    """Five days ago OpenAI had two bad hours: failures are not spread evenly in life either."""
    began = end - timedelta(days=5, hours=3)
    return mix.model.startswith("openai/") and began <= at < began + timedelta(hours=2)


def _outcome(mix: Mix, draw: Random, *, troubled: bool) -> dict[str, Any]:
    prompt = max(8, int(draw.lognormvariate(log(mix.prompt), 0.55)))
    wait = draw.lognormvariate(log(320 + prompt / 60), 0.35)
    fate = draw.random()
    if fate < (0.3 if troubled else 0.016):
        code, error, _ = draw.choices(_FAILURES, weights=[weight for *_, weight in _FAILURES])[0]
        late = 60_000 if code == "timeout" else int(wait)
        return {
            "status": "failed", "error_code": code, "error": error, "cost": Decimal(0), "latency_ms": late,
            "stream": mix.streamed,
        }  # fmt: skip
    if not mix.completion:
        return {"status": "completed", "prompt_tokens": prompt, "completion_tokens": 0, "latency_ms": int(wait / 4)}
    completion = max(1, int(draw.lognormvariate(log(mix.completion), 0.6)))
    cancelled = mix.streamed and fate > 0.992
    if cancelled:
        completion = max(1, int(completion * draw.random()))
    return {
        "status": "cancelled" if cancelled else "completed",
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cached_tokens": int(prompt * mix.cached * draw.random()) if mix.cached else None,
        "latency_ms": int(wait + 1000 * completion / mix.speed),
        "ttft_ms": int(wait) if mix.streamed else None,
        "stream": mix.streamed,
    }


BAD_ROWS: tuple[dict[str, Any], ...] = (
    {"prompt_tokens": -120, "completion_tokens": 40},
    {"prompt_tokens": 400, "completion_tokens": 50, "cached_tokens": 900},
    {"prompt_tokens": "about 300", "completion_tokens": 25},
    {"prompt_tokens": 210, "completion_tokens": 35, "colour": "teal"},
    {"prompt_tokens": 180, "completion_tokens": 20, "status": "finished"},
)
"""What a careless exporter sends; beside these fields such a row is complete."""


def bad_rows(tenant: object, end: datetime) -> Iterator[dict[str, Any]]:
    """Rows that `ingest` refuses, each for a reason of its own."""
    for number, wrong in enumerate(BAD_ROWS, 1):
        at = end - timedelta(days=number, hours=2)
        named = {"provider": "openai", "model": "openai/gpt-5.4-mini", "tenant_id": tenant, "created_at": at}
        yield {"request_id": f"demo-export-{number}", **named, **wrong}
