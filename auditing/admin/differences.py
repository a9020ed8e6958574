"""What a change did, field by field, as people compare it: an old and a new column."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from django.utils.text import Truncator

MOST = 60
LONG = 240
_DEPTH = 4
_INSTANT = re.compile(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d(?:\.\d+)?)(?:\+00:00|Z)$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Change:
    """A field before and after, as text; None: it has no value on that side. whole: in full, where the text is cut."""

    field: str
    before: str | None
    after: str | None
    whole: str = ""


def changes(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[Change]:
    """The fields of a row of the log that have a value on a side, by name; of objects the parts that differ, as `config.region`.

    A secret stays `[redacted]` on both sides, and still shows as changed. At most MOST, then one line that says how many
    are left out.
    """
    found = [
        _change(path, was, becomes)
        for path, was, becomes in _pairs(before or {}, after or {}, "", _DEPTH)
        if was is not None or becomes is not None
    ]
    if len(found) > MOST:
        return [*found[:MOST], Change(f"… and {len(found) - MOST} more", None, None)]
    return found


def _pairs(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str, depth: int
) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted({*before, *after}):
        was, becomes, path = before.get(name), after.get(name), f"{prefix}{name}"
        if depth and _is_object(was) and _is_object(becomes):
            yield from _pairs(was, becomes, f"{path}.", depth - 1)
        elif not prefix or was != becomes:
            yield path, was, becomes


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and "$sha256" not in value


def _change(path: str, was: Any, becomes: Any) -> Change:
    sides = [_text(was), _text(becomes)]
    cut = [None if text is None else Truncator(text).chars(LONG) for text in sides]
    whole = "" if cut == sides else " → ".join(text or "nothing" for text in sides)[:4000]
    return Change(path, cut[0], cut[1], whole)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return _INSTANT.sub(r"\1 \2Z", value)
    if isinstance(value, dict) and {"$sha256", "$bytes"} <= value.keys():
        return f"{value['$bytes']} bytes, SHA-256 {value['$sha256']}"
    return json.dumps(value, ensure_ascii=False)
