-- Guarantees: a row of a roll-up is found by what it is about: its id is that of its period's start and of its dimensions, so
-- that adding to it is one look into one index; a tenant may see how far the roll-up has read, and no other job.
-- See it: SELECT cp_usage_id(day::timestamp AT TIME ZONE 'UTC', cp_usage_digest(tenant_id, provider, model, app_id, branch_id,
-- api_key_id)) = id FROM cp_auditing_usageday;

-- SHA-256, in hex, over the dimensions of a row as octets. An absent dimension is the nil id; one that its roll-up has not, NULL.
CREATE FUNCTION cp_usage_digest(
    tenant uuid, provider text, model text,
    app uuid DEFAULT NULL, branch uuid DEFAULT NULL, api_key uuid DEFAULT NULL, caller uuid DEFAULT NULL
) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN encode(sha256(
        uuid_send(tenant) || coalesce(uuid_send(app), '') || coalesce(uuid_send(branch), '') || coalesce(uuid_send(api_key), '')
        || coalesce(uuid_send(caller), '') || convert_to(provider, 'UTF8') || '\x00' || convert_to(model, 'UTF8')), 'hex');

-- starts: the hour, or midnight UTC of the first date. The same as cp_uuid7_of, from the digest in place of what it is of, and
-- in a form that the planner inlines: this is worked out for each row of a roll-up, and a call of the other takes 16 µs.
CREATE FUNCTION cp_usage_id(starts timestamptz, digest text) RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (
        lpad(to_hex((extract(epoch FROM starts) * 1000)::bigint), 12, '0') || '7' || substr(digest, 1, 3)
        || to_hex(('x' || substr(digest, 4, 16))::bit(64)::bigint >> 2 & 4611686018427387903 | (-9223372036854775808))
    )::uuid;

-- Rows of the day and the month are written many times over while their period goes on: room for that on their own page.
ALTER TABLE cp_auditing_usageday SET (fillfactor = 80);
ALTER TABLE cp_auditing_usagesummary SET (fillfactor = 80);

-- Rows that count at another instant than their id says, of a tenant's window.
CREATE INDEX inferencerequest_booked_idx ON cp_auditing_inferencerequest (tenant_id, booked_at) WHERE booked_at IS NOT NULL;

SELECT cp_isolate('cp_auditing_usagezone', 'tenant_id', 'SELECT');
SELECT cp_readable('cp_auditing_usagezone');

ALTER TABLE cp_auditing_ingestwatermark ENABLE ROW LEVEL SECURITY;
CREATE POLICY cp_tenant ON cp_auditing_ingestwatermark FOR SELECT TO cp_tenant USING (name = 'rollup');
CREATE POLICY cp_reader ON cp_auditing_ingestwatermark FOR SELECT TO cp_reader USING (true);
GRANT SELECT ON cp_auditing_ingestwatermark TO cp_tenant;
