-- Guarantees: whoever changes a watched column, the log has a row of that change in the same transaction, and every
-- process that listens is woken at its commit. Rows are read by transaction id, so a late commit is never missed.
-- See it: UPDATE a watched column in psql, then SELECT * FROM cp_core_invalidation ORDER BY id DESC LIMIT 1;
CREATE TABLE cp_core_invalidation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    kind text NOT NULL,
    ref uuid,
    value bigint,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE cp_core_invalidation IS 'What caches must forget. Transport: rows are purged after a quarter of an hour.';
COMMENT ON COLUMN cp_core_invalidation.xid IS 'The transaction that wrote it: the cursor of those who read';
COMMENT ON COLUMN cp_core_invalidation.kind IS 'What changed: key, tenant, app, branch, user, catalog, policy; or all';
COMMENT ON COLUMN cp_core_invalidation.ref IS 'The row that changed; NULL: any of its kind';
COMMENT ON COLUMN cp_core_invalidation.value IS 'Its new number, where the kind has one';
CREATE INDEX invalidation_xid_idx ON cp_core_invalidation (xid);

-- Runs as the owner: the log is nobody else's to write. TG_ARGV: the kind; the rows that changed, as a SELECT of ref and
-- value over the transition tables. It is planned anew each time: a plan for one row would join a thousand by a loop.
CREATE FUNCTION cp_cache_note() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    noted bigint;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO cp_core_invalidation (kind) VALUES ('all');
        noted := 1;
    ELSE
        EXECUTE format(
            'WITH changed AS MATERIALIZED (%s LIMIT 1001), counted AS (SELECT count(*) AS rows FROM changed) '
            'INSERT INTO cp_core_invalidation (kind, ref, value) '
            'SELECT $1, c.ref, c.value FROM changed c, counted WHERE counted.rows <= 1000 '
            'UNION ALL SELECT ''all'', NULL, NULL FROM counted WHERE counted.rows > 1000', TG_ARGV[1]) USING TG_ARGV[0];
        GET DIAGNOSTICS noted = ROW_COUNT;
    END IF;
    IF noted > 0 THEN
        PERFORM pg_notify('cp_invalidation', '');
    END IF;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION cp_cache_note() FROM PUBLIC;

-- ref_column: uuid, names what changed. columns: an UPDATE that changes none of them writes nothing. value_column: bigint.
-- Statement triggers, because only these have transition tables, and those none with a list of columns.
CREATE FUNCTION cp_cache_watch(
    target regclass, kind text, ref_column text, columns text[],
    events text[] DEFAULT '{insert,update,delete}', value_column text DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    there text[] := ARRAY(SELECT attname FROM pg_attribute WHERE attrelid = target AND attnum > 0 AND NOT attisdropped);
    identity text[] := ARRAY(
        SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = target AND i.indisprimary);
    wrong text[];
    picked text := format('%%1$s.%I AS ref, %s AS value', ref_column,
        CASE WHEN value_column IS NULL THEN 'NULL::bigint' ELSE format('%%1$s.%I', value_column) END);
    event text;
    rows text;
BEGIN
    wrong := ARRAY(SELECT c FROM unnest(columns || ref_column || value_column) c WHERE c <> ALL (there));
    IF cardinality(wrong) > 0 THEN
        RAISE EXCEPTION 'cp_cache_watch(%): no such column: %', target, wrong;
    END IF;
    wrong := ARRAY(SELECT e FROM unnest(events) e WHERE e <> ALL (ARRAY['insert', 'update', 'delete']));
    IF cardinality(wrong) > 0 OR cardinality(events) = 0 OR cardinality(columns) = 0 OR cardinality(identity) <> 1 THEN
        RAISE EXCEPTION 'cp_cache_watch(%): columns, events (insert, update, delete) and a primary key of one column are needed', target;
    END IF;
    IF (SELECT atttypid FROM pg_attribute WHERE attrelid = target AND attname = ref_column) <> 'uuid'::regtype THEN
        RAISE EXCEPTION 'cp_cache_watch(%): % is no uuid', target, ref_column;
    END IF;
    FOREACH event IN ARRAY events LOOP
        rows := CASE event
            WHEN 'insert' THEN format('SELECT DISTINCT ' || picked || ' FROM cp_new n', 'n')
            WHEN 'delete' THEN format('SELECT DISTINCT ' || picked || ' FROM cp_old o', 'o')
            ELSE format(
                'SELECT DISTINCT r.ref, r.value FROM cp_new n FULL JOIN cp_old o ON o.%1$I = n.%1$I CROSS JOIN LATERAL '
                '(SELECT %2$s WHERE n.%1$I IS NOT NULL UNION SELECT %3$s WHERE o.%1$I IS NOT NULL) r '
                'WHERE (%4$s) IS DISTINCT FROM (%5$s)',
                identity[1], format(picked, 'n'), format(picked, 'o'),
                (SELECT 'ROW(' || string_agg(format('n.%I', c), ', ') || ')' FROM unnest(identity || columns) c),
                (SELECT 'ROW(' || string_agg(format('o.%I', c), ', ') || ')' FROM unnest(identity || columns) c))
        END;
        EXECUTE format(
            'CREATE TRIGGER %I AFTER %s ON %s REFERENCING %s FOR EACH STATEMENT EXECUTE FUNCTION cp_cache_note(%L, %L)',
            'cp_cache_' || event, event, target,
            CASE event WHEN 'insert' THEN 'NEW TABLE AS cp_new' WHEN 'delete' THEN 'OLD TABLE AS cp_old'
                ELSE 'OLD TABLE AS cp_old NEW TABLE AS cp_new' END,
            kind, rows);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', target, 'cp_cache_' || event);
    END LOOP;
    -- AFTER: the log itself may be emptied by the same TRUNCATE
    EXECUTE format('CREATE TRIGGER cp_cache_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION cp_cache_note()', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER cp_cache_truncate', target);
END $$;

CREATE FUNCTION cp_cache_unwatch(target regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found name;
BEGIN
    FOR found IN SELECT tgname FROM pg_trigger WHERE tgrelid = target AND tgname LIKE 'cp\_cache\_%' LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', found, target);
    END LOOP;
END $$;
