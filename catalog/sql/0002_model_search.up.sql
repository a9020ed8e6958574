-- Guarantees: a model is found by a part of its key, or one that resembles it, without reading the whole table.
-- See it: EXPLAIN SELECT key FROM cp_catalog_aimodel WHERE lower(key) % 'sonet';
CREATE INDEX aimodel_key_trgm_idx ON cp_catalog_aimodel USING gin (lower(key) gin_trgm_ops);
