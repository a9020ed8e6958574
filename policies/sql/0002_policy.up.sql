-- Guarantees: version counts the real changes of a policy, whoever writes, and nobody can set it; id, tenant and type of a
-- policy never change. Inside a tenant scope policies can be read, not written; every change is in the audit log.
-- See it: UPDATE a policy in psql and look at its version; UPDATE it to what it is and look again.

CREATE FUNCTION cp_policies_policy_versioned() RETURNS trigger LANGUAGE plpgsql AS $$
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

CREATE TRIGGER cp_policies_policy_versioned BEFORE INSERT OR UPDATE ON cp_policies_policy
    FOR EACH ROW EXECUTE FUNCTION cp_policies_policy_versioned();
ALTER TABLE cp_policies_policy ENABLE ALWAYS TRIGGER cp_policies_policy_versioned;

SELECT cp_isolate('cp_policies_policy', 'tenant_id', 'SELECT');
SELECT cp_audit_watch('cp_policies_policy');
SELECT cp_readable('cp_policies_policy');
