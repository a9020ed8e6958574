-- Guarantees: one row per finished call, never changed; the same request id twice in a month is one row, whatever writes
-- it; cost is NULL exactly when the call is unpriced, so an unknown price is never 0.
-- See it: \d+ cp_auditing_inferencerequest and the unique index "…_once" of each partition.
CREATE TABLE cp_auditing_inferencerequest (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    booked_at timestamptz,
    request_id varchar(200) NOT NULL
        CONSTRAINT cp_auditing_inferencerequest_request_id_given CHECK (request_id <> ''),
    tenant_id uuid NOT NULL,
    app_id uuid,
    branch_id uuid,
    user_id uuid,
    api_key_id uuid,
    provider varchar(64) NOT NULL,
    model varchar(265) NOT NULL,
    requested_model varchar(265),
    status varchar(9) NOT NULL
        CONSTRAINT cp_auditing_inferencerequest_status CHECK (status IN ('completed', 'failed', 'cancelled', 'lost')),
    prompt_tokens integer,
    completion_tokens integer,
    cached_tokens integer,
    cache_write_tokens integer,
    reasoning_tokens integer,
    other_units jsonb,
    cost numeric(24, 12),
    pricing_status varchar(10) NOT NULL
        CONSTRAINT cp_auditing_inferencerequest_pricing_status CHECK (pricing_status IN
            ('priced', 'unpriced', 'estimated', 'adjustment')),
    price_id uuid,
    cost_breakdown jsonb,
    latency_ms integer,
    ttft_ms integer,
    stream boolean NOT NULL DEFAULT false,
    error_code varchar(64) NOT NULL DEFAULT '',
    error varchar(2000) NOT NULL DEFAULT '',
    adjusts uuid,
    reason_code varchar(16) NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT '',
    time_zone varchar(64) NOT NULL,
    local_date date NOT NULL,
    source varchar(8) NOT NULL
        CONSTRAINT cp_auditing_inferencerequest_source CHECK (source IN ('gate', 'ingest', 'import', 'sweep')),
    metadata jsonb
        CONSTRAINT cp_auditing_inferencerequest_metadata_is_small CHECK (octet_length(metadata::text) <= 4096),
    schema smallint NOT NULL DEFAULT 1,
    xid bigint NOT NULL DEFAULT (pg_current_xact_id()::text)::bigint,
    CONSTRAINT cp_auditing_inferencerequest_cost_is_a_number CHECK (cost <> 'NaN'),
    CONSTRAINT cp_auditing_inferencerequest_unpriced_has_no_cost CHECK ((cost IS NULL) = (pricing_status = 'unpriced')),
    CONSTRAINT cp_auditing_inferencerequest_not_negative CHECK (pricing_status = 'adjustment' OR (
        coalesce(cost, 0) >= 0 AND coalesce(prompt_tokens, 0) >= 0 AND coalesce(completion_tokens, 0) >= 0
        AND coalesce(cached_tokens, 0) >= 0 AND coalesce(cache_write_tokens, 0) >= 0 AND coalesce(reasoning_tokens, 0) >= 0
        AND coalesce(latency_ms, 0) >= 0 AND coalesce(ttft_ms, 0) >= 0)),
    CONSTRAINT cp_auditing_inferencerequest_parts_within_total CHECK (pricing_status = 'adjustment' OR (
        coalesce(cached_tokens, 0) + coalesce(cache_write_tokens, 0) <= coalesce(prompt_tokens, 2147483647)
        AND coalesce(reasoning_tokens, 0) <= coalesce(completion_tokens, 2147483647))),
    CONSTRAINT cp_auditing_inferencerequest_adjustment_says_why CHECK (
        (pricing_status = 'adjustment') = (adjusts IS NOT NULL)
        AND (adjusts IS NOT NULL) = (reason <> '') AND (adjusts IS NOT NULL) = (reason_code <> '')),
    CONSTRAINT cp_auditing_inferencerequest_breakdown_is_small CHECK (octet_length(cost_breakdown::text) <= 512)
) PARTITION BY RANGE (id);
COMMENT ON TABLE cp_auditing_inferencerequest IS 'One finished call of a model: its usage, cost and outcome. Append-only.';

-- Pages, exports and sums of a tenant, in the order of ids.
CREATE INDEX inferencerequest_tenant_idx ON cp_auditing_inferencerequest (tenant_id, id);
-- Pages of an app, a key, a user. Each is of one tenant: its id before theirs would be 16 bytes a row that choose nothing. The
-- statistics say so to the planner, which else takes the rows of an app and its tenant for very few, and sorts all of them.
CREATE INDEX inferencerequest_app_idx ON cp_auditing_inferencerequest (app_id, id) WHERE app_id IS NOT NULL;
CREATE INDEX inferencerequest_key_idx ON cp_auditing_inferencerequest (api_key_id, id) WHERE api_key_id IS NOT NULL;
CREATE INDEX inferencerequest_user_idx ON cp_auditing_inferencerequest (user_id, id) WHERE user_id IS NOT NULL;
CREATE STATISTICS inferencerequest_app_stats (dependencies) ON tenant_id, app_id FROM cp_auditing_inferencerequest;
CREATE STATISTICS inferencerequest_key_stats (dependencies) ON tenant_id, api_key_id FROM cp_auditing_inferencerequest;
CREATE STATISTICS inferencerequest_user_stats (dependencies) ON tenant_id, user_id FROM cp_auditing_inferencerequest;
-- What roll-ups and seals have not read yet, and the first of it.
CREATE INDEX inferencerequest_xid_idx ON cp_auditing_inferencerequest (xid);
CREATE INDEX inferencerequest_adjusts_idx ON cp_auditing_inferencerequest (adjusts) WHERE adjusts IS NOT NULL;
CREATE INDEX inferencerequest_unpriced_idx ON cp_auditing_inferencerequest (tenant_id, id) WHERE pricing_status = 'unpriced';

SELECT cp_append_only('cp_auditing_inferencerequest');
SELECT cp_isolate('cp_auditing_inferencerequest', 'tenant_id', 'SELECT, INSERT');
SELECT cp_readable('cp_auditing_inferencerequest');
-- Once in a month, whoever writes it. The request id first: those made by the gate ascend, so that pages of the index get full.
SELECT cp_partition_add('cp_auditing_inferencerequest',
                        (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => m))::date, '{request_id, tenant_id}')
FROM generate_series(0, 3) m;
