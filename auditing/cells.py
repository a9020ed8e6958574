"""Values as cells of a CSV file that no spreadsheet takes for a formula."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from types import NoneType
from typing import Any

from controlplane.core.ids import iso

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")
"""What a text begins with that a spreadsheet may run (OWASP, CSV injection), full-width forms too."""


def line(values: Iterable[Any]) -> str:
    """A record of a CSV file with its line end: texts quoted, numbers plain, None empty."""
    return ",".join([_CELLS.get(type(value), _text)(value) for value in values]) + "\r\n"


def _text(value: Any) -> str:
    text = value if type(value) is str else plain(value)
    if text.startswith(_FORMULA):
        text = "'" + text
    return '"' + (text.replace('"', '""') if '"' in text else text) + '"'


_CELLS: dict[type, Callable[[Any], str]] = {
    NoneType: lambda value: "",
    bool: lambda value: "true" if value else "false",
    int: str,
    float: str,
    Decimal: lambda value: f"{value:f}",
}


def plain(value: Any) -> str:
    """A value as text: an instant in UTC, a date, an object as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, date):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
