"""A diff in words, for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from catalog.importing.diffing import Comparison, EntryDiff, FieldChange
from catalog.importing.parsing import Issue
from controlplane.core.commands import shown, table

SHOWN = 40
"""Lines of changes, and errors, that are shown; --json has all."""

_SUMMED = ("added", "removed", "changed", "unchanged", "kept", "flagged")


def summary(diff: Comparison) -> str:
    counts = diff.counts
    told = ", ".join(f"{counts[name]:,} {name}" for name in _SUMMED)
    return f"{diff.parsed.name}: {counts['entries']:,} entries: {told}."


def issues(diff: Comparison) -> Iterator[str]:
    """Each error; the warnings by code and field, as a file has hundreds of a kind."""
    errors = [issue for issue in diff.issues if issue.severity == "error"]
    for issue in errors[:SHOWN]:
        yield f"{diff.parsed.name}, {issue}"
    if len(errors) > SHOWN:
        yield f"and {len(errors) - SHOWN:,} more errors: --json shows all"
    kinds: dict[tuple[str, str], list[Issue]] = {}
    for issue in diff.issues:
        if issue.severity == "warning":
            kinds.setdefault((issue.code, issue.field), []).append(issue)
    for alike in kinds.values():
        others = f" (and {len(alike) - 1:,} more)" if len(alike) > 1 else ""
        yield f"{diff.parsed.name}, {alike[0]}{others}"


def changes(diff: Comparison) -> Iterator[str]:
    """What becomes of the models that are there, field by field; what is flagged, and moved most, first."""
    entries = [entry for entry in diff.entries if entry.change not in ("added", "unchanged")]
    entries.sort(key=lambda entry: (not entry.flagged, -abs(entry.percent or Decimal(0)), entry.key))
    rows = [row for entry in entries for row in _rows(entry)]
    if rows:
        yield table(["", "model", "field", "old", "new", "moved"], rows[:SHOWN])
    if len(rows) > SHOWN:
        yield f"and {len(rows) - SHOWN:,} more: --json shows all"


def _rows(entry: EntryDiff) -> Iterator[list[str]]:
    for number, field in enumerate(entry.fields or (FieldChange("", "", None, None),)):
        moved = "" if field.percent is None else f"{field.percent:+,.2f} %"
        yield [
            *([entry.change, entry.key] if number == 0 else ["", ""]), field.name, shown(field.old)[:40], shown(field.new)[:40],
            f"{moved} !" if field.flagged else moved,
        ]  # fmt: skip
