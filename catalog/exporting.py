"""The catalog as a price file: what was imported comes back equal in value, entry by entry."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from catalog.importing.held import snapshot
from catalog.importing.mapping import to_entry
from catalog.models import PriceImport
from controlplane.core.conf import conf
from controlplane.core.ids import now
from tenants.models import Tenant


def export(at: datetime | None = None, tenant: Tenant | None = None, *, unlisted: bool = False) -> dict[str, Any]:
    """All models by key, with the prices in force at an instant (aware; None: now), as entries of a price file.

    Numbers are int or Decimal: `catalog.importing.to_json` writes them as they are. tenant: the tenant's own prices, where
    it has any. unlisted: also the models that their source no longer has. What the last file held beside models comes
    first. Discounts and margins are not in it: no price file has them.
    """
    using = conf.DATABASE
    held = snapshot(at or now(), tenant.pk if tenant else None, using)
    last = PriceImport.objects.using(using).exclude(meta={}).order_by("-applied_at", "-id").first()
    found = dict(last.meta) if last else {}
    for model in sorted(held.models.values(), key=lambda model: model.key):
        if unlisted or not model.unlisted:
            entry = to_entry(model.columns, model.shown.rates if model.shown else {})
            found[model.key] = {"litellm_provider": model.provider, **entry}
    return found
