SELECT cp_unreadable('cp_policies_policyepoch');
SELECT cp_unreadable('cp_policies_policyversion');
SELECT cp_unisolate('cp_policies_policyepoch');
SELECT cp_unisolate('cp_policies_policyversion');
DROP TRIGGER cp_policies_zone ON cp_tenants_tenant;
SELECT cp_cache_unwatch('cp_policies_policyepoch');
DROP TRIGGER cp_no_truncate ON cp_policies_policy;
DROP FUNCTION cp_policies_refuse_truncate();
DROP TRIGGER cp_policies_record_delete ON cp_policies_policy;
DROP TRIGGER cp_policies_record_update ON cp_policies_policy;
DROP TRIGGER cp_policies_record_insert ON cp_policies_policy;
DROP FUNCTION cp_policies_record();
GRANT EXECUTE ON FUNCTION cp_policies_policy_versioned() TO PUBLIC;
CREATE OR REPLACE FUNCTION cp_policies_policy_versioned() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- Generated columns are NULL in NEW before they are stored, so they are left out, with what this trigger sets.
    derived CONSTANT text[] := ARRAY['version', 'updated_at', 'layer', 'app_key', 'branch_key', 'user_key', 'key_key'];
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.version := 1;
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
