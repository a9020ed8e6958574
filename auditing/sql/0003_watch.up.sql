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

-- One function and few statements: this is what every change of a watched row costs. Most rows hold no secret and nothing big:
-- one look at all of their text spares them the walk through the values. What it looks for is in everything that
-- cp_redact_text and cp_names_a_secret know, so it may see too much, never too little.
-- Arguments: redacted columns as a text array, the subject map as JSON.
CREATE FUNCTION cp_audit_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    secret text[] := TG_ARGV[0];
    subject jsonb := TG_ARGV[1];
    said jsonb;  -- NULL: nothing was said
    whole jsonb;
    was jsonb;
    is_ jsonb;
    counted jsonb;
    id_ text;
    label text;
    reason_ text;
    told text;
    at timestamptz;
BEGIN
    CASE TG_OP
        WHEN 'UPDATE' THEN
            was := to_jsonb(OLD);
            whole := to_jsonb(NEW);
            SELECT jsonb_object_agg(n.key, was -> n.key), jsonb_object_agg(n.key, n.value) INTO was, is_
                FROM jsonb_each(whole) n WHERE n.value IS DISTINCT FROM was -> n.key AND n.key <> 'updated_at';
            IF is_ IS NULL THEN
                RETURN NULL;
            END IF;
        WHEN 'INSERT' THEN
            is_ := to_jsonb(NEW);
            whole := is_;
        WHEN 'DELETE' THEN
            was := to_jsonb(OLD);
            whole := was;
        WHEN 'TRUNCATE' THEN
            EXECUTE format('SELECT jsonb_build_object(''rows'', count(*)) FROM %I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME) INTO counted;
    END CASE;
    said := nullif(current_setting('cp.audit', true), '');
    IF jsonb_typeof(said) <> 'object' THEN
        RAISE EXCEPTION 'The setting cp.audit is no JSON object.' USING HINT = 'SET LOCAL cp.audit = ''{"reason": "…"}''';
    END IF;
    whole := whole - secret;
    id_ := whole ->> 'id';
    reason_ := coalesce(said ->> 'reason', '');
    label := coalesce(whole ->> 'name', whole ->> 'slug', whole ->> 'email', whole ->> 'alias', whole ->> 'key', whole ->> 'kid', '');
    told := concat_ws(' ', id_, label, reason_, was, is_);
    IF octet_length(told) > 8192 OR TG_ARGV[0] <> '{}' OR lower(told COLLATE "C") LIKE ANY (  -- words take a quarter of a regex
        '{%cpk_%,%cpr_%,%private%,%bearer%,%basic%,%sk-%,%eyj%,%akia%,%asia%,%aiza%,%ghp_%,%gho_%,%ghu_%,%ghs_%,%ghr_%,%://%,%passw%,'
        '%secret%,%token%,%api_key%,%apikey%,%credential%,%authorization%,%cookie%}')
    THEN
        was := cp_audit_values(was, secret);
        is_ := cp_audit_values(is_, secret);
        id_ := cp_redact_text(id_);
        label := cp_redact_text(label);
        reason_ := cp_redact_text(reason_);
    END IF;
    at := clock_timestamp();
    INSERT INTO cp_auditing_auditlog (
        id, created_at, tenant_id, app_id, branch_id, user_id, api_key_id,
        actor_type, actor_id, actor_label, actor_role,
        action, resource_type, resource_id, resource_label, outcome, before, after, details, reason, request_id, ip, user_agent
    ) VALUES (
        cp_uuid7(at), at,
        coalesce((whole ->> (subject ->> 'tenant_id'))::uuid, (said ->> 'tenant_id')::uuid, '00000000-0000-0000-0000-000000000000'),
        (whole ->> (subject ->> 'app_id'))::uuid, (whole ->> (subject ->> 'branch_id'))::uuid,
        (whole ->> (subject ->> 'user_id'))::uuid, (whole ->> (subject ->> 'api_key_id'))::uuid,
        coalesce(said ->> 'actor_type', 'database'), coalesce(said ->> 'actor_id', CASE WHEN said ? 'actor_type' THEN '' ELSE session_user END),
        coalesce(said ->> 'actor_label', ''), coalesce(said ->> 'actor_role', ''),
        CASE TG_OP WHEN 'INSERT' THEN 'create' ELSE lower(TG_OP) END, TG_TABLE_NAME, coalesce(id_, ''), left(label, 200),
        'success', was, is_, counted, reason_, said ->> 'request_id', (said ->> 'ip')::inet, said ->> 'user_agent'
    );
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
