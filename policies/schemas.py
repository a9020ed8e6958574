"""What the config of a policy may say: one closed, strict schema per policy type.

A config is stored as its author wrote it; these models only judge it. Every top-level field may be left out or be null:
both mean "this policy says nothing about it". 0, false, [] and {} are values. docs/policies.md lists the fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from policies.periods import known_time_zone

MAX_CONFIG_BYTES = 65_536
MAX_DEPTH = 64
"""Objects and lists within each other, of a document that holds configs too. Far more could be written than be read again:
that ends with the stack of whoever reads."""
_PART = r"[A-Za-z0-9._:@+*?\[\]-]"
_PLAIN = r"[A-Za-z0-9._:@+\[\]-]"
_PATTERN = rf"^[A-Za-z0-9@*?]{_PART}*(/{_PART}+)*$"
_MODEL_ID = rf"^[a-z0-9][a-z0-9_.-]{{0,63}}(/{_PLAIN}+)+$"
_SLUG = r"^[a-z0-9][a-z0-9_.-]{0,63}$"
_ALIAS = r"^[a-z0-9][a-z0-9._:-]{0,63}$"
_GUARDRAIL = r"^[a-z][a-z0-9_-]{0,47}$"
_URI = r"^[a-z0-9]+://\S+$"
_MONEY = r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})?$"
_CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
_WORDS = {
    _PATTERN: "Write a model pattern, as gpt-4o* or openai/*: letters, digits, . _ : @ + - * ? [ ] and single slashes",
    _MODEL_ID: "Write the id of one model, as openai/gpt-4o, without * and ?",
    _SLUG: "Write a short name of lower-case letters, digits and . _ -, as eu-west-1",
    _ALIAS: "An alias has at most 64 lower-case letters, digits and . _ : -, as smart",
    _GUARDRAIL: "A guardrail's name begins with a lower-case letter, then letters, digits, _ and -, at most 48",
    _URI: "Write an address as s3://bucket/folder/*",
    _MONEY: "Write US dollars as text, as 50.00: no sign, no exponent, at most 6 decimals",
    _CLOCK: "Write a time as 09:00, from 00:00 to 23:59",
    "model_type": "Write a JSON object, as {}",
    "dict_type": "Write a JSON object, as {}",
    "list_type": "Write a JSON list, as []",
    "extra_forbidden": "There is no such field here. Remove it, or correct its name",
    "missing": "This field is needed",
}
"""What a person should do, by pydantic's type or by the pattern that was not met; pydantic's words for the rest."""
_NUL = re.compile(r"(?<!\\)(\\\\)*\\u0000")


def _unique(values: list[Any]) -> list[Any]:
    """Refuse a list that names one thing twice: the second mention would suggest an effect that it cannot have."""
    seen: set[Hashable] = set()
    for value in values:
        key = _identity(value)
        if key in seen:
            raise PydanticCustomError("duplicate_item", "An entry may appear once only")
        seen.add(key)
    return values


def _identity(value: Any) -> Hashable:
    # Models and patterns are compared without case, so two spellings of one are one.
    return value.lower() if isinstance(value, str) else value


def _zone(name: str) -> str:
    if not known_time_zone(name):
        raise PydanticCustomError("unknown_time_zone", "Not an IANA time zone, such as Europe/Berlin")
    return name


Unique = AfterValidator(_unique)
Pattern = Annotated[str, Field(pattern=_PATTERN, max_length=265)]
ModelId = Annotated[str, Field(pattern=_MODEL_ID, max_length=265)]
Slug = Annotated[str, Field(pattern=_SLUG)]
Slugs = Annotated[list[Slug], Field(max_length=64), Unique]
Patterns = Annotated[list[Pattern], Field(max_length=256), Unique]
AliasName = Annotated[str, Field(pattern=_ALIAS)]
GuardrailName = Annotated[str, Field(pattern=_GUARDRAIL)]
Uri = Annotated[str, Field(pattern=_URI, max_length=1200)]
Tokens = Annotated[int, Field(ge=0, le=2_000_000_000)]
Days = Annotated[int, Field(ge=0, le=36_500)]
Money = Annotated[str, Field(pattern=_MONEY)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Clock = Annotated[str, Field(pattern=_CLOCK)]
StorageMode = Literal["list", "read", "write", "delete"]


class Closed(BaseModel):
    """Strict: true is no number and "5" is no 5. Closed: a misspelt field is an error, not a dead rule."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ModelAccess(Closed):
    allow: Patterns | None = None
    deny: Patterns | None = None


class TokenCaps(Closed):
    max_input_tokens: Tokens | None = None
    max_output_tokens: Tokens | None = None
    max_total_tokens: Tokens | None = None
    default_max_output_tokens: Tokens | None = None
    on_exceed: Literal["clamp", "reject"] | None = None


class _Limit(Closed):
    """What every limit has. per: whose counter; models: only calls of these models count, absent = all calls."""

    per: Literal["scope", "app", "branch", "user", "key"] = "scope"
    models: Annotated[list[Pattern], Field(min_length=1, max_length=64), Unique] | None = None
    mode: Literal["shadow", "soft", "hard"] = "hard"


class RateLimitEntry(_Limit):
    metric: Literal["requests", "input_tokens", "output_tokens", "total_tokens", "concurrent"]
    limit: Annotated[int, Field(ge=0, le=1_000_000_000_000)]
    window: Literal["1s", "10s", "1m", "1h", "1d", "none"]

    @model_validator(mode="after")
    def _only_concurrent_has_no_window(self) -> Self:
        if (self.metric == "concurrent") != (self.window == "none"):
            raise PydanticCustomError("window_not_of_metric", 'The window is "none" for concurrent, and only for it')
        return self


class RateLimit(Closed):
    limits: Annotated[list[RateLimitEntry], Field(max_length=32)] | None = None


class BudgetEntry(_Limit):
    """limit: US dollars as decimal text, never a float. anchor: the day a week (1 = Monday) or month begins on."""

    window: Literal["hour", "day", "week", "month", "total"]
    limit: Money
    currency: Literal["USD"] = "USD"
    anchor: Annotated[int, Field(ge=1, le=28)] = 1
    alert_at: Annotated[list[Share], Field(max_length=5), Unique] | None = None

    @model_validator(mode="after")
    def _anchor_fits_window(self) -> Self:
        if "anchor" not in self.model_fields_set:
            return self
        if self.window not in ("week", "month"):
            raise PydanticCustomError("anchor_not_of_window", "Only a week or a month has an anchor")
        if self.window == "week" and self.anchor > 7:
            raise PydanticCustomError("anchor_out_of_range", "The anchor of a week is 1 (Monday) to 7")
        return self


class Budget(Closed):
    limits: Annotated[list[BudgetEntry], Field(max_length=16)] | None = None


class GuardrailEntry(Closed):
    """config is the guardrail's own; nobody here reads it."""

    stages: Annotated[list[Literal["input", "output", "tool_call"]], Field(min_length=1), Unique]
    action: Literal["off", "log", "mask", "block"] | None = None
    threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    config: dict[str, Any] | None = None


class Guardrail(Closed):
    fail_mode: Literal["open", "closed"] | None = None
    guardrails: Annotated[dict[GuardrailName, GuardrailEntry], Field(max_length=32)] | None = None


class Routing(Closed):
    strategy: Literal["priority", "fallback", "weighted", "least_cost", "least_latency"] | None = None
    targets: Annotated[list[ModelId], Field(max_length=16), Unique] | None = None
    aliases: Annotated[dict[AliasName, ModelId], Field(max_length=64)] | None = None
    timeout_ms: Annotated[int, Field(ge=1, le=600_000)] | None = None
    max_retries: Annotated[int, Field(ge=0, le=10)] | None = None
    providers: Slugs | None = None
    regions: Slugs | None = None


class Retention(Closed):
    max_days: Days | None = None
    min_days: Days | None = None
    log_bodies: bool | None = None
    redact_pii: bool | None = None
    zero_retention: bool | None = None


class StorageRule(Closed):
    uri: Uri
    modes: Annotated[list[StorageMode], Field(min_length=1), Unique]

    def __hash__(self) -> int:
        return hash((self.uri, frozenset(self.modes)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorageRule) and (self.uri, {*self.modes}) == (other.uri, {*other.modes})


class StorageAccess(Closed):
    allow: Annotated[list[StorageRule], Field(max_length=128), Unique] | None = None
    deny: Annotated[list[StorageRule], Field(max_length=128), Unique] | None = None


class ScheduleConfig(Closed):
    """Hours of the week in which a policy applies; what they mean: policies.periods.Schedule."""

    tz: Annotated[str, AfterValidator(_zone)]
    days: Annotated[list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]], Field(min_length=1), Unique]
    start: Clock
    end: Clock


SCHEMAS: Mapping[str, type[Closed]] = {
    "model_access": ModelAccess,
    "token_caps": TokenCaps,
    "rate_limit": RateLimit,
    "budget": Budget,
    "guardrail": Guardrail,
    "routing": Routing,
    "retention": Retention,
    "storage_access": StorageAccess,
}


@lru_cache(maxsize=20_000)
def stored_config_is_valid(policy_type: str, text: str) -> bool:
    """Whether a config read back from the database still fits its schema. Remembered by its text, so never stale."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):  # numbers and depths that only PostgreSQL takes
        return False
    return next(problems(SCHEMAS[policy_type], config), None) is None


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        lists = [
            one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list | tuple)
        ]
        level = [item for items in lists for item in items]
        if not level:
            return False
    return any(isinstance(one, dict | list | tuple) for one in level)


def problems(schema: type[Closed], value: Any, max_bytes: int = MAX_CONFIG_BYTES) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a config or schedule: (JSON path, code, sentence) of each fault, none if it fits.

    Paths read as in `limits.0.limit`, empty for the whole; codes are pydantic's types and those of this module.
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError):
        yield "", "not_json", "This is no JSON: NaN, Infinity, half characters and objects of Python cannot be stored"
        return
    if _is_deep(value):
        yield "", "too_deep", f"At most {MAX_DEPTH} objects and lists may lie within each other"
        return
    if _NUL.search(text):
        yield "", "null_character", "PostgreSQL cannot store the character U+0000"
        return
    try:
        schema.model_validate(value)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            words = _WORDS.get(fault.get("ctx", {}).get("pattern", fault["type"]), fault["msg"])
            yield ".".join(str(part) for part in fault["loc"]), fault["type"], words
    if size > max_bytes:
        yield "", "config_too_large", f"At most {max_bytes} bytes can be stored"
