-- Guarantees: one row per thing done to what is stored, never changed.
-- See it: \d+ cp_storage_meta_storageaudit
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

SELECT cp_append_only('cp_storage_meta_storageaudit');
SELECT cp_isolate('cp_storage_meta_storageaudit', 'tenant_id', 'SELECT, INSERT');
SELECT cp_readable('cp_storage_meta_storageaudit');
SELECT cp_partition_add('cp_storage_meta_storageaudit',
                        (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => m))::date)
FROM generate_series(0, 3) m;
