"""Facts as the text that COPY reads: a line per row, what is the same in all rows written once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from json.encoder import encode_basestring_ascii as quoted
from typing import Any
from uuid import UUID

from auditing.columns import KINDS
from auditing.pricer import Price
from auditing.validation import Facts
from auditing.values import TOKENS
from controlplane.core.ids import number_of

_NULL = "\\N"
_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_AT_ONCE = 500

_Render = Callable[[Sequence[Any]], list[str]]
"""From the values of a column to their texts."""

COLUMNS = (
    "id", *(name for name in KINDS if name not in Price._fields), *Price._fields, "booked_at", "time_zone", "local_date",
    "source",
)  # fmt: skip
"""Columns of the log that a row from elsewhere fills."""


class Lines:
    """The lines of some facts, each rendered once, when it is asked for. columns: the names of what stands in a line; columns
    that no row fills are left out. prices: what the facts from one place to another cost."""

    def __init__(self, facts: Facts, prices: Callable[[int, int], Sequence[Price]], source: str) -> None:
        given: dict[str, Sequence[Any]] = {**facts.columns, "source": [source]}
        given = {name: values for name, values in given.items() if name not in Price._fields}
        same = {name: text for name, values in given.items() if (text := _same(name, values)) is not None}
        self._varying = {name: values for name, values in given.items() if name not in same}
        same = {name: text for name, text in same.items() if text != _NULL}
        self.columns = (*same, "id", *Price._fields, *self._varying)
        self._prefix = "".join(f"{text}\t" for text in same.values())
        self._facts, self._prices = facts, prices
        self._lines: list[str] = []

    def text(self, start: int, end: int) -> Iterator[str]:
        """The lines from start to end, some at a time."""
        for at in range(start, end, _AT_ONCE):
            stop = min(at + _AT_ONCE, end)
            while len(self._lines) < stop:
                self._render(len(self._lines), len(self._lines) + _AT_ONCE)
            yield "\n".join(self._lines[at:stop]) + "\n"

    def _render(self, start: int, end: int) -> None:
        varying = {name: values[start:end] for name, values in self._varying.items()}
        priced = zip(Price._fields, zip(*self._prices(start, end), strict=True), strict=True)
        columns = [_RENDER[name](values) for name, values in chain(priced, varying.items())]
        prefixed = [f"{self._prefix}{id:032x}" for id in _ids(self._facts.columns, start, end)]
        self._lines += map("\t".join, zip(prefixed, *columns, strict=True))


def _ids(columns: Mapping[str, Sequence[Any]], start: int, end: int) -> list[int]:
    """As `uuid7_of` makes them of the time, the tenant and its request id."""
    tenants, seeds = columns["tenant_id"][start:end], {}
    for tenant in tenants:
        if id(tenant) not in seeds:
            seeds[id(tenant)] = tenant.bytes + b"\x00"
    return [
        number_of(at, seeds[id(tenant)] + request.encode())
        for at, tenant, request in zip(
            columns["created_at"][start:end], tenants, columns["request_id"][start:end], strict=True
        )
    ]


def _same(name: str, values: Sequence[Any]) -> str | None:
    """The text of a column whose values are all the same; None: they are not, or it takes long to see."""
    first = values[0]
    equal = type(first) is str and values[-1] == first and values.count(first) == len(values)
    if not equal and (values[-1] is not first or any(value is not first for value in values)):
        return None
    return _RENDER[name]([first])[0]


def _texts(values: Sequence[str | None]) -> list[str]:
    if None in values or _SPECIAL.search("".join(values)):  # type: ignore[arg-type]
        return [_NULL if value is None else value.translate(_ESCAPES) for value in values]
    return values  # type: ignore[return-value]


def _each(render: Callable[[Any], str]) -> _Render:
    return lambda values: [_NULL if value is None else render(value) for value in values]


def _uuids(values: Sequence[UUID | None]) -> list[str]:
    distinct = {id(value): value for value in values}  # they are few, and their texts dear
    texts = {key: _NULL if value is None else str(value).translate(_ESCAPES) for key, value in distinct.items()}
    return [texts[id(value)] for value in values]


_quoted_name = lru_cache(maxsize=256)(quoted)


def _json(value: Mapping[str, Any]) -> str:
    try:  # names and texts, as most breakdowns are, at a third of the time of json.dumps
        text = "{" + ", ".join([f"{_quoted_name(name)}: {quoted(item)}" for name, item in value.items()]) + "}"
    except TypeError:
        text = json.dumps(value)
    return text.translate(_ESCAPES) if "\\" in text else text


_KINDS: dict[_Render, tuple[str, ...]] = {
    _texts: ("request_id", "provider", "model", "requested_model", "status", "pricing_status", "error_code", "error",
             "time_zone", "source"),
    _uuids: ("tenant_id", "app_id", "branch_id", "user_id", "api_key_id", "price_id"),
    _each(datetime.isoformat): ("created_at", "booked_at"),
    _each(_json): ("other_units", "cost_breakdown", "metadata"),
    _each(lambda value: "t" if value else "f"): ("stream",),
    _each(str): ("local_date", "cost", "latency_ms", "ttft_ms", *TOKENS),
}  # fmt: skip
_RENDER: dict[str, _Render] = {name: render for render, names in _KINDS.items() for name in names}
