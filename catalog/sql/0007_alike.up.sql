-- Guarantees: models that resemble a text, by key, name for people, or an alias that a tenant may see, are found by indexes (some
-- more than once), with thresholds of their own: a SET of the session that asks does not change them. The planner takes comparing
-- trigrams for as cheap as comparing numbers and would read the whole table, eight times slower.
-- See it: SELECT key FROM cp_catalog_aimodel WHERE id IN (SELECT cp_catalog_alike('sonet', NULL));
-- Searched more often than written: with a list of pending entries, which an import fills, each search would read that list.
ALTER INDEX aimodel_key_trgm_idx SET (fastupdate = off);
CREATE INDEX aimodel_display_trgm_idx ON cp_catalog_aimodel USING gin (lower(display_name) gin_trgm_ops) WITH (fastupdate = off);
CREATE INDEX modelalias_alias_trgm_idx ON cp_catalog_modelalias USING gin (lower(alias) gin_trgm_ops) WITH (fastupdate = off);
CREATE FUNCTION cp_catalog_alike(asked text, tenant uuid) RETURNS SETOF uuid
LANGUAGE sql STABLE
SET pg_trgm.similarity_threshold = 0.25 SET pg_trgm.word_similarity_threshold = 0.45 SET enable_seqscan = off AS $$
    SELECT m.id FROM cp_catalog_aimodel m
    WHERE lower(m.key) % lower(asked) OR lower(asked) <% lower(m.key)
    UNION ALL
    SELECT m.id FROM cp_catalog_aimodel m
    WHERE lower(m.display_name) % lower(asked) OR lower(asked) <% lower(m.display_name)
    UNION ALL
    SELECT a.model_id FROM cp_catalog_modelalias a
    WHERE (lower(a.alias) % lower(asked) OR lower(asked) <% lower(a.alias))
        AND a.enabled AND (a.tenant_id IS NULL OR a.tenant_id = tenant)
$$;
