-- Guarantees: no secret reaches a log through a trigger. The rules are those of auditing/redaction.py; a test drives both.
-- See it: SELECT cp_redact('{"client_secret": "x", "note": "Bearer abcdefghijk"}');
CREATE FUNCTION cp_redact_text(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    IF value !~* 'cpk_|cpr_|PRIVATE KEY|bearer|basic|sk-|eyJ|AKIA|ASIA|AIza|gh[pousr]_|://[^/ \t\r\n]*@' THEN
        RETURN value;
    END IF;
    value := regexp_replace(value, '(cpk_(?:live|test)_[0-9A-Za-z]{12})_[0-9A-Za-z]{49}', '\1[redacted]', 'g');
    value := regexp_replace(value, 'cpr_[0-9A-Za-z]{49}', '[redacted]', 'g');
    -- the first quantifier decides for all of them: were it greedy, so would be .*? between two keys
    value := regexp_replace(value, '-----BEGIN [A-Z ]*?PRIVATE KEY-----.*?(-----END [A-Z ]*?PRIVATE KEY-----|\Z)', '[redacted]', 'g');
    value := regexp_replace(value, '(?<![0-9A-Za-z])(Bearer|Basic)[ \t]+[A-Za-z0-9._~+/=-]{8,}', '\1 [redacted]', 'gi');
    value := regexp_replace(value, '(?<![0-9A-Za-z])sk-[A-Za-z0-9_-]{16,}', '[redacted]', 'g');
    value := regexp_replace(value, '(?<![0-9A-Za-z])eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*', '[redacted]', 'g');
    value := regexp_replace(value, '(?<![0-9A-Za-z])(AKIA|ASIA)[0-9A-Z]{16}', '[redacted]', 'g');
    value := regexp_replace(value, '(?<![0-9A-Za-z])AIza[0-9A-Za-z_-]{35}', '[redacted]', 'g');
    value := regexp_replace(value, '(?<![0-9A-Za-z])gh[pousr]_[0-9A-Za-z]{36,}', '[redacted]', 'g');
    RETURN regexp_replace(value, '://([^/ \t\r\n:@]*):[^/ \t\r\n]*@', '://\1:[redacted]@', 'g');
END $$;

CREATE FUNCTION cp_names_a_secret(name text) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN name ~* '(password|passwd|secret|token|private_?key|api_?key|credential|credentials|authorization|cookie)(_hash)?$'
        AND name !~* 'cost_per_([a-z]+_)?token$';

-- A JSON value without secrets at any depth; keys in `columns` are secret too.
CREATE FUNCTION cp_redact(value jsonb, columns text[] DEFAULT '{}') RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    CASE jsonb_typeof(value)
        WHEN 'string' THEN
            RETURN to_jsonb(cp_redact_text(value #>> '{}'));
        WHEN 'array' THEN
            RETURN (SELECT coalesce(jsonb_agg(cp_redact(item, columns) ORDER BY n), '[]')
                    FROM jsonb_array_elements(value) WITH ORDINALITY AS e(item, n));
        WHEN 'object' THEN
            RETURN (SELECT coalesce(jsonb_object_agg(key, CASE
                        WHEN jsonb_typeof(item) <> 'null' AND (key = ANY (columns) OR cp_names_a_secret(key))
                            THEN '"[redacted]"'::jsonb
                        WHEN jsonb_typeof(item) IN ('null', 'boolean', 'number') THEN item  -- most columns: spare them the call
                        ELSE cp_redact(item, columns) END), '{}')
                    FROM jsonb_each(value) AS e(key, item));
        ELSE
            RETURN value;
    END CASE;
END $$;
