-- Guarantees: whoever changes policies, by whatever statement: each policy that really changed has a new version with its whole
-- body, who and why; the tenant's epoch is one higher; the log of changes tells the caches. All in the same transaction. A
-- tenant's epoch row stays locked until the commit, so its epochs are in the order of commits. Versions are append-only.
-- See it: UPDATE a policy in psql, then SELECT * FROM cp_policies_policyversion ORDER BY id DESC LIMIT 1;

-- What there was before: one version each, in the tenant's first epoch.
INSERT INTO cp_policies_policyepoch (id, tenant_id, epoch)
SELECT cp_uuid7(clock_timestamp()), tenant_id, 1 FROM cp_policies_policy GROUP BY tenant_id;
INSERT INTO cp_policies_policyversion (id, tenant_id, policy_id, version, op, epoch, body, actor, reason, recorded_at)
SELECT cp_uuid7(clock_timestamp()), tenant_id, id, version, 'create', 1,
    to_jsonb(p) - ARRAY['app_key', 'branch_key', 'user_key', 'key_key'], 'system', 'The history begins here.', clock_timestamp()
FROM cp_policies_policy p;

-- As before, but a policy that comes back under the id of a deleted one counts on from it, and it runs as the owner: the number
-- may depend neither on who writes nor on what he may read.
CREATE OR REPLACE FUNCTION cp_policies_policy_versioned() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    -- Generated columns are NULL in NEW before they are stored, so they are left out, with what this trigger sets.
    derived CONSTANT text[] := ARRAY['version', 'updated_at', 'layer', 'app_key', 'branch_key', 'user_key', 'key_key'];
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.version := 1 + coalesce((
            SELECT max(version) FROM cp_policies_policyversion WHERE tenant_id = NEW.tenant_id AND policy_id = NEW.id), 0);
        RETURN NEW;
    END IF;
    IF (NEW.id, NEW.tenant_id, NEW.policy_type) IS DISTINCT FROM (OLD.id, OLD.tenant_id, OLD.policy_type) THEN
        RAISE EXCEPTION 'violates constraint cp_policies_policy_identity: id, tenant and type of a policy stay'
            USING ERRCODE = '23514', CONSTRAINT = 'cp_policies_policy_identity';
    END IF;
    IF to_jsonb(NEW) - derived = to_jsonb(OLD) - derived THEN
        NEW.version := OLD.version;
        NEW.updated_at := OLD.updated_at;
    ELSE
        NEW.version := OLD.version + 1;
        NEW.updated_at := clock_timestamp();
    END IF;
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION cp_policies_policy_versioned() FROM PUBLIC;

-- Planned anew each time, as cp_cache_note: a plan for one row would join a thousand by a loop. Tenants in the order of their
-- ids, so two statements that change policies of the same ones wait for each other and never in a ring.
CREATE FUNCTION cp_policies_record() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    said jsonb := coalesce(nullif(current_setting('cp.audit', true), '')::jsonb, '{}');
    -- Type and id alone, as "command policy_apply": a name of a person could never be erased from here.
    who text := CASE WHEN said ? 'actor_type' THEN concat_ws(' ', said ->> 'actor_type', nullif(said ->> 'actor_id', ''))
        ELSE 'database ' || session_user END;
    changed text := CASE TG_OP
        WHEN 'INSERT' THEN 'SELECT n.tenant_id, n.id, n.version, ''create'' AS op, to_jsonb(n) AS body FROM cp_new n'
        WHEN 'UPDATE' THEN 'SELECT n.tenant_id, n.id, n.version, ''update'' AS op, to_jsonb(n) AS body '
                           'FROM cp_new n JOIN cp_old o ON o.id = n.id WHERE n.version <> o.version'
        ELSE 'SELECT o.tenant_id, o.id, o.version + 1 AS version, ''delete'' AS op, to_jsonb(o) AS body FROM cp_old o' END;
BEGIN
    EXECUTE format(
        'WITH changed AS MATERIALIZED (%s), epochs AS ('
        '  INSERT INTO cp_policies_policyepoch AS e (id, tenant_id, epoch) '
        '  SELECT cp_uuid7(clock_timestamp()), tenant_id, 1 FROM changed GROUP BY tenant_id ORDER BY tenant_id '
        '  ON CONFLICT (tenant_id) DO UPDATE SET epoch = e.epoch + 1 RETURNING e.tenant_id, e.epoch) '
        'INSERT INTO cp_policies_policyversion (id, tenant_id, policy_id, version, op, epoch, body, actor, reason, recorded_at) '
        'SELECT cp_uuid7(clock_timestamp()), c.tenant_id, c.id, c.version, c.op, e.epoch, c.body - $1, $2, $3, clock_timestamp() '
        'FROM changed c JOIN epochs e USING (tenant_id)', changed)
    USING ARRAY['app_key', 'branch_key', 'user_key', 'key_key'], cp_redact_text(who), cp_redact_text(coalesce(said ->> 'reason', ''));
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION cp_policies_record() FROM PUBLIC;

CREATE TRIGGER cp_policies_record_insert AFTER INSERT ON cp_policies_policy
    REFERENCING NEW TABLE AS cp_new FOR EACH STATEMENT EXECUTE FUNCTION cp_policies_record();
CREATE TRIGGER cp_policies_record_update AFTER UPDATE ON cp_policies_policy
    REFERENCING OLD TABLE AS cp_old NEW TABLE AS cp_new FOR EACH STATEMENT EXECUTE FUNCTION cp_policies_record();
CREATE TRIGGER cp_policies_record_delete AFTER DELETE ON cp_policies_policy
    REFERENCING OLD TABLE AS cp_old FOR EACH STATEMENT EXECUTE FUNCTION cp_policies_record();
ALTER TABLE cp_policies_policy ENABLE ALWAYS TRIGGER cp_policies_record_insert;
ALTER TABLE cp_policies_policy ENABLE ALWAYS TRIGGER cp_policies_record_update;
ALTER TABLE cp_policies_policy ENABLE ALWAYS TRIGGER cp_policies_record_delete;

-- A TRUNCATE has no rows to record.
CREATE FUNCTION cp_policies_refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of policies is refused: their history would miss it.'
        USING ERRCODE = '23001', HINT = 'DELETE the rows.';
END $$;
CREATE TRIGGER cp_no_truncate BEFORE TRUNCATE ON cp_policies_policy
    FOR EACH STATEMENT EXECUTE FUNCTION cp_policies_refuse_truncate();
ALTER TABLE cp_policies_policy ENABLE ALWAYS TRIGGER cp_no_truncate;

-- One row for each tenant whose epoch rose, with the new one. Not by cp_cache_watch: that tells of old values too.
CREATE TRIGGER cp_cache_insert AFTER INSERT ON cp_policies_policyepoch REFERENCING NEW TABLE AS cp_new
    FOR EACH STATEMENT EXECUTE FUNCTION cp_cache_note('policy', 'SELECT n.tenant_id AS ref, n.epoch AS value FROM cp_new n');
CREATE TRIGGER cp_cache_update AFTER UPDATE ON cp_policies_policyepoch REFERENCING NEW TABLE AS cp_new
    FOR EACH STATEMENT EXECUTE FUNCTION cp_cache_note('policy', 'SELECT n.tenant_id AS ref, n.epoch AS value FROM cp_new n');
ALTER TABLE cp_policies_policyepoch ENABLE ALWAYS TRIGGER cp_cache_insert;
ALTER TABLE cp_policies_policyepoch ENABLE ALWAYS TRIGGER cp_cache_update;

-- What is merged depends on the tenant's zone, which is no policy: a row without an epoch. A trigger beside those by which
-- tenants itself watches this table, with a name that cp_cache_unwatch leaves alone.
CREATE TRIGGER cp_policies_zone AFTER UPDATE ON cp_tenants_tenant REFERENCING OLD TABLE AS cp_old NEW TABLE AS cp_new
    FOR EACH STATEMENT EXECUTE FUNCTION cp_cache_note('policy',
        'SELECT n.id AS ref, NULL::bigint AS value FROM cp_new n JOIN cp_old o USING (id) WHERE n.time_zone <> o.time_zone');
ALTER TABLE cp_tenants_tenant ENABLE ALWAYS TRIGGER cp_policies_zone;

SELECT cp_append_only('cp_policies_policyversion');
SELECT cp_isolate('cp_policies_policyversion', 'tenant_id', 'SELECT');
SELECT cp_isolate('cp_policies_policyepoch', 'tenant_id', 'SELECT');
SELECT cp_readable('cp_policies_policyversion');
SELECT cp_readable('cp_policies_policyepoch');
