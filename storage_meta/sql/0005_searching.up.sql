-- Guarantees: objects are found by words and by what their metadata and tags contain at the same cost inside a tenant's scope
-- and outside. @@ and @> are not leakproof, so for cp_tenant they would wait behind row security, and no GIN index would serve
-- them; hence SECURITY DEFINER, and the tenant is an argument that is checked.
-- See it: SET ROLE cp_tenant; SELECT * FROM cp_storage_hits(gen_random_uuid(), NULL, NULL, 10);  -- is refused

-- Raises insufficient_privilege for any tenant but the scope's, for who is in a scope or is not the owner. For functions that
-- are SECURITY DEFINER: there current_user is the owner, and the setting `role` still says who asks.
CREATE FUNCTION cp_storage_demand(wanted uuid) RETURNS void LANGUAGE plpgsql STABLE PARALLEL RESTRICTED AS $$
DECLARE
    asking name := coalesce(nullif(current_setting('role'), 'none'), session_user);
BEGIN
    IF wanted IS NULL OR (cp_scope() IS NOT NULL OR NOT pg_has_role(asking, current_user, 'USAGE'))
        AND wanted IS DISTINCT FROM cp_scope()
    THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'Objects are found of the tenant of the scope alone.',
            HINT = 'Set cp.tenant_id to the tenant that is asked for.';
    END IF;
END $$;

-- asked: terms that must all hold, each an array of alternatives {"words": text, "not": bool, "prefix": bool}. Text is split as
-- that of objects is, several words are a phrase; what holds no word is left out. prefix: the last word, if it has at least
-- three characters, is the beginning of one. No text is ever read as the language of to_tsquery.
CREATE FUNCTION cp_storage_query(asked jsonb) RETURNS tsquery LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    term jsonb;
    alternative jsonb;
    found tsquery;
    either tsquery;
    whole tsquery := '';
BEGIN
    FOR term IN SELECT jsonb_array_elements(asked) LOOP
        either := '';
        FOR alternative IN SELECT jsonb_array_elements(term) LOOP
            found := phraseto_tsquery('simple', cp_storage_words(alternative ->> 'words'));
            -- lexemes are quoted, and hold no quotes; one of three characters at least ends here
            IF (alternative -> 'prefix')::boolean AND found::text ~ '[^ '']{3}''$' THEN
                found := (found::text || ':*')::tsquery;
            END IF;
            either := either || CASE WHEN (alternative -> 'not')::boolean THEN !!found ELSE found END;
        END LOOP;
        whole := whole && either;
    END LOOP;
    RETURN whole;
END $$;

-- Live objects of a tenant that fit the filters; NULL: any. The body is written into the statement that calls it, so its tests
-- for NULL are gone when that is planned with its values. NOT is_delete_marker stands literally: the indexes are partial.
-- part: a pattern of LIKE, served by the index that storage_index makes.
CREATE FUNCTION cp_storage_live(
    the_tenant uuid, the_bucket uuid, lo text, hi text, has_metadata jsonb, has_tags jsonb, of_type text,
    smallest bigint, largest bigint, since timestamptz, until timestamptz, part text
) RETURNS SETOF cp_storage_meta_storageobject LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT * FROM cp_storage_meta_storageobject
    WHERE tenant_id = the_tenant AND NOT is_delete_marker
        AND (the_bucket IS NULL OR bucket_id = the_bucket)
        AND (lo IS NULL OR object_key >= lo) AND (hi IS NULL OR object_key < hi)
        AND (has_metadata IS NULL OR metadata @> has_metadata)
        AND (has_tags IS NULL OR tags @> has_tags)
        AND (of_type IS NULL OR content_type = of_type)
        AND (smallest IS NULL OR size >= smallest) AND (largest IS NULL OR size <= largest)
        AND (since IS NULL OR last_modified >= since) AND (until IS NULL OR last_modified < until)
        AND (part IS NULL OR object_key LIKE part)
$$;

-- One page: at most `most` objects after the one that after_… names, if any. by_rank: best first, then by key; needs words.
-- Else newest first. OFFSET 0 keeps the planner from walking the index of the order and testing words on the way: of a rare
-- word it would read the whole tenant.
CREATE FUNCTION cp_storage_search(
    the_tenant uuid, the_bucket uuid, lo text, hi text, words jsonb, has_metadata jsonb, has_tags jsonb, of_type text,
    smallest bigint, largest bigint, since timestamptz, until timestamptz, part text,
    by_rank boolean, after_rank real, after_key text, after_at timestamptz, after_id uuid, most integer
) RETURNS TABLE (id uuid, rank real, object_key text, last_modified timestamptz) LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 50
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    asked tsquery := cp_storage_query(words);
BEGIN
    PERFORM cp_storage_demand(the_tenant);
    IF words IS NOT NULL AND querytree(asked) IN ('', 'T') THEN
        RETURN;  -- nothing to look up: it would read the whole tenant
    ELSIF by_rank THEN
        RETURN QUERY
            SELECT hit.id, hit.rank, hit.object_key, hit.last_modified
            FROM (
                SELECT head.id, head.object_key, head.last_modified, ts_rank(head.search_vector, asked) AS rank
                FROM cp_storage_live(the_tenant, the_bucket, lo, hi, has_metadata, has_tags, of_type, smallest, largest,
                                     since, until, part) head
                WHERE head.search_vector @@ asked
                OFFSET 0
            ) hit
            WHERE after_id IS NULL OR hit.rank < after_rank
                OR hit.rank = after_rank AND (hit.object_key, hit.id) > (after_key, after_id)
            ORDER BY hit.rank DESC, hit.object_key, hit.id
            LIMIT most;
    ELSIF words IS NOT NULL OR has_metadata IS NOT NULL OR has_tags IS NOT NULL OR part IS NOT NULL THEN
        RETURN QUERY
            SELECT hit.id, CASE WHEN words IS NULL THEN 0 ELSE ts_rank(hit.search_vector, asked) END, hit.object_key,
                hit.last_modified
            FROM (
                SELECT found.*
                FROM (
                    SELECT head.id, head.object_key, head.last_modified, head.search_vector
                    FROM cp_storage_live(the_tenant, the_bucket, lo, hi, has_metadata, has_tags, of_type, smallest, largest,
                                         since, until, part) head
                    WHERE words IS NULL OR head.search_vector @@ asked
                    OFFSET 0
                ) found
                WHERE after_id IS NULL OR (found.last_modified, found.id) < (after_at, after_id)
                ORDER BY found.last_modified DESC, found.id DESC
                LIMIT most
            ) hit
            ORDER BY hit.last_modified DESC, hit.id DESC;
    ELSE
        RETURN QUERY
            SELECT head.id, 0::real, head.object_key, head.last_modified
            FROM cp_storage_live(the_tenant, the_bucket, lo, hi, NULL, NULL, of_type, smallest, largest, since, until,
                                 NULL) head
            WHERE after_id IS NULL OR (head.last_modified, head.id) < (after_at, after_id)
            ORDER BY head.last_modified DESC, head.id DESC
            LIMIT most;
    END IF;
END $$;

-- How many live objects hold the words (NULL: all), at most cap + 1.
CREATE FUNCTION cp_storage_hits(the_tenant uuid, the_bucket uuid, words jsonb, cap integer) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    asked tsquery := cp_storage_query(words);
BEGIN
    PERFORM cp_storage_demand(the_tenant);
    IF words IS NOT NULL AND querytree(asked) IN ('', 'T') THEN
        RETURN 0;
    END IF;
    RETURN (
        SELECT count(*) FROM (
            SELECT FROM cp_storage_live(the_tenant, the_bucket, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                                 NULL) head
            WHERE words IS NULL OR head.search_vector @@ asked
            LIMIT cap + 1
        ) found
    );
END $$;

REVOKE EXECUTE ON FUNCTION
    cp_storage_search(uuid, uuid, text, text, jsonb, jsonb, jsonb, text, bigint, bigint, timestamptz, timestamptz,
                      text, boolean, real, text, timestamptz, uuid, integer),
    cp_storage_hits(uuid, uuid, jsonb, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    cp_storage_search(uuid, uuid, text, text, jsonb, jsonb, jsonb, text, bigint, bigint, timestamptz, timestamptz,
                      text, boolean, real, text, timestamptz, uuid, integer),
    cp_storage_hits(uuid, uuid, jsonb, integer) TO cp_tenant;
