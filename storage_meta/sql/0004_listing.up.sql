-- Guarantees: a page of keys costs one descent of the listing index per common prefix, and two per run of keys, however many
-- keys a prefix holds and whatever lies before the page; delete markers are not in that index.
-- See it: EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM cp_storage_list(…); at most 8 buffers per entry.

-- Live heads with lo <= object_key < hi. Those that hold `delimiter` behind their first `cut` characters come as one row per
-- text through there, their common_prefix. past: what the delimiter becomes in the first key above such a group. Each statement
-- has both ends of its range, so that a plan for any prefix is a good one; the predicate stands in it literally, as the index is
-- partial. The operators ~>=~ and ~<~ compare bytes as >= and < do under "C", and are those of that index alone: to the planner,
-- which thinks of one row, the index with markers would cost the same.
CREATE FUNCTION cp_storage_list(
    of_tenant uuid, of_bucket uuid, lo text, hi text, cut integer, delimiter text, past text, entries integer
) RETURNS TABLE (
    common_prefix text, id uuid, tenant_id uuid, bucket_id uuid, object_key text, current_version_id uuid, next_seq bigint,
    change_seq bigint, is_delete_marker boolean, last_modified timestamptz, created_at timestamptz, size bigint,
    content_type varchar, etag varchar, checksum_sha256 varchar, storage_backend varchar, storage_class varchar, metadata jsonb,
    tags jsonb
) LANGUAGE plpgsql STABLE ROWS 1000 AS $$
DECLARE
    folded text;  -- the first key of the next group
    place integer;  -- and which of the keys from lo on it is
    upto text;  -- plain variables alone: behind row security, coalesce() in a condition would keep it out of the index
BEGIN
    WHILE entries > 0 LOOP
        folded := NULL;
        IF delimiter <> '' THEN
            SELECT k.object_key, k.place INTO folded, place
            FROM (SELECT o.object_key, row_number() OVER (ORDER BY o.object_key USING ~<~) AS place
                  FROM cp_storage_meta_storageobject o
                  WHERE o.tenant_id = of_tenant AND o.bucket_id = of_bucket AND o.object_key ~>=~ lo AND o.object_key ~<~ hi
                    AND NOT o.is_delete_marker
                  ORDER BY o.object_key USING ~<~ LIMIT entries) k
            WHERE strpos(substr(k.object_key, cut + 1), delimiter) > 0 LIMIT 1;
        END IF;
        IF folded IS NULL OR place > 1 THEN
            upto := coalesce(folded, hi);
            RETURN QUERY
                SELECT NULL::text, o.id, o.tenant_id, o.bucket_id, o.object_key, o.current_version_id, o.next_seq, o.change_seq,
                       o.is_delete_marker, o.last_modified, o.created_at, o.size, o.content_type, o.etag, o.checksum_sha256,
                       o.storage_backend, o.storage_class, o.metadata, o.tags
                FROM cp_storage_meta_storageobject o
                WHERE o.tenant_id = of_tenant AND o.bucket_id = of_bucket AND o.object_key ~>=~ lo AND o.object_key ~<~ upto
                  AND NOT o.is_delete_marker
                ORDER BY o.object_key USING ~<~ LIMIT entries;
        END IF;
        EXIT WHEN folded IS NULL;
        entries := entries - place;
        lo := left(folded, cut + strpos(substr(folded, cut + 1), delimiter) - 1);
        common_prefix := lo || delimiter;
        lo := lo || past;
        RETURN NEXT;
    END LOOP;
END $$;

-- Versions and delete markers of keys with lo <= object_key < hi, keys ascending, seq descending; of the key `lo` only those
-- with a seq below `below`, where that is given. One descent per key and one scan of its versions.
CREATE FUNCTION cp_storage_list_versions(
    of_tenant uuid, of_bucket uuid, lo text, hi text, below bigint, entries integer
) RETURNS TABLE (
    head_id uuid, head_object_key text, head_current_version_id uuid, head_next_seq bigint, head_change_seq bigint,
    head_is_delete_marker boolean, head_last_modified timestamptz, head_created_at timestamptz,
    id uuid, tenant_id uuid, object_id uuid, bucket_id uuid, seq bigint, null_version boolean, external_id text,
    is_delete_marker boolean, blob_name text, created_by text, comment text, legal_hold boolean, retain_until timestamptz,
    created_at timestamptz, size bigint, content_type text, etag text, checksum_sha256 text, storage_backend text,
    storage_class text, metadata jsonb, tags jsonb
) LANGUAGE plpgsql STABLE ROWS 1000 AS $$
DECLARE
    top bigint;
BEGIN
    FOR head_id, head_object_key, head_current_version_id, head_next_seq, head_change_seq, head_is_delete_marker,
        head_last_modified, head_created_at
    IN SELECT o.id, o.object_key, o.current_version_id, o.next_seq, o.change_seq, o.is_delete_marker, o.last_modified,
              o.created_at
       FROM cp_storage_meta_storageobject o
       WHERE o.tenant_id = of_tenant AND o.bucket_id = of_bucket AND o.object_key >= lo AND o.object_key < hi
       ORDER BY o.object_key LIMIT entries + 1  -- of the first there may be nothing below
    LOOP
        top := CASE WHEN head_object_key = lo AND below IS NOT NULL THEN below ELSE head_next_seq END;
        FOR id, tenant_id, object_id, bucket_id, seq, null_version, external_id, is_delete_marker, blob_name, created_by,
            comment, legal_hold, retain_until, created_at, size, content_type, etag, checksum_sha256, storage_backend,
            storage_class, metadata, tags
        IN SELECT v.id, v.tenant_id, v.object_id, v.bucket_id, v.seq, v.null_version, v.external_id, v.is_delete_marker,
                  v.blob_name, v.created_by, v.comment, v.legal_hold, v.retain_until, v.created_at, v.size, v.content_type,
                  v.etag, v.checksum_sha256, v.storage_backend, v.storage_class, v.metadata, v.tags
           FROM cp_storage_meta_storageversion v
           WHERE v.tenant_id = of_tenant AND v.object_id = head_id AND v.seq < top
           ORDER BY v.seq DESC LIMIT entries
        LOOP
            RETURN NEXT;
            entries := entries - 1;
        END LOOP;
        EXIT WHEN entries = 0;
    END LOOP;
END $$;

-- Live keys are in order in two indexes, and the planner takes the one without markers once it knows of any. So it is told at
-- each fiftieth of the table, not at each tenth.
ALTER TABLE cp_storage_meta_storageobject SET (autovacuum_analyze_scale_factor = 0.02);
