"""A price file beside what is held: what each entry changes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Context, Decimal
from typing import Any

from catalog.importing.diffing import MANUAL, Comparison, Conditions, EntryDiff, FieldChange, Held, Snapshot
from catalog.importing.mapping import Mapped
from catalog.importing.parsing import Issue, Parsed
from catalog.importing.validating import leaves
from catalog.names import lowered
from catalog.units import number, ten_times_off

_EXACT = Context(prec=80)
_NO_RATE = re.compile(r".*(range\[\d+\]|\.count|weekdays(\[\d+\])?|hours_utc(\[\d+\])?)")


def compare(parsed: Parsed, held: Snapshot, conditions: Conditions) -> Comparison:
    """What a file changes. Its entries that cannot be taken beside what is held become errors."""
    entries, late = [], []
    warnings: dict[str, list[Issue]] = {}
    for issue in parsed.issues:
        warnings.setdefault(issue.key, []).append(issue)
    for key, mapped in parsed.entries.items():
        model = held.models.get(lowered(key))
        if refused := _refused(mapped, model, held, conditions):
            late.append(parsed.issue(key, *refused))
            continue
        found = _entry(mapped, model, conditions)
        entries.append(replace(found, warnings=tuple(warnings.get(key, ()))))
    ours = [model for model in held.models.values() if model.source == conditions.source and not model.unlisted]
    if conditions.tenant is None:
        named = {lowered(key) for key in (*parsed.entries, *parsed.blocked)}
        entries += [_removed(model) for model in ours if lowered(model.key) not in named]
    entries.sort(key=lambda entry: entry.key)
    issues = tuple(sorted((*parsed.issues, *late), key=lambda issue: issue.line))
    priced = sum(model.price is not None for model in ours)
    return Comparison(parsed, conditions, tuple(entries), issues, len(ours), priced)


def _refused(mapped: Mapped, model: Held | None, held: Snapshot, conditions: Conditions) -> tuple[str, str] | None:
    """Code and message of an entry that cannot be taken beside what is held."""
    if model is not None and model.key != mapped.key:
        return "key_collision", f"There is a model {model.key!r}, the same but for the case. Rename one of them."
    if model is None and conditions.tenant is not None:
        return "unknown_model", "There is no such model; a tenant's prices are of models that are there."
    if model is None and lowered(mapped.key) in held.aliases:
        return "alias_taken", "An alias for everybody has this name. Rename or delete it first."
    return None


def _entry(mapped: Mapped, model: Held | None, conditions: Conditions) -> EntryDiff:
    if model is None:
        rates = tuple(_rates({}, mapped.rates, conditions.threshold))
        price = "insert" if mapped.rates else ""
        return EntryDiff(mapped.key, "added", mapped.provider, mapped.columns["mode"], rates, price, mapped, None)
    price, own, list_import = "", model.price, conditions.tenant is None
    if own is None and mapped.rates:
        price = "insert"
    elif own is not None and own.fingerprint != mapped.fingerprint:
        price = "replace" if mapped.rates else "end"
    changes: list[FieldChange] = []
    if price:
        changes += _rates(model.shown.rates if model.shown else {}, mapped.rates, conditions.threshold)
    if list_import:
        changes += _columns(mapped, model, conditions.source)
    change = "changed" if changes or price else "unchanged"
    if own is not None and own.source == MANUAL and price:
        change, price = "kept", ""
    elif price == "insert" and not list_import:
        change = "added"
    provider = mapped.provider if list_import else model.provider
    return EntryDiff(mapped.key, change, provider, mapped.columns["mode"], tuple(changes), price, mapped, model)


def _removed(model: Held) -> EntryDiff:
    return EntryDiff(model.key, "removed", model.provider, model.columns["mode"], (), "", None, model)


def _columns(mapped: Mapped, model: Held, source: str) -> Iterator[FieldChange]:
    """What changes in the row of the model; of flags and extra, field by field."""
    if mapped.provider != model.provider:  # the canonical id changes, which policies match on
        yield FieldChange("provider", "model", model.provider, mapped.provider, flagged=True)
    if model.source != source:
        yield FieldChange("source", "model", model.source or MANUAL, source)
    if model.unlisted:
        yield FieldChange("unlisted_at", "model", "unlisted", None)
    if model.columns == mapped.columns:
        return
    for name, new in mapped.columns.items():
        old = model.columns[name]
        if name in ("flags", "extra"):
            for inner in {**old, **new}:
                if old.get(inner) != new.get(inner) or (inner in old) != (inner in new):
                    yield FieldChange(inner, "model", old.get(inner), new.get(inner))
        elif old != new:
            yield FieldChange(name, "model", old, new)


def _rates(old: Mapping[str, Any], new: Mapping[str, Any], threshold: Decimal) -> Iterator[FieldChange]:
    before = {path: value for name, rate in old.items() for path, value in leaves(rate, name)}
    after = {path: value for name, rate in new.items() for path, value in leaves(rate, name)}
    for path in {**after, **before}:
        was, becomes = before.get(path), after.get(path)
        if was == becomes and (path in before) == (path in after):
            continue
        old_rate, new_rate = number(was), number(becomes)
        if old_rate is not None and old_rate == new_rate:
            continue
        percent, flagged = (None, False) if _NO_RATE.fullmatch(path) else _move(old_rate, new_rate, threshold)
        yield FieldChange(path, "rate", was, becomes, percent, flagged and bool(old))


def _move(old: Decimal | None, new: Decimal | None, threshold: Decimal) -> tuple[Decimal | None, bool]:
    """By how many percent a rate moved, and whether somebody should look: by more than the threshold or ten times, from or
    to 0, or gone."""
    if old is None or new is None:
        return None, old is not None
    if not old:
        return None, True
    percent = _EXACT.divide(_EXACT.multiply(_EXACT.subtract(new, old), Decimal(100)), old)
    flagged = abs(percent) > threshold or ten_times_off(old, new)
    return _EXACT.quantize(percent, Decimal("0.01")), flagged
