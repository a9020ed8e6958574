"""What the database holds of the models and prices that an import is compared with."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import F, Min, TextField
from django.db.models.functions import Cast, Lower

from catalog.importing.diffing import Held, HeldPrice, Snapshot
from catalog.importing.mapping import EMPTY, from_json
from catalog.models import AIModel, ModelAlias, ModelPrice
from catalog.names import lowered

SOURCE_COLUMNS = ("name", *EMPTY)
"""Columns of AIModel that the source fills, beside flags and extra."""


def snapshot(at: datetime, tenant: UUID | None, using: str) -> Snapshot:
    """All models with the price that is in force at an instant: the tenant's own, else the list price is shown."""
    lists = _prices(at, None, using)
    own = lists if tenant is None else _prices(at, tenant, using)
    models = {}
    rows = AIModel.objects.using(using).annotate(extra_text=Cast("extra", TextField()))
    names = ("id", "key", "provider__slug", "origin", "last_import__source", "unlisted_at", "extra_text", "flags")
    for pk, key, provider, origin, source, unlisted, extra, flags, *values in rows.values_list(*names, *SOURCE_COLUMNS):
        columns = dict(zip(SOURCE_COLUMNS, values, strict=True)) | {"flags": flags, "extra": from_json(extra)}
        models[lowered(key)] = Held(
            pk, key, provider, columns, (source or "") if origin == AIModel.Origin.IMPORT else "", unlisted is not None,
            own.get(pk), own.get(pk) or lists.get(pk),
        )  # fmt: skip
    aliases = ModelAlias.objects.using(using).filter(tenant=None).values_list(Lower("alias"), flat=True)
    return Snapshot(models, frozenset(aliases))


def planned(at: datetime, tenant: UUID | None, using: str) -> dict[UUID, datetime]:
    """When the next price of a model begins, of those that have one planned after an instant."""
    rows = ModelPrice.objects.using(using).filter(tenant=tenant, effective_from__gt=at)
    rows = rows.exclude(effective_to=F("effective_from")).order_by()
    found: dict[UUID, datetime] = dict(
        rows.values("model_id").annotate(Min("effective_from")).values_list("model_id", "effective_from__min")
    )
    return found


def _prices(at: datetime, tenant: UUID | None, using: str) -> dict[Any, HeldPrice]:
    rows = ModelPrice.objects.using(using).in_force(at).filter(tenant=tenant)
    return {
        model: HeldPrice(*values)
        for model, *values in rows.values_list("model_id", "id", "rates", "fingerprint", "source")
    }
