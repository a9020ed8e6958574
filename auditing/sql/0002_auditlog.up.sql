-- Guarantees: one row per thing done, never changed, partitioned by month of its UUIDv7. pii_commit binds the three
-- personal columns, so that they can be erased later without breaking the proof over the row.
-- See it: UPDATE cp_auditing_auditlog SET reason = 'x' fails; \d+ cp_auditing_auditlog
CREATE TABLE cp_auditing_auditlog (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    tenant_id uuid NOT NULL,
    app_id uuid,
    branch_id uuid,
    user_id uuid,
    api_key_id uuid,
    actor_type varchar(16) NOT NULL
        CONSTRAINT cp_auditing_auditlog_actor_type CHECK (actor_type IN
            ('operator', 'user', 'api_key', 'command', 'system', 'database', 'anonymous')),
    actor_id text NOT NULL,
    actor_label text,
    actor_role text NOT NULL DEFAULT '',
    action varchar(100) NOT NULL,
    resource_type varchar(100) NOT NULL DEFAULT '',
    resource_id text NOT NULL DEFAULT '',
    resource_label text NOT NULL DEFAULT '',
    outcome varchar(8) NOT NULL
        CONSTRAINT cp_auditing_auditlog_outcome CHECK (outcome IN ('success', 'denied', 'failure')),
    before jsonb,
    after jsonb,
    details jsonb,
    reason text NOT NULL DEFAULT '',
    request_id text,
    ip inet,
    user_agent text,
    pii_salt bytea,
    pii_commit bytea,
    provider varchar(64) NOT NULL DEFAULT '',
    model varchar(265) NOT NULL DEFAULT '',
    prompt_tokens integer,
    completion_tokens integer,
    cost numeric(24, 12),
    latency_ms integer,
    schema smallint NOT NULL DEFAULT 1,
    xid bigint NOT NULL DEFAULT (pg_current_xact_id()::text)::bigint,
    CONSTRAINT cp_auditing_auditlog_cost_is_a_number CHECK (cost <> 'NaN')
) PARTITION BY RANGE (id);
COMMENT ON TABLE cp_auditing_auditlog IS 'Who did what to what, from where, with which outcome. Append-only.';

CREATE INDEX auditlog_tenant_idx ON cp_auditing_auditlog (tenant_id, id);
CREATE INDEX auditlog_action_idx ON cp_auditing_auditlog (tenant_id, action, id);
CREATE INDEX auditlog_actor_idx ON cp_auditing_auditlog (tenant_id, actor_id, id);
CREATE INDEX auditlog_resource_idx ON cp_auditing_auditlog (tenant_id, resource_type, resource_id, id);
CREATE INDEX auditlog_xid_idx ON cp_auditing_auditlog (xid);
CREATE INDEX auditlog_app_idx ON cp_auditing_auditlog (tenant_id, app_id, id) WHERE app_id IS NOT NULL;
CREATE INDEX auditlog_user_idx ON cp_auditing_auditlog (tenant_id, user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX auditlog_request_idx ON cp_auditing_auditlog (request_id) WHERE request_id IS NOT NULL;

CREATE FUNCTION cp_netstring(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(octet_length(value) || ':' || value || ',', '-,');

CREATE FUNCTION cp_audit_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.pii_salt := uuid_send(gen_random_uuid());
    NEW.pii_commit := sha256(NEW.pii_salt || convert_to(
        cp_netstring(host(NEW.ip)) || cp_netstring(NEW.user_agent) || cp_netstring(NEW.actor_label), 'UTF8'));
    RETURN NEW;
END $$;
CREATE TRIGGER cp_stamp BEFORE INSERT ON cp_auditing_auditlog FOR EACH ROW EXECUTE FUNCTION cp_audit_stamp();
ALTER TABLE cp_auditing_auditlog ENABLE ALWAYS TRIGGER cp_stamp;

SELECT cp_append_only('cp_auditing_auditlog');
SELECT cp_isolate('cp_auditing_auditlog', 'tenant_id', 'SELECT, INSERT');
SELECT cp_readable('cp_auditing_auditlog', '{pii_salt}');
-- The months around the moment of installation; later ones are made ahead of time by maintenance.
SELECT cp_partition_add('cp_auditing_auditlog', (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => m))::date)
FROM generate_series(0, 3) m;
