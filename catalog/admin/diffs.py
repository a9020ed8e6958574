"""The diff of a price file as a page shows it: filtered, sorted, searched, a page at a time. Works on plain JSON, so that a
diff that waits and one that was applied look the same."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.http import QueryDict

from catalog import units
from controlplane.core import display

PAGE = 50
MOST_FIELDS = 3
"""Fields of an entry that its row shows; the others fold."""

ORDINARY = frozenset({"unknown_price_field", "wrong_type", "bad_deprecation_date"})
"""Warnings that say where a field went; the others are doubts about a price, and stand beside it."""

TONES = {"added": "ok", "changed": "info", "removed": "warn", "kept": "", "flagged": "bad"}
VIEWS = ("all", "flagged", "changed", "added", "removed", "kept", "errors", "warnings")
SORTS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "": ("What to look at first", lambda entry: (not entry["flagged"], -abs(_percent(entry)), entry["key"])),
    "rise": ("Largest rise", lambda entry: (-_percent(entry), entry["key"])),
    "fall": ("Largest fall", lambda entry: (_percent(entry), entry["key"])),
    "key": ("Key", lambda entry: entry["key"]),
}


@dataclass(frozen=True, slots=True)
class Field:
    """A change of one field in words. per: the unit of both amounts."""

    name: str
    label: str
    old: str
    new: str
    per: str
    percent: str
    flagged: bool


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    change: str
    pill: str
    provider: str
    mode: str
    percent: str
    flagged: bool
    first: Sequence[Field]
    more: Sequence[Field]
    doubts: Sequence[str]
    can_apply: bool


@dataclass(frozen=True, slots=True)
class View:
    """What a page of a diff shows. tabs: (name, label, count, address, whether it is this one); issues: of the tabs errors
    and warnings; links: to the page before and after."""

    tabs: Sequence[dict[str, Any]]
    sorts: Sequence[dict[str, Any]]
    query: str
    shown: str
    sort: str
    entries: Sequence[Entry]
    issues: Sequence[dict[str, Any]]
    found: int
    first: int
    last: int
    previous: str
    next: str


def view(told: Mapping[str, Any], asked: QueryDict) -> View:
    """A page of a diff. told: as `Diff.as_json`, or the report of a PriceImport. asked: show, q, sort, page."""
    entries: list[dict[str, Any]] = told.get("entries", [])
    issues: list[dict[str, Any]] = told.get("issues", [])
    query, sort = asked.get("q", "").strip(), asked.get("sort", "")
    shown = asked.get("show", "")
    shown = shown if shown in VIEWS else "all"
    sort = sort if sort in SORTS else ""
    if shown in ("errors", "warnings"):
        rows = [issue for issue in issues if f"{issue['severity']}s" == shown and _matches(issue["key"], query)]
    else:
        chosen = (
            entry for entry in entries if shown in ("all", entry["change"]) or (shown == "flagged" and entry["flagged"])
        )
        rows = sorted((entry for entry in chosen if _matches(entry["key"], query)), key=SORTS[sort][1])
    doubts = defaultdict(list)
    for issue in issues:
        if issue["severity"] == "warning" and issue["code"] not in ORDINARY:
            doubts[issue["key"]].append(issue["code"])
    page = min(_number(asked.get("page", "")), max((len(rows) - 1) // PAGE + 1, 1))
    here = rows[(page - 1) * PAGE : page * PAGE]
    faults = shown in ("errors", "warnings")
    kept = {"show": "" if shown == "all" else shown, "q": query, "sort": sort}
    return View(
        tabs=list(_tabs(entries, issues, shown, kept)),
        sorts=[{"value": name, "label": label, "selected": name == sort} for name, (label, _) in SORTS.items()],
        query=query, shown=shown, sort=sort,
        entries=[] if faults else [_entry(entry, doubts[entry["key"]]) for entry in here],
        issues=here if faults else [],
        found=len(rows), first=(page - 1) * PAGE + 1 if rows else 0, last=(page - 1) * PAGE + len(here),
        previous=_address(kept | {"page": str(page - 1)}) if page > 1 else "",
        next=_address(kept | {"page": str(page + 1)}) if page * PAGE < len(rows) else "",
    )  # fmt: skip


def _tabs(entries: Sequence[Any], issues: Sequence[Any], shown: str, kept: dict[str, str]) -> Any:
    counts = Counter(entry["change"] for entry in entries) + Counter(f"{issue['severity']}s" for issue in issues)
    counts |= Counter(all=len(entries), flagged=sum(bool(entry["flagged"]) for entry in entries))
    for name in VIEWS:
        if counts[name] or name in ("all", shown):
            address = _address(kept | {"show": "" if name == "all" else name})
            yield {"label": name.capitalize(), "count": f"{counts[name]:,}", "url": address, "current": name == shown}


def _address(query: Mapping[str, str]) -> str:
    asked = QueryDict(mutable=True)
    asked.update({name: value for name, value in query.items() if value})
    return f"?{asked.urlencode()}"


def _matches(key: str, query: str) -> bool:
    return query.lower() in key.lower()


def _number(text: str) -> int:
    return max(int(text), 1) if text.isascii() and text.isdecimal() and len(text) < 7 else 1


def _percent(entry: Mapping[str, Any]) -> Decimal:
    return units.number(entry.get("percent")) or units.ZERO


def _entry(entry: Mapping[str, Any], doubts: Sequence[str]) -> Entry:
    fields = [_field(field, entry["mode"]) for field in entry.get("fields", [])]
    fields.sort(key=lambda field: (not field.flagged, not field.percent, not field.per))
    return Entry(
        key=entry["key"], change=entry["change"], pill=display.pill(entry["change"], TONES[entry["change"]]),
        provider=entry["provider"], mode=entry["mode"].replace("_", " "), flagged=entry["flagged"],
        percent=_signed(entry.get("percent")), first=fields[:MOST_FIELDS], more=fields[MOST_FIELDS:],
        doubts=[doubt.replace("_", " ") for doubt in doubts],
        can_apply=entry["change"] != "kept" or any(field["kind"] == "model" for field in entry.get("fields", [])),
    )  # fmt: skip


def _field(field: Mapping[str, Any], mode: str) -> Field:
    rate = field["kind"] == "rate"
    unit = units.unit_of(field["name"], mode) if rate else None
    return Field(
        name=field["name"],
        label=units.NAMED[field["name"]].label if field["name"] in units.NAMED else field["name"].replace("_", " "),
        old=_value(field["old"], unit),
        new=_value(field["new"], unit),
        per=f"per {unit.per}" if unit else "",
        percent=_signed(field["percent"]),
        flagged=field["flagged"],
    )


def _value(value: Any, unit: units.Unit | None) -> str:
    rate = units.number(value) if unit else None
    if unit and rate is not None:
        return units.amount(unit.shown(rate), 12)
    if value is None or value == "":
        return display.NOTHING
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = ", ".join(value) or "empty"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _signed(percent: str | None) -> str:
    number = units.number(percent)
    return "" if number is None else f"{number:+,.1f} %"
