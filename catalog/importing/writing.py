"""The entries of a diff as rows: statements for many rows at once, in the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections

from auditing.context import current
from catalog.errors import ImportRefused
from catalog.importing.diffing import Comparison, EntryDiff
from catalog.importing.held import SOURCE_COLUMNS, planned
from catalog.importing.mapping import Mapped, provider_name, to_json
from catalog.models import AIModel, ModelPrice, PriceImport, Provider
from catalog.models.fields import TERMS
from controlplane.core.bulk import copy_rows, update_rows
from controlplane.core.caches import invalidation
from controlplane.core.ids import now, uuid7

BATCH = 1500
"""Rows of one statement: so few that none runs for long and progress can be told, so many that caches are told once to
forget everything instead of row by row (controlplane.core, from 1,001 rows on)."""

_MODEL = ("id", "provider_id", *SOURCE_COLUMNS, "flags", "extra", "origin", "unlisted_at", "last_import_id")
_NEW_MODEL = (*_MODEL, "key", "display_name", "description", "enabled", "first_import_id")
_PRICE = (
    "id", "model_id", "tenant_id", "effective_from", "effective_to", "rates", *TERMS, "source", "version", "fingerprint",
    "price_import_id", "reason",
)  # fmt: skip


@dataclass(slots=True)
class Writer:
    """chosen: the entries to write. start: from when their prices hold. progress: called with the rows written so far."""

    diff: Comparison
    chosen: Sequence[EntryDiff]
    start: datetime
    reason: str
    progress: Callable[[int], None] | None
    using: str
    done: int = 0
    providers: dict[str, Provider] = field(default_factory=dict)
    ids: dict[str, UUID] = field(default_factory=dict)

    def write(self) -> PriceImport:
        """Raises ImportRefused("import_stale") when somebody else ended one of the prices meanwhile."""
        imported = self._record()
        self._find_providers()
        self.ids = {entry.key: entry.held.id if entry.held else uuid7() for entry in self.chosen}
        if self.diff.conditions.tenant is None:
            self._write_models(imported)
        self._write_prices(imported)
        if self.chosen:
            with connections[self.using].cursor() as cursor:
                cursor.execute("ANALYZE cp_catalog_aimodel, cp_catalog_modelprice")
            invalidation.changed("catalog", None)  # these statements save no object, which would say so itself
        return imported

    def _record(self) -> PriceImport:
        parsed, conditions, said = self.diff.parsed, self.diff.conditions, current()
        imported = PriceImport(
            source=conditions.source, source_version=conditions.version, sha256=parsed.sha256, bytes=parsed.bytes,
            started_at=parsed.read_at, effective_from=self.start, reason=self.reason, threshold=conditions.threshold,
            actor=(said.get("actor_label") or said.get("actor_id") or "")[:200], counts=self.diff.counts,
            report=self.diff.as_report(), meta=json.loads(to_json(parsed.meta)),
        )  # fmt: skip
        imported.save(using=self.using, force_insert=True)
        return imported

    def _find_providers(self) -> None:
        """Those of the entries, made where they are missing."""
        slugs = {entry.provider for entry in self.chosen}
        rows = Provider.objects.using(self.using)
        known = set(rows.filter(slug__in=slugs).values_list("slug", flat=True))
        rows.bulk_create([Provider(slug=slug, name=provider_name(slug)) for slug in sorted(slugs - known)])
        self.providers = {provider.slug: provider for provider in rows.filter(slug__in=slugs)}

    def _hold_providers(self) -> None:
        """Wait for who sets other terms of them, or a price: after models, before prices, as everybody (`hold`)."""
        rows = Provider.objects.using(self.using).filter(slug__in=self.providers).order_by("slug")
        self.providers = {provider.slug: provider for provider in rows.select_for_update(no_key=True)}

    def _write_models(self, imported: PriceImport) -> None:
        added = [entry for entry in self.chosen if entry.change == "added"]
        changed = [entry for entry in self.chosen if entry.held and entry.mapped and entry.touches_model]
        gone = [entry.held.id for entry in self.chosen if entry.change == "removed" and entry.held]
        new = [(*self._model(entry, imported), entry.key, "", "", True, imported.pk) for entry in added]
        self._in_batches(new, lambda rows: copy_rows(AIModel, _NEW_MODEL, rows, using=self.using))
        old = [self._model(entry, imported) for entry in changed]
        self._in_batches(old, lambda rows: update_rows(AIModel, _MODEL, rows, using=self.using))
        models_gone = AIModel.objects.using(self.using).filter(pk__in=gone)
        models_gone.update(unlisted_at=now(), last_import=imported)

    def _write_prices(self, imported: PriceImport) -> None:
        self._hold_providers()
        prices = ModelPrice.objects.using(self.using)
        ended = [
            entry.held.price.id
            for entry in self.chosen
            if entry.price in ("replace", "end") and entry.held and entry.held.price
        ]
        count = prices.filter(pk__in=ended).in_force(self.start).update(effective_to=self.start)
        if count != len(ended):
            raise ImportRefused("import_stale")
        until = planned(self.start, self.diff.conditions.tenant, self.using)
        new = [
            self._price(entry, entry.mapped, until.get(self.ids[entry.key]), imported)
            for entry in self.chosen
            if entry.price in ("insert", "replace") and entry.mapped
        ]
        self._in_batches(new, lambda rows: copy_rows(ModelPrice, _PRICE, rows, using=self.using))

    def _model(self, entry: EntryDiff, imported: PriceImport) -> tuple[Any, ...]:
        columns = entry.mapped.columns if entry.mapped else {}
        return (
            self.ids[entry.key], self.providers[entry.provider].pk, *(columns[name] for name in SOURCE_COLUMNS),
            to_json(columns["flags"]), to_json(columns["extra"]), AIModel.Origin.IMPORT.value, None, imported.pk,
        )  # fmt: skip

    def _price(
        self, entry: EntryDiff, mapped: Mapped, until: datetime | None, imported: PriceImport
    ) -> tuple[Any, ...]:
        provider, conditions = self.providers[entry.provider], self.diff.conditions
        return (
            uuid7(), self.ids[entry.key], conditions.tenant, self.start, until, to_json(mapped.rates),
            *(getattr(provider, term) for term in TERMS), conditions.source, conditions.version, mapped.fingerprint,
            imported.pk, self.reason,
        )  # fmt: skip

    def _in_batches(self, rows: Sequence[Any], write: Callable[[Sequence[Any]], object]) -> None:
        for first in range(0, len(rows), BATCH):
            batch = rows[first : first + BATCH]
            write(batch)
            self.done += len(batch)
            if self.progress:
                self.progress(self.done)
