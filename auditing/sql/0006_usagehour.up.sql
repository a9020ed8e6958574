-- Guarantees: usage by UTC hour, one row for each tenant, provider and model, found by its id; partitioned by month of the hour.
-- See it: \d+ cp_auditing_usagehour
CREATE TABLE cp_auditing_usagehour (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    hour timestamptz NOT NULL,
    provider varchar(64) NOT NULL,
    model varchar(265) NOT NULL,
    requests bigint NOT NULL,
    completed bigint NOT NULL,
    failed bigint NOT NULL,
    cancelled bigint NOT NULL,
    lost bigint NOT NULL,
    unpriced bigint NOT NULL,
    estimated bigint NOT NULL,
    adjustments bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    cost numeric(38, 12) NOT NULL,
    estimated_cost numeric(38, 12) NOT NULL,
    latency_n bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_max_ms integer,
    latency_hist bigint[] NOT NULL
) PARTITION BY RANGE (id);
COMMENT ON TABLE cp_auditing_usagehour IS 'Usage of a UTC hour';

CREATE INDEX usagehour_tenant_idx ON cp_auditing_usagehour (tenant_id, id);

SELECT cp_isolate('cp_auditing_usagehour', 'tenant_id', 'SELECT');
SELECT cp_readable('cp_auditing_usagehour');
SELECT cp_partition_add('cp_auditing_usagehour',
                        (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => m))::date, '{}', 'hour')
FROM generate_series(0, 3) m;
