"""Calls written down as JSON, priced one by one: to try prices, and to compare with what somebody else charges."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from catalog.errors import BadCase, CatalogError, UsageError
from catalog.models import AIModel
from catalog.pricing import Cost, Rates, Usage, cost
from tenants.models import Tenant

_COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")


def evaluate(lines: Iterable[str], *, at: datetime, tenant: Tenant | None = None) -> Iterator[dict[str, Any]]:
    """Each case with what it costs added to it: input, output, tools, total (US dollars as text) and status, or error.

    A line is a JSON object: `model` (key), `ask` (name, provider) or `rates` (`{"flat": {"input": …, "output": …}}`), and
    `usage`, the fields of Usage, seconds and money as text; without it nothing was used. error: the code of what resolving
    or pricing raised; a line that is no case has `bad_case`. Prices are those of the instant `at` (aware); the usage's own
    `at` opens time windows alone.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _answer(number, line, at, tenant)


def _answer(number: int, line: str, at: datetime, tenant: Tenant | None) -> dict[str, Any]:
    case: dict[str, Any] = {"line": number}
    try:
        case = _read(line)
        return case | _shown(_cost(case, at, tenant))
    except CatalogError as error:
        return case | {"error": error.code, "message": error.message}


def _read(line: str) -> dict[str, Any]:
    try:
        case = json.loads(line, parse_constant=_refused)
    except ValueError as error:
        raise BadCase(f"no JSON ({error})") from None
    except RecursionError:
        raise BadCase("too deep") from None
    if not isinstance(case, dict):
        raise BadCase("no object")
    return case


def _refused(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _cost(case: Mapping[str, Any], at: datetime, tenant: Tenant | None) -> Cost:
    usage = read_usage(_object(case, "usage") if "usage" in case else {})
    if case.get("rates") is not None:
        flat = _object(_object(case, "rates"), "flat")
        try:
            return cost(Rates.flat(**flat), usage)
        except TypeError:
            raise BadCase("`rates.flat` has other fields than input, output, cache_read and cache_write") from None
    asked = {"name": case["model"]} if case.get("model") is not None else _asked(_object(case, "ask"), usage)
    if not all(isinstance(word, str) for word in asked.values()):
        raise BadCase("the names of the model and provider are texts")
    return AIModel.objects.resolve(**asked, tenant=tenant).cost(usage, at=at)


def _asked(ask: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
    asked = {"name": ask.get("name"), "provider": ask.get("provider") or ""}
    return asked | {"size": usage.image_size, "quality": usage.image_quality}


def read_usage(fields: Mapping[str, Any]) -> Usage:
    """A usage as JSON says it: counts as numbers, seconds and money as text, `at` as ISO 8601. Raises UsageError."""
    rest = {name: value for name, value in fields.items() if name not in (*_COUNTS, "at")}
    try:
        at = None if fields.get("at") is None else datetime.fromisoformat(fields["at"])
    except (TypeError, ValueError):
        raise UsageError("wrong_type", "at", f"{str(fields['at'])[:64]!r} was given, no time.") from None
    counts = {name: fields.get(name) for name in _COUNTS}
    return Usage.from_row(SimpleNamespace(created_at=at, other_units=rest, **counts))


def _object(case: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = case.get(name)
    if not isinstance(value, dict):
        raise BadCase(f"`{name}` is missing, or no object")
    return value


def _shown(cost: Cost) -> dict[str, Any]:
    amounts = {"input": cost.input, "output": cost.output, "tools": cost.tools, "total": cost.total}
    return {name: None if amount is None else f"{amount:f}" for name, amount in amounts.items()} | {
        "status": cost.status, "unrated": list(cost.unrated), "price_id": cost.price_id and str(cost.price_id),
    }  # fmt: skip
