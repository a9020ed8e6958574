"""Digests without a pepper get the newest one: an HMAC over what is stored, so no caller is needed for it."""

from __future__ import annotations

from typing import Any

from django.db import models

from auditing.context import audit_context
from controlplane.core.conf import conf
from tenants import tokens
from tenants.errors import KeyOperationError


def rehash(rows: models.QuerySet[Any], actor: object = None) -> int:
    """Change over all rows of version 0 that have `digest` and `hash_version`, a thousand in a transaction.

    Returns how many. Run again after an interruption, it goes on. Raises KeyOperationError("no_pepper").
    """
    peppers = conf.API_KEY_PEPPERS
    if not any(peppers):
        raise KeyOperationError("no_pepper")
    done = 0
    while True:
        with audit_context(actor=actor, reason=f"digests get pepper {max(peppers)}"):
            plain = rows.filter(hash_version=0).select_for_update(skip_locked=True).only("digest")
            batch = list(plain.order_by("pk")[:1000])
            for row in batch:
                row.hash_version, row.digest = tokens.digests(bytes(row.digest), peppers)[0]
            rows.bulk_update(batch, ["digest", "hash_version"])
        done += len(batch)
        if len(batch) < 1000:
            return done
