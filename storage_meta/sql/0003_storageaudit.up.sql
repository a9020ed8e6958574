-- Guarantees: one row per thing done to what is stored, never changed. It goes by one door alone: DELETE by the owning role of rows
-- older than the transaction-local cp.retention_before; all else is refused (SQLSTATE 23001), under replication too.
-- See it: \d+ cp_storage_meta_storageaudit; DELETE FROM it fails, inside BEGIN; SET LOCAL cp.retention_before = '2026-01-01Z' for
-- younger rows as well.
CREATE TABLE cp_storage_meta_storageaudit (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    tenant_id uuid NOT NULL,
    action varchar(64) NOT NULL,
    record_type varchar(15) NOT NULL
        CONSTRAINT cp_storage_meta_storageaudit_record_type CHECK (record_type IN
            ('CREATE', 'UPDATE_METADATA', 'DELETE', 'READ', 'ADMIN')),
    bucket varchar(63) NOT NULL DEFAULT '',
    object_key text COLLATE "C" NOT NULL DEFAULT '',
    version_id varchar(1024) NOT NULL DEFAULT '',
    sequencer varchar(16) NOT NULL DEFAULT '',
    size bigint,
    etag varchar(255) NOT NULL DEFAULT '',
    is_delete_marker boolean NOT NULL DEFAULT false,
    bytes_sent bigint,
    metadata jsonb,
    actor_type varchar(16) NOT NULL,
    actor_id text NOT NULL DEFAULT '',
    actor_name text NOT NULL DEFAULT '',
    source_ip inet,
    user_agent text NOT NULL DEFAULT '',
    request_id text NOT NULL DEFAULT '',
    success boolean NOT NULL DEFAULT true,
    error_code varchar(64) NOT NULL DEFAULT '',
    error_message text NOT NULL DEFAULT ''
) PARTITION BY RANGE (id);
COMMENT ON TABLE cp_storage_meta_storageaudit IS 'One thing done to what is stored. Append-only.';

CREATE INDEX storageaudit_tenant_idx ON cp_storage_meta_storageaudit (tenant_id, id);
CREATE INDEX storageaudit_key_idx ON cp_storage_meta_storageaudit (tenant_id, object_key, id);
CREATE INDEX storageaudit_actor_idx ON cp_storage_meta_storageaudit (tenant_id, actor_id, id);

-- Not SECURITY DEFINER: it asks who it is that deletes the row. A setting that is no instant opens nothing.
CREATE FUNCTION cp_storage_audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    named text := nullif(current_setting('cp.retention_before', true), '');
BEGIN
    IF TG_OP = 'DELETE' AND named IS NOT NULL
        AND pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE')
    THEN
        IF OLD.created_at < named::timestamptz THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION '% is append-only: % is refused.', TG_TABLE_NAME, TG_OP
        USING ERRCODE = '23001', HINT = 'Rows whose time is over go by manage.py storage_retention.';
END $$;

-- Above the ids of all rows: the end of the last month that has any page, this month's at least. Each empty month ahead would cost a
-- page of the log two buffers; a size costs none. More than three months ahead no row is taken.
CREATE FUNCTION cp_storage_audit_end() RETURNS uuid LANGUAGE plpgsql STABLE AS $$
DECLARE
    month timestamp;
BEGIN
    FOR ahead IN REVERSE 4..0 LOOP
        month := date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead);
        EXIT WHEN pg_relation_size(to_regclass('cp_storage_meta_storageaudit_' || to_char(month, 'YYYYMM'))) > 0;
    END LOOP;
    RETURN (lpad(to_hex(cp_uuid7_ms((month + interval '1 month') AT TIME ZONE 'UTC')), 12, '0') || repeat('0', 20))::uuid;
END $$;

SELECT cp_append_only('cp_storage_meta_storageaudit');
DROP TRIGGER cp_append_only ON cp_storage_meta_storageaudit;
CREATE TRIGGER cp_append_only BEFORE UPDATE OR DELETE ON cp_storage_meta_storageaudit
    FOR EACH ROW EXECUTE FUNCTION cp_storage_audit_guard();
ALTER TABLE cp_storage_meta_storageaudit ENABLE ALWAYS TRIGGER cp_append_only;

SELECT cp_isolate('cp_storage_meta_storageaudit', 'tenant_id', 'SELECT, INSERT');
SELECT cp_readable('cp_storage_meta_storageaudit');
SELECT cp_partition_add('cp_storage_meta_storageaudit',
                        (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => m))::date)
FROM generate_series(0, 3) m;
