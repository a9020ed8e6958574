"""Digests get the pepper that writes, the newest as a rule.

Those without one by `rehash`: an HMAC over what is stored, so no caller is needed for it. Those with an older one when
their token is shown: noted in memory where it is looked up, changed over in the background. What a process that ends had
noted, or what another has locked, is noted again when the token is next looked up.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import models

from auditing.context import audit_context
from controlplane.core.conf import conf
from tenants import tokens
from tenants.errors import KeyOperationError

EVERY, BATCH = 60, 500
"""Seconds between two changes of a process; secrets in one statement: over 1,000 would empty every cache."""

_noted: dict[UUID, tuple[int, int, bytes]] = {}

# Of two processes at once one changes a secret, and the other passes it by. It may be another one's digest already: a
# token that was imported a second time while its pepper was not listed. The audit log is told who and why in the same
# statement, as there is no transaction around it.
_CHANGE = """
WITH said AS MATERIALIZED (SELECT set_config('cp.audit', %s, true)),
due AS (
    SELECT s.id, noted.new, noted.digest
    FROM said, unnest(%s::uuid[], %s::smallint[], %s::smallint[], %s::bytea[]) AS noted (id, old, new, digest)
    JOIN cp_tenants_apikeysecret s ON s.id = noted.id AND s.hash_version = noted.old
    WHERE NOT EXISTS (SELECT FROM cp_tenants_apikeysecret other WHERE other.digest = noted.digest)
    ORDER BY s.id FOR UPDATE OF s SKIP LOCKED
)
UPDATE cp_tenants_apikeysecret s SET digest = due.digest, hash_version = due.new FROM due WHERE s.id = due.id
"""
_SAID = {"actor_type": "system", "actor_id": "pepper", "actor_label": "pepper", "reason": "used under an older pepper"}


def note(secret_id: UUID, old: int, new: int, digest: bytes) -> None:
    """Remember that a token was shown whose digest has the version `old`, and what it is under `new`."""
    _noted[secret_id] = (old, new, digest)


def forget() -> None:
    """Drop what was noted: it is the parent's after a fork."""
    _noted.clear()


def change_over(execute: Callable[[str, list[Any]], Any]) -> None:
    """Change over what was noted by `execute(statement, params)`. What fails is kept for the next time."""
    while batch := dict(islice(_noted.copy().items(), BATCH)):
        old, new, digests = (list(column) for column in zip(*batch.values(), strict=True))
        execute(_CHANGE, [json.dumps(_SAID), list(batch), old, new, digests])
        for secret_id in batch:
            _noted.pop(secret_id, None)


def rehash(rows: models.QuerySet[Any], actor: object = None) -> int:
    """Change over all rows of version 0 that have `digest` and `hash_version`, a thousand in a transaction.

    Returns how many. Run again after an interruption, it goes on. Raises KeyOperationError("no_pepper").
    """
    peppers, writes = conf.API_KEY_PEPPERS, conf.API_KEY_PEPPER_WRITES
    version = tokens.versions(peppers, writes)[0]
    if version == 0:
        raise KeyOperationError("no_pepper")
    done = 0
    while True:
        with audit_context(actor=actor, reason=f"digests get pepper {version}"):
            plain = rows.filter(hash_version=0).select_for_update(skip_locked=True).only("digest")
            batch = list(plain.order_by("pk")[:1000])
            for row in batch:
                row.hash_version, row.digest = tokens.digests(bytes(row.digest), peppers, writes)[0]
            rows.bulk_update(batch, ["digest", "hash_version"])
        done += len(batch)
        if len(batch) < 1000:
            return done
