"""What a price file would change: the shapes. Pure; how it is found out is in `comparing`."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from catalog.errors import ImportRefused
from catalog.importing.mapping import Mapped
from catalog.importing.parsing import Issue, Parsed

MAX_GONE = Decimal("0.10")
MAX_UNPRICED = Decimal("0.05")
MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class HeldPrice:
    id: UUID
    rates: Mapping[str, Any]
    fingerprint: str
    source: str


@dataclass(frozen=True, slots=True)
class Held:
    """A model as it is in the database. columns: as Mapped.columns. price: in force, of the tenant if one is asked for;
    shown: the one that the new one is compared with, for a tenant without an own one the list price. source: of its last
    import, "" for a model that a person made."""

    id: UUID
    key: str
    provider: str
    columns: Mapping[str, Any]
    source: str
    unlisted: bool
    price: HeldPrice | None
    shown: HeldPrice | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """models: by key in lower case; aliases: those for everybody, in lower case."""

    models: Mapping[str, Held]
    aliases: Collection[str]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What an import is asked to do. source: "litellm", …; version: what it calls this state; effective_from: None = when
    it is applied; threshold: percent from which a move of a rate is flagged; tenant: whose prices these are."""

    source: str
    version: str
    effective_from: datetime | None = None
    threshold: Decimal = Decimal(20)
    tenant: UUID | None = None


@dataclass(frozen=True, slots=True)
class FieldChange:
    """kind: "rate" or "model"; old, new: text of a number or word for rates, else a JSON value; None = absent. percent: of
    a rate that moved; flagged: whether somebody should look at it."""

    name: str
    kind: str
    old: Any
    new: Any
    percent: Decimal | None = None
    flagged: bool = False

    def as_json(self) -> dict[str, Any]:
        """For scripts and the report: Decimals are text."""
        return {
            "name": self.name,
            "kind": self.kind,
            "old": _jsonable(self.old),
            "new": _jsonable(self.new),
            "percent": _jsonable(self.percent),
            "flagged": self.flagged,
        }


@dataclass(frozen=True, slots=True)
class EntryDiff:
    """What becomes of one model. change: added, removed, changed, unchanged or kept (its price was entered by a person and
    stays). price: what is done with the price: "insert", "replace", "end" or "" (nothing)."""

    key: str
    change: str
    provider: str
    mode: str
    fields: tuple[FieldChange, ...]
    price: str
    mapped: Mapped | None
    held: Held | None
    warnings: tuple[Issue, ...] = ()

    @property
    def flagged(self) -> bool:
        return any(field.flagged for field in self.fields)

    @property
    def percent(self) -> Decimal | None:
        """The largest move of a rate, None if none moved."""
        return max((field.percent for field in self.fields if field.percent is not None), key=abs, default=None)

    def as_json(self) -> dict[str, Any]:
        """For scripts and the report."""
        return {
            "key": self.key,
            "change": self.change,
            "provider": self.provider,
            "mode": self.mode,
            "flagged": self.flagged,
            "percent": None if self.percent is None else str(self.percent),
            "fields": [field.as_json() for field in self.fields],
        }

    @property
    def touches_model(self) -> bool:
        """Whether a row of AIModel is written."""
        return self.change in ("added", "removed") or any(field.kind == "model" for field in self.fields)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The entries of a file and what they change, by key, with the models that are missing in it."""

    parsed: Parsed
    conditions: Conditions
    entries: tuple[EntryDiff, ...]
    issues: tuple[Issue, ...]
    listed: int
    """Models that the source has brought so far, and that are not unlisted."""
    priced: int
    """Those of them with a price in force."""

    @property
    def counts(self) -> dict[str, int]:
        changes = Counter(entry.change for entry in self.entries)
        severities = Counter(issue.severity for issue in self.issues)
        return {
            "entries": len(self.parsed.entries) + len(self.parsed.blocked),
            **{name: changes[name] for name in ("added", "removed", "changed", "unchanged", "kept")},
            "flagged": sum(entry.flagged for entry in self.entries),
            "prices": sum(entry.price in ("insert", "replace") for entry in self.entries),
            "ended": sum(entry.price in ("replace", "end") for entry in self.entries),
            "errors": severities["error"],
            "warnings": severities["warning"],
        }

    def as_report(self) -> dict[str, Any]:
        """What a PriceImport keeps: as_json without the rates of new models, which their prices tell."""
        told = self.as_json()
        for entry in told["entries"]:
            if entry["change"] == "added":
                del entry["fields"]
        return {name: told[name] for name in ("file", "issues", "entries")}

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the file and of all that it changes: a diff that is another one has another digest."""
        told = [
            (entry.key, entry.change, entry.price, [field.as_json() for field in entry.fields],
             str(entry.held.price.id) if entry.held and entry.held.price else "")
            for entry in self.entries if entry.change != "unchanged"
        ]  # fmt: skip
        given = [self.parsed.sha256, self.conditions.source, str(self.conditions.tenant), told]
        return hashlib.sha256(json.dumps(given, default=str).encode()).hexdigest()

    def selected(self, only: Collection[str] | None) -> tuple[EntryDiff, ...]:
        """The entries that change something, of these keys. Raises ImportRefused("import_invalid") for a key that is in
        no entry."""
        if only is not None and (unknown := set(only) - {entry.key for entry in self.entries}):
            names = ", ".join(sorted(unknown)[:5])
            raise ImportRefused("import_invalid", f"The file has no entry {names}. Choose among those of the diff.")
        return tuple(
            entry
            for entry in self.entries
            if entry.change != "unchanged"
            and (only is None or entry.key in only)
            and (entry.price or entry.touches_model)
        )

    def refusal(
        self, only: Collection[str] | None = None, *, allow_shrink: bool = False, strict: bool = False
    ) -> ImportRefused | None:
        """Why this is not applied as it is, if so: `import_invalid` (strict, and there are errors) or `import_shrink`."""
        errors = self.counts["errors"]
        if strict and errors:
            return ImportRefused(
                "import_invalid", f"{errors:,} errors in {self.parsed.name}, and --strict allows none. Mend the file."
            )
        chosen = self.selected(only)
        gone = sum(entry.change == "removed" for entry in chosen)
        unpriced = sum(entry.price == "end" for entry in chosen)
        for lost, of, most, what in (
            (gone, self.listed, MAX_GONE, "are missing"), (unpriced, self.priced, MAX_UNPRICED, "would lose every price")
        ):  # fmt: skip
            if not allow_shrink and lost > of * most:
                return ImportRefused(
                    "import_shrink",
                    f"{lost:,} of the {of:,} models from {self.conditions.source!r} {what} in {self.parsed.name}: more than "
                    f"{most:.0%}. Look whether the file is whole; allow it by --allow-shrink, or name another --source.",
                )
        return None

    def as_json(self) -> dict[str, Any]:
        """For scripts: counts, issues, and every entry that is not unchanged. Percents are text."""
        return {
            "file": self.parsed.name,
            "sha256": self.parsed.sha256,
            "source": self.conditions.source,
            "version": self.conditions.version,
            "effective_from": self.conditions.effective_from,
            "counts": self.counts,
            "issues": [
                {name: getattr(issue, name) for name in Issue.__slots__ if name != "entry" or issue.entry}
                for issue in self.issues
            ],
            "entries": [entry.as_json() for entry in self.entries if entry.change != "unchanged"],
        }


def _jsonable(value: Any) -> Any:
    if isinstance(value, Decimal | date):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _jsonable(inner) for name, inner in value.items()}
    return [_jsonable(inner) for inner in value] if isinstance(value, list) else value
