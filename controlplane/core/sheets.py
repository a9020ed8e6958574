"""Cells of a CSV file that a spreadsheet opens as what they are. Pure."""

from __future__ import annotations

from typing import Any

# what a spreadsheet takes for the beginning of a formula, full-width letters too, and what it strips before it looks
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")


def cell(value: Any) -> Any:
    """A value for csv.writer: a text that begins as a formula gets a leading apostrophe; numbers stay numbers, None empty."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return "" if value is None else value
