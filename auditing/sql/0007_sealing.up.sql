-- Guarantees: the leaf of a row, the root over leaves and the hash of a seal are the same whoever asks: no setting of the
-- session (time zone, DateStyle, search_path) has a part in them. auditing/merkle.py is the twin; a test compares them.
-- See it: SELECT id, encode(cp_leaf(r), 'hex') FROM cp_auditing_auditlog r ORDER BY id LIMIT 3;

-- A netstring "<octets>:<utf-8>,", of NULL "-,". The planner writes these functions and cp_leaf into the statement that uses
-- them, which halves the time of a leaf: so they hold operators of text alone, and cp_leaf is STABLE as what it calls.
CREATE OR REPLACE FUNCTION cp_netstring(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(octet_length(value)::text || ':'::text || value || ','::text, '-,'::text);
CREATE FUNCTION cp_netstring(value uuid) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce('36:'::text || value::text || ','::text, '-,'::text);
CREATE FUNCTION cp_netstring(value boolean) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN value THEN '1:t,'::text WHEN NOT value THEN '1:f,'::text ELSE '-,'::text END;
CREATE FUNCTION cp_netstring(value bytea) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce((2 * octet_length(value))::text || ':'::text || encode(value, 'hex'::text) || ','::text, '-,'::text);
-- Microseconds since 1970 (numeric: infinity, which a bigint cannot say, must not stop the sealing of all others). Of the years
-- that occur the length is known, and the value is worked out once.
CREATE FUNCTION cp_netstring(value timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN value >= timestamptz '2001-09-09 01:46:40Z' AND value < timestamptz '2286-11-20 17:46:40Z'
        THEN '16:'::text || trunc(extract(epoch FROM value) * 1000000)::text || ','::text
        ELSE cp_netstring(trunc(extract(epoch FROM value) * 1000000)::text) END;
CREATE FUNCTION cp_netstring(value date) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN value >= date '1000-01-01' AND value <= date '9999-12-31'
        THEN '10:'::text || to_char(value::timestamp, 'YYYY-MM-DD'::text) || ','::text
        ELSE cp_netstring(to_char(value::timestamp, 'YYYY-MM-DD'::text)) END;

-- SHA-256 of 0x00 and the netstrings of the columns in the order of the table, but xid and what may be erased: pii_salt, ip,
-- user_agent and actor_label, for which pii_commit stands. A column that is added later joins in the next `schema` alone.
CREATE FUNCTION cp_leaf(r cp_auditing_auditlog) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256('\x00'::bytea || convert_to(concat(
        cp_netstring(r.id), cp_netstring(r.created_at), cp_netstring(r.tenant_id), cp_netstring(r.app_id),
        cp_netstring(r.branch_id), cp_netstring(r.user_id), cp_netstring(r.api_key_id), cp_netstring(r.actor_type),
        cp_netstring(r.actor_id), cp_netstring(r.actor_role), cp_netstring(r.action), cp_netstring(r.resource_type),
        cp_netstring(r.resource_id), cp_netstring(r.resource_label), cp_netstring(r.outcome), cp_netstring(r.before::text),
        cp_netstring(r.after::text), cp_netstring(r.details::text), cp_netstring(r.reason), cp_netstring(r.request_id),
        cp_netstring(r.pii_commit), cp_netstring(r.provider), cp_netstring(r.model), cp_netstring(r.prompt_tokens::text),
        cp_netstring(r.completion_tokens::text), cp_netstring(r.cost::text), cp_netstring(r.latency_ms::text),
        cp_netstring(r.schema::text)
    ), 'UTF8'));

CREATE FUNCTION cp_leaf(r cp_auditing_inferencerequest) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256('\x00'::bytea || convert_to(concat(
        cp_netstring(r.id), cp_netstring(r.created_at), cp_netstring(r.booked_at), cp_netstring(r.request_id),
        cp_netstring(r.tenant_id), cp_netstring(r.app_id), cp_netstring(r.branch_id), cp_netstring(r.user_id),
        cp_netstring(r.api_key_id), cp_netstring(r.provider), cp_netstring(r.model), cp_netstring(r.requested_model),
        cp_netstring(r.status), cp_netstring(r.prompt_tokens::text), cp_netstring(r.completion_tokens::text),
        cp_netstring(r.cached_tokens::text), cp_netstring(r.cache_write_tokens::text), cp_netstring(r.reasoning_tokens::text),
        cp_netstring(r.other_units::text), cp_netstring(r.cost::text), cp_netstring(r.pricing_status),
        cp_netstring(r.price_id), cp_netstring(r.cost_breakdown::text), cp_netstring(r.latency_ms::text),
        cp_netstring(r.ttft_ms::text), cp_netstring(r.stream), cp_netstring(r.error_code), cp_netstring(r.error),
        cp_netstring(r.adjusts), cp_netstring(r.reason_code), cp_netstring(r.reason), cp_netstring(r.time_zone),
        cp_netstring(r.local_date), cp_netstring(r.source), cp_netstring(r.metadata::text), cp_netstring(r.schema::text)
    ), 'UTF8'));

CREATE FUNCTION cp_leaf(r cp_auditing_usagesummary) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256('\x00'::bytea || convert_to(concat(
        cp_netstring(r.id), cp_netstring(r.tenant_id), cp_netstring(r.requests::text), cp_netstring(r.completed::text),
        cp_netstring(r.failed::text), cp_netstring(r.cancelled::text), cp_netstring(r.lost::text),
        cp_netstring(r.unpriced::text), cp_netstring(r.estimated::text), cp_netstring(r.adjustments::text),
        cp_netstring(r.prompt_tokens::text), cp_netstring(r.completion_tokens::text), cp_netstring(r.cached_tokens::text),
        cp_netstring(r.cache_write_tokens::text), cp_netstring(r.reasoning_tokens::text), cp_netstring(r.cost::text),
        cp_netstring(r.estimated_cost::text), cp_netstring(r.latency_n::text), cp_netstring(r.latency_sum_ms::text),
        cp_netstring(r.latency_max_ms::text), cp_netstring(r.latency_hist::text), cp_netstring(r.month),
        cp_netstring(r.app_id), cp_netstring(r.branch_id), cp_netstring(r.api_key_id), cp_netstring(r.user_id),
        cp_netstring(r.provider), cp_netstring(r.model)
    ), 'UTF8'));

-- All of a seal but its id and the hash itself.
CREATE FUNCTION cp_seal_hash(s cp_auditing_auditseal) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256('\x02'::bytea || convert_to(concat(
        cp_netstring(s.kind), cp_netstring(s.log), cp_netstring(s.tenant_id), cp_netstring(s.month), cp_netstring(s.seq::text),
        cp_netstring(s.run), cp_netstring(s.xid_from::text), cp_netstring(s.xid_to::text), cp_netstring(s.id_from),
        cp_netstring(s.id_to), cp_netstring(s.n::text), cp_netstring(s.root), cp_netstring(s.prev),
        cp_netstring(s.schema::text), cp_netstring(s.sealed_at)
    ), 'UTF8'));

-- The root of RFC 6962, section 2.1, over leaves in their order; of none, SHA-256 of nothing. Pairs level by level, an odd one
-- out going up as it is: the same tree as the RFC's, which splits at the largest power of two.
CREATE FUNCTION cp_merkle_root(leaves bytea[]) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n integer := coalesce(cardinality(leaves), 0);
BEGIN
    IF n = 0 THEN
        RETURN sha256('');
    END IF;
    WHILE n > 1 LOOP
        leaves := ARRAY(
            SELECT CASE WHEN place < n THEN sha256('\x01'::bytea || leaves[place] || leaves[place + 1]) ELSE leaves[place] END
            FROM generate_series(1, n, 2) place ORDER BY place);
        n := (n + 1) / 2;
    END LOOP;
    RETURN leaves[1];
END $$;
