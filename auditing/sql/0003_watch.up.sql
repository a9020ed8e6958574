-- Guarantees: every INSERT, UPDATE, DELETE and TRUNCATE of a watched table leaves an audit row in the same transaction,
-- whoever writes: the ORM, QuerySet.update(), bulk_create, COPY, psql. The actor and reason come from the transaction-local
-- setting cp.audit (auditing.context); without it the actor is the database login.
-- See it: UPDATE a row in psql, then SELECT * FROM cp_auditing_auditlog ORDER BY id DESC LIMIT 1;

-- A value over 8 KiB is kept as its SHA-256 and size.
CREATE FUNCTION cp_audit_value(value jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE WHEN octet_length(value::text) <= 8192 THEN value ELSE jsonb_build_object(
        '$sha256', encode(sha256(convert_to(value::text, 'UTF8')), 'hex'), '$bytes', octet_length(value::text)) END;

CREATE FUNCTION cp_audit_values(row_ jsonb, columns text[]) RETURNS jsonb LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE WHEN octet_length(row_::text) <= 8192 THEN cp_redact(row_, columns) ELSE (
        SELECT coalesce(jsonb_object_agg(key, cp_audit_value(item)), '{}') FROM jsonb_each(cp_redact(row_, columns)) AS e(key, item)) END;

CREATE FUNCTION cp_audit_write(
    watched text, op text, subject jsonb, identity jsonb, before_ jsonb, after_ jsonb, details_ jsonb
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    said jsonb := coalesce(nullif(current_setting('cp.audit', true), '')::jsonb, '{}');
    at timestamptz := clock_timestamp();
BEGIN
    IF jsonb_typeof(said) <> 'object' THEN
        RAISE EXCEPTION 'The setting cp.audit is no JSON object.' USING HINT = 'SET LOCAL cp.audit = ''{"reason": "…"}''';
    END IF;
    INSERT INTO cp_auditing_auditlog (
        id, created_at, tenant_id, app_id, branch_id, user_id, api_key_id,
        actor_type, actor_id, actor_label, actor_role,
        action, resource_type, resource_id, resource_label, outcome, before, after, details, reason, request_id, ip, user_agent
    ) VALUES (
        cp_uuid7(at), at,
        coalesce((identity ->> (subject ->> 'tenant_id'))::uuid, (said ->> 'tenant_id')::uuid, '00000000-0000-0000-0000-000000000000'),
        (identity ->> (subject ->> 'app_id'))::uuid, (identity ->> (subject ->> 'branch_id'))::uuid,
        (identity ->> (subject ->> 'user_id'))::uuid, (identity ->> (subject ->> 'api_key_id'))::uuid,
        coalesce(said ->> 'actor_type', 'database'), coalesce(said ->> 'actor_id', CASE WHEN said ? 'actor_type' THEN '' ELSE session_user END),
        coalesce(said ->> 'actor_label', ''), coalesce(said ->> 'actor_role', ''),
        op, watched, cp_redact_text(coalesce(identity ->> 'id', '')),
        left(cp_redact_text(coalesce(identity ->> 'name', identity ->> 'slug', identity ->> 'email', identity ->> 'alias', identity ->> 'key', identity ->> 'kid', '')), 200),
        'success', before_, after_, details_, cp_redact_text(coalesce(said ->> 'reason', '')),
        said ->> 'request_id', (said ->> 'ip')::inet, said ->> 'user_agent'
    );
END $$;

-- Arguments: redacted columns as a text array, the subject map as JSON.
CREATE FUNCTION cp_audit_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    old_ jsonb;
    new_ jsonb;
    was jsonb;
    is_ jsonb;
    secret text[] := TG_ARGV[0]::text[];
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        EXECUTE format('SELECT jsonb_build_object(''rows'', count(*)) FROM %I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME) INTO is_;
        PERFORM cp_audit_write(TG_TABLE_NAME, 'truncate', '{}', '{}', NULL, NULL, is_);
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN old_ := to_jsonb(OLD); END IF;
    IF TG_OP <> 'DELETE' THEN new_ := to_jsonb(NEW); END IF;
    IF TG_OP = 'UPDATE' THEN
        SELECT jsonb_object_agg(n.key, old_ -> n.key), jsonb_object_agg(n.key, n.value) INTO was, is_
            FROM jsonb_each(new_) n WHERE n.value IS DISTINCT FROM old_ -> n.key AND n.key <> 'updated_at';
        IF is_ IS NULL THEN
            RETURN NULL;
        END IF;
    ELSE
        was := old_;
        is_ := new_;
    END IF;
    PERFORM cp_audit_write(
        TG_TABLE_NAME, CASE TG_OP WHEN 'INSERT' THEN 'create' ELSE lower(TG_OP) END, TG_ARGV[1]::jsonb, coalesce(new_, old_) - secret,
        cp_audit_values(was, secret), cp_audit_values(is_, secret), NULL);
    RETURN NULL;
END $$;

-- It runs as the owner, so nobody else may hang it on a table of his own, a temporary one say, and write with it what row
-- security would refuse. Triggers that are there fire for everybody all the same.
REVOKE EXECUTE ON FUNCTION cp_audit_row() FROM PUBLIC;

-- subject: which column names the tenant, app, branch, user or key of a row, where it is not the column of that name,
-- as {"tenant_id": "id"}.
CREATE FUNCTION cp_audit_watch(target regclass, redacted text[] DEFAULT '{}', subject jsonb DEFAULT '{}') RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    columns text[] := ARRAY(SELECT attname FROM pg_attribute WHERE attrelid = target AND attnum > 0 AND NOT attisdropped);
    map jsonb;
    unknown text[];
BEGIN
    unknown := ARRAY(SELECT c FROM unnest(redacted || ARRAY(SELECT value FROM jsonb_each_text(subject))) c WHERE c <> ALL (columns));
    IF cardinality(unknown) > 0 THEN
        RAISE EXCEPTION 'cp_audit_watch(%): no such column: %', target, unknown;
    END IF;
    SELECT coalesce(jsonb_object_agg(name, name), '{}') || subject INTO map
        FROM unnest(ARRAY['tenant_id', 'app_id', 'branch_id', 'user_id', 'api_key_id']) name WHERE name = ANY (columns);
    EXECUTE format('CREATE TRIGGER cp_audit AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW '
                   'EXECUTE FUNCTION cp_audit_row(%L, %L)', target, redacted, map);
    EXECUTE format('CREATE TRIGGER cp_audit_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT '
                   'EXECUTE FUNCTION cp_audit_row(%L, %L)', target, redacted, map);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER cp_audit', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER cp_audit_truncate', target);
END $$;

CREATE FUNCTION cp_audit_unwatch(target regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DROP TRIGGER cp_audit ON %s', target);
    EXECUTE format('DROP TRIGGER cp_audit_truncate ON %s', target);
END $$;
