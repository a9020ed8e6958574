"""From a name to a model: the look-up that every call of a model makes. One statement, in SQL; the rules are in `names`."""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial
from uuid import UUID
from weakref import WeakValueDictionary

from cachebox import LRUCache

from catalog.errors import ModelDisabled, UnknownModel
from catalog.names import Candidate, candidates, serves
from catalog.records import ModelRecord, PriceSegment
from controlplane.core.caches import Ask, RecordCache
from controlplane.core.conf import conf
from controlplane.core.statements import fetch
from tenants.scope import current_scope

Key = tuple[int | None, str, str | None, str | None, str | None, str | None]
"""What was asked: the tenant's id as a number, which hashes in C, then name, provider, region, size, quality."""

MAX_NAME = 500
"""Characters of a name that is looked up: a key has 200 at most, an ARN and a route come before it."""

_NOTHING_MORE = (None, None, None, None)

# Aliases have rank 0, the candidates follow from 1. A row without a rank is a model whose key resembles a name that is
# not known: the hint of the error, in the same statement.
_LOOK_UP = """
WITH asked AS (SELECT %s::text AS name, %s::uuid AS tenant, %s::boolean AS aliased),
candidate AS (SELECT t.* FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS t (name, slug, rank)),
way AS (
    SELECT a.model_id AS id, 0::bigint AS rank, a.tenant_id IS NULL AS shared, a.alias <> asked.name AS other_case
    FROM asked JOIN cp_catalog_modelalias a ON lower(a.alias) = lower(asked.name)
    WHERE asked.aliased AND a.enabled AND (a.tenant_id IS NULL OR a.tenant_id = asked.tenant)
    UNION ALL
    SELECT k.id, c.rank, true, k.key <> c.name
    FROM candidate c JOIN cp_catalog_aimodel k ON lower(k.key) = lower(c.name)
    WHERE c.slug IS NULL
    UNION ALL
    SELECT k.id, c.rank, true, k.name <> c.name
    FROM candidate c JOIN cp_catalog_provider q ON q.slug = c.slug
    JOIN cp_catalog_aimodel k ON k.provider_id = q.id AND lower(k.name) = lower(c.name)
),
found AS (
    SELECT way.*, 0.0 AS unlike FROM way
    UNION ALL
    (
        SELECT k.id, NULL, true, false,
            -similarity(lower(k.key), lower(asked.name)) - word_similarity(lower(asked.name), lower(k.key))
        FROM asked, cp_catalog_aimodel k JOIN cp_catalog_provider q ON q.id = k.provider_id
        WHERE %s AND NOT EXISTS (SELECT FROM way) AND k.enabled AND q.enabled
            AND k.id IN (SELECT cp_catalog_alike(asked.name, asked.tenant))
        ORDER BY 5, length(k.key), k.key LIMIT 3
    )
)
SELECT found.rank, p.slug, p.family, m.enabled AND p.enabled, (to_jsonb(m) - '{extra,description}'::text[])::text, (
    SELECT jsonb_agg(to_jsonb(r))::text FROM cp_catalog_modelprice r
    WHERE found.rank IS NOT NULL AND r.model_id = m.id AND (r.tenant_id IS NULL OR r.tenant_id = asked.tenant)
        AND r.effective_to IS DISTINCT FROM r.effective_from
)
FROM asked, found
JOIN cp_catalog_aimodel m ON m.id = found.id
JOIN cp_catalog_provider p ON p.id = m.provider_id
ORDER BY found.rank, found.shared, found.other_case, found.unlike, m.key
"""


def resolve(
    name: str,
    tenant_id: UUID | None = None,
    provider: str | None = None,
    region: str | None = None,
    size: str | None = None,
    quality: str | None = None,
) -> ModelRecord:
    """The model that a name means, as `AIModel.objects.resolve`."""
    key = (None if tenant_id is None else tenant_id.int, name, provider, region, size, quality)
    record = find(key)
    if record is None:
        raise unknown(key)
    if not record.enabled:
        raise ModelDisabled(record.canonical_id)
    return record


def find(key: Key) -> ModelRecord | None:
    """The record that is meant, also of a disabled model, from the cache; None = there is none."""
    if len(key[1]) > MAX_NAME or (key[2:] != _NOTHING_MORE and not all(map(_readable, key[2:]))):
        return None  # before the cache, which would keep what was asked for as unknown
    if key[0] is None or (scope := current_scope()) is None or scope.int == key[0]:
        return cache.get(key)
    return load(key, partial(fetch, conf.DATABASE))  # another tenant's: the scope's row security decides what is seen


def unknown(key: Key) -> UnknownModel:
    """The error of a name that was looked up in vain, with what was tried and what is near."""
    tried = dict.fromkeys(way.key for way in candidates(*key[1:])) if all(map(_readable, key[1:])) else ()
    return UnknownModel(key[1], _nearest.get(key, ()), tuple(tried))


def what_prices(requested: ModelRecord, served: str, at: datetime) -> tuple[ModelRecord, PriceSegment | None]:
    """The model whose price a call is billed by, and that price at the instant `at` (aware); None = it is unpriced.

    requested: what was asked for. served: the name that the provider reports, "" if none. A tenant's own price of what was
    asked for comes first; then the model that served, if the catalog knows it with rates, disabled or not; then the former.
    """
    tenant = None if requested.tenant_id is None else requested.tenant_id.int
    actual = find((tenant, served, requested.provider, None, None, None)) if served else None
    return billing(actual, requested, at) or (requested, None)


def billing(
    served: ModelRecord | None, requested: ModelRecord | None, at: datetime
) -> tuple[ModelRecord, PriceSegment] | None:
    """The rule of `what_prices` for records at hand, None where a name is unknown. A price without rates bills nothing."""
    records = [record for record in (served, requested) if record]
    held = [(record, price) for record in records if (price := record.price_at(at)) and price.rates]
    own = [found for found in held if found[1].tenant_id is not None]
    return own[-1] if own else held[0] if held else None


def look_up(key: Key, ask: Ask, *, hints: bool = True) -> tuple[ModelRecord | None, tuple[str, ...]]:
    """The record that is meant, also of a disabled model; else None, and keys that the caller may have meant, if `hints`."""
    tenant, name, provider, region, size, quality = key
    if not all(map(_readable, key[1:])):
        return None, ()
    ways = candidates(name, provider, region, size, quality)
    tenant_id = None if tenant is None else UUID(int=tenant)
    slugs = [way.provider if way.canonical else None for way in ways]
    rows = ask(_LOOK_UP, [name, tenant_id, not provider, [way.key for way in ways], slugs, hints])
    for rank, slug, family, enabled, model, prices in rows:
        record = ModelRecord.read(model, prices, slug=slug, family=family, enabled=enabled, tenant_id=tenant_id)
        if rank == 0 or (rank is not None and _counts(ways[rank - 1], record)):
            return record, ()
    return None, tuple(json.loads(model)["key"] for *_, enabled, model, _ in rows if enabled)[:3]


def _counts(way: Candidate, record: ModelRecord) -> bool:
    return way.canonical or not way.provider or serves(way.provider, record.source_provider or record.provider)


def _readable(text: object) -> bool:
    """Whether the database can be asked for it: text of Unicode without NUL, or nothing."""
    if text is None:
        return True
    if not isinstance(text, str) or len(text) > MAX_NAME or "\x00" in text:
        return False
    return text.encode(errors="ignore").decode() == text


def load(key: Key, ask: Ask) -> ModelRecord | None:
    """What the database says. Names of one model share its record; of an unknown name the nearest keys are noted."""
    record, nearest = look_up(key, ask)
    if record is None:
        _nearest.insert(key, nearest)
        return None
    held = _records.get((key[0], record.id))
    if held == record:
        return held
    _records[key[0], record.id] = record
    return record


cache: RecordCache[Key, ModelRecord] = RecordCache(
    "models", size=conf.CACHE_MODEL_SIZE, ttl=conf.CACHE_MODEL_TTL, loader=load, kinds={"catalog"}
)

_records: WeakValueDictionary[tuple[int | None, UUID], ModelRecord] = WeakValueDictionary()

# A hint, no more: the cache keeps of an unknown name only that it is unknown.
_nearest: LRUCache[Key, tuple[str, ...]] = LRUCache(1000)
