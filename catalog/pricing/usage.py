"""What one call used. Pure: no ORM, no clock, no settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from typing import Any, Protocol, Self

from catalog.errors import UsageError

KINDS = frozenset(
    {"", "tokens", "decisions", "image", "video", "speech", "transcription", "rerank", "search", "ocr"}
)  # fmt: skip
"""What `Usage.kind` may say; "" takes the kind from the mode of the model."""

_ZERO = Decimal(0)


class UsageRow(Protocol):
    """What `Usage.from_row` reads, as auditing.models.InferenceRequest has it. None = not reported."""

    created_at: datetime
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    other_units: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one call used. 0, "" and None mean: not used; where 0 and unknown differ, the default is None.

    Counts are ints; seconds, credits and money are Decimals (ints are taken too). prompt_tokens includes cached and
    written tokens, completion_tokens reasoning. Raises UsageError: `negative_count`, `not_finite`, `wrong_type` (a bool,
    float or text as a count, a naive `at`), `unknown_kind`.
    """

    kind: str = ""  # one of KINDS
    batch: bool = False
    estimated: bool = False  # the counts were not reported but guessed
    service_tier: str = ""
    data_residency: str = ""  # eu, us
    location: str = ""  # of Vertex
    inference_geo: str = ""
    speed: str = ""  # "fast"
    at: datetime | None = None  # aware; when the call was accepted
    provider_cost: Decimal | None = None  # US dollars; what the provider says that it charged

    # input
    prompt_tokens: int = 0  # with cached and written ones
    cached_tokens: int = 0
    cached_text_tokens: int = 0
    cached_audio_tokens: int = 0
    cached_image_tokens: int = 0
    cache_type: str = ""  # "ephemeral": an explicit cache
    cache_write_tokens: int = 0
    cache_write_5m_tokens: int = 0  # of which, by time to live
    cache_write_30m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_write_12h_tokens: int = 0
    text_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0
    video_tokens: int = 0
    citation_tokens: int = 0
    characters: int = 0
    images: int = 0
    audio_seconds: Decimal = _ZERO
    video_seconds: Decimal = _ZERO

    # output
    completion_tokens: int = 0  # with reasoning
    output_text_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    output_video_tokens: int = 0
    output_images: int = 0
    image_size: str = ""  # 1024x1024
    image_quality: str = ""
    image_resolution: str = ""  # 4K
    output_video_seconds: Decimal | None = None
    videos: int = 1
    resolution: str = ""  # of video: 720p

    # units
    duration_seconds: Decimal = _ZERO  # wall clock
    pages: int | None = None
    annotation_pages: int = 0
    credits: Decimal | None = None
    queries: int | None = None
    max_results: int = 10

    # tools
    web_searches: int = 0
    search_context: str = ""  # low, medium, high
    maps_requests: int = 0
    browser_opens: int = 0
    code_sessions: int = 0
    file_searches: int = 0

    def __post_init__(self) -> None:
        for name, default, value in zip(_NAMES, _DEFAULTS, _values(self), strict=True):
            if value is not default:
                taken = _READERS[name](name, value)
                if taken is not value:
                    object.__setattr__(self, name, taken)
        if self.kind not in KINDS:
            raise UsageError("unknown_kind", "kind", f"{self.kind[:64]!r} was given.")

    @property
    def other_units(self) -> dict[str, bool | int | str]:
        """The fields in use that the log of requests has no column for, by name, ready for JSON: Decimals as text."""
        return {
            name: str(value) if isinstance(value, Decimal) else value
            for name, default, value in zip(_NAMES, _DEFAULTS, _values(self), strict=True)
            if name not in _COLUMNS and value != default
        }

    @classmethod
    def from_row(cls, row: UsageRow) -> Self:
        """The usage that a row of the log keeps; created_at is `at`.

        None was not reported, which counts as not used. A Decimal may be any number or text of JSON. Raises UsageError:
        `unknown_field` for a unit of no name of ours, else as the constructor does.
        """
        known: dict[str, Any] = {}
        for name, value in (row.other_units or {}).items():
            if name in _COLUMNS or name not in _READERS:
                raise UsageError("unknown_field", "other_units", f"It holds {str(name)[:64]!r}.")
            if value is not None:
                known[name] = _from_json(name, value) if _READERS[name] is _amount else value
        for name in _COLUMNS - {"at"}:
            known[name] = getattr(row, name) or 0
        return cls(at=row.created_at, **known)


def count(name: str, value: object) -> int:
    """The value, if it is a whole number from 0. Raises UsageError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError("wrong_type", name, f"{_shown(value)} was given, no whole number.")
    if value < 0:
        raise UsageError("negative_count", name, "It is below 0.")
    if value > MAX_COUNT:
        raise UsageError("wrong_type", name, f"It is over {MAX_COUNT}.")
    return value


def _amount(name: str, value: object) -> Decimal:
    if isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    if not isinstance(value, Decimal):
        raise UsageError("wrong_type", name, f"{_shown(value)} was given, no Decimal.")
    if not value.is_finite():
        raise UsageError("not_finite", name, f"{value} was given.")
    if value < 0:
        raise UsageError("negative_count", name, "It is below 0.")
    if value > MAX_COUNT:
        raise UsageError("wrong_type", name, f"It is over {MAX_COUNT}.")
    if int(value.as_tuple().exponent) < -MAX_PLACES:  # its cost would be a text of as many digits
        raise UsageError("wrong_type", name, f"It has more than {MAX_PLACES} decimal places.")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise UsageError("wrong_type", name, f"{_shown(value)} was given, no text.")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError("wrong_type", name, f"{_shown(value)} was given, neither True nor False.")
    return value


def _instant(name: str, value: object) -> datetime:
    if not isinstance(value, datetime):
        raise UsageError("wrong_type", name, f"{_shown(value)} was given, no datetime.")
    if value.utcoffset() is None:
        raise UsageError("wrong_type", name, f"{value.isoformat()} has no time zone.")
    return value


def _from_json(name: str, value: object) -> object:
    """A number as JSON or the log writes it, as a Decimal; anything else as it is, for the constructor to refuse."""
    if isinstance(value, str | float):  # the shortest text of a float is what the file said
        try:
            return Decimal(str(value))
        except InvalidOperation:
            raise UsageError("wrong_type", name, f"{_shown(value)} was given, no number.") from None
    return value


def _shown(value: object) -> str:
    """A refused value, cut; of other types than these the type alone, for a repr may hold anything."""
    plain = value is None or isinstance(value, bool | float | str)
    return repr(value)[:64] if plain else f"a {type(value).__name__}"


MAX_COUNT = 2**63 - 1
MAX_PLACES = 60
_COLUMNS = frozenset(
    {"at", "prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"}
)
_BY_TYPE = {"str": _text, "bool": _flag, "int": count, "Decimal": _amount, "datetime": _instant}
_NAMES = tuple(field.name for field in fields(Usage))
_DEFAULTS = tuple(field.default for field in fields(Usage))
_READERS = {field.name: _BY_TYPE[str(field.type).removesuffix(" | None")] for field in fields(Usage)}
_values = attrgetter(*_NAMES)
