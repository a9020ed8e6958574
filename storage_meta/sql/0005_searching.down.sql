DROP FUNCTION cp_storage_hits(uuid, uuid, jsonb, integer);
DROP FUNCTION cp_storage_search(
    uuid, uuid, text, text, jsonb, jsonb, jsonb, text, bigint, bigint, timestamptz, timestamptz,
    text, boolean, real, text, timestamptz, uuid, integer);
DROP FUNCTION cp_storage_live(
    uuid, uuid, text, text, jsonb, jsonb, text, bigint, bigint, timestamptz, timestamptz, text);
DROP FUNCTION cp_storage_query(jsonb);
DROP FUNCTION cp_storage_demand(uuid);
