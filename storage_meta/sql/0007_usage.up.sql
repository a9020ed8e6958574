-- Guarantees: what a tenant stores is its last count and the versions that came since, those of the 5 seconds before it too: an id
-- is made a little before its row is seen. A count that is older than the one there is not written.
-- See it: SELECT cp_storage_count(); SELECT * FROM cp_storage_used('<tenant>');

-- The smallest id of the millisecond: `id >= cp_storage_since(at)` are the rows made since.
CREATE FUNCTION cp_storage_since(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN at IS NULL THEN '00000000-0000-0000-0000-000000000000'::uuid
        ELSE rpad(lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0'), 32, '0')::uuid END;

-- Bytes of all versions, and live objects, of a tenant; runs as who asks, so that a tenant's scope holds.
CREATE FUNCTION cp_storage_used(tenant uuid, OUT bytes bigint, OUT objects bigint) LANGUAGE plpgsql STABLE AS $$
DECLARE
    counted record;
    since uuid;
BEGIN
    SELECT u.bytes, u.objects, u.counted_at INTO counted FROM public.cp_storage_meta_storageusage u WHERE u.tenant_id = tenant;
    since := public.cp_storage_since(counted.counted_at - interval '5 seconds');
    SELECT coalesce(counted.bytes, 0) + coalesce(sum(v.size), 0) INTO bytes
        FROM public.cp_storage_meta_storageversion v WHERE v.tenant_id = tenant AND v.id >= since;
    SELECT coalesce(counted.objects, 0) + count(*) INTO objects
        FROM public.cp_storage_meta_storageobject o WHERE o.tenant_id = tenant AND o.id >= since AND NOT o.is_delete_marker;
END $$;

-- Counts what every tenant stores; returns how many they are. In the order of their ids, so that two counts at once wait for each other at most.
CREATE FUNCTION cp_storage_count() RETURNS bigint LANGUAGE sql VOLATILE
BEGIN ATOMIC
    WITH stored AS (
        SELECT v.tenant_id, sum(v.size)::bigint AS bytes, count(*) AS versions
        FROM cp_storage_meta_storageversion v GROUP BY v.tenant_id
    ), live AS (
        SELECT o.tenant_id, count(*) AS objects
        FROM cp_storage_meta_storageobject o WHERE NOT o.is_delete_marker GROUP BY o.tenant_id
    ), counted AS (
        INSERT INTO cp_storage_meta_storageusage AS u (id, tenant_id, bytes, objects, versions, counted_at)
        SELECT cp_uuid7(statement_timestamp()), t.id, coalesce(s.bytes, 0), coalesce(l.objects, 0), coalesce(s.versions, 0),
               statement_timestamp()
        FROM cp_tenants_tenant t LEFT JOIN stored s ON s.tenant_id = t.id LEFT JOIN live l ON l.tenant_id = t.id
        ORDER BY t.id
        ON CONFLICT (tenant_id) DO UPDATE
            SET bytes = excluded.bytes, objects = excluded.objects, versions = excluded.versions, counted_at = excluded.counted_at
            WHERE u.counted_at <= excluded.counted_at
        RETURNING u.tenant_id
    )
    SELECT count(*) FROM cp_tenants_tenant;
END;
