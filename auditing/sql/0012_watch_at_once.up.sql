-- Guarantees: what 0003_watch does, in fewer calls; the rows of the log are the same. It takes the place of its function.
-- See it: UPDATE a row in psql, then SELECT * FROM cp_auditing_auditlog ORDER BY id DESC LIMIT 1;

-- One function and few statements: this is what every change of a watched row costs. Most rows hold no secret and nothing big:
-- one look at all of their text spares them the walk through the values. What it looks for is in everything that
-- cp_redact_text and cp_names_a_secret know, so it may see too much, never too little.
-- Arguments: redacted columns as a text array, the subject map as JSON.
CREATE OR REPLACE FUNCTION cp_audit_row() RETURNS trigger
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
DROP FUNCTION cp_audit_write(text, text, jsonb, jsonb, jsonb, jsonb, jsonb);
