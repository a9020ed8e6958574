-- Guarantees: what a key is (tenant, app, user, branch, environment) and that it was revoked never changes, and no key row
-- goes away, whoever writes. A secret's identity and revocation likewise; ended secrets may be purged.
-- See it: UPDATE cp_tenants_apikey SET revoked_at = NULL of a revoked key fails.
CREATE FUNCTION cp_tenants_guard_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'violates constraint cp_tenants_apikey_stays: a key is revoked, never deleted'
            USING ERRCODE = '23514', CONSTRAINT = 'cp_tenants_apikey_stays';
    END IF;
    IF (NEW.tenant_id, NEW.app_id, NEW.user_id, NEW.branch_id, NEW.environment)
       IS DISTINCT FROM (OLD.tenant_id, OLD.app_id, OLD.user_id, OLD.branch_id, OLD.environment) THEN
        RAISE EXCEPTION 'violates constraint cp_tenants_apikey_identity: tenant, app, user, branch and environment of a key stay'
            USING ERRCODE = '23514', CONSTRAINT = 'cp_tenants_apikey_identity';
    END IF;
    IF OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at THEN
        RAISE EXCEPTION 'violates constraint cp_tenants_apikey_revocation_is_final: a revoked key stays revoked'
            USING ERRCODE = '23514', CONSTRAINT = 'cp_tenants_apikey_revocation_is_final';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER cp_guard BEFORE UPDATE OR DELETE ON cp_tenants_apikey
    FOR EACH ROW EXECUTE FUNCTION cp_tenants_guard_key();
ALTER TABLE cp_tenants_apikey ENABLE ALWAYS TRIGGER cp_guard;

CREATE FUNCTION cp_tenants_guard_secret() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.tenant_id, NEW.key_id, NEW.kid) IS DISTINCT FROM (OLD.tenant_id, OLD.key_id, OLD.kid) THEN
        RAISE EXCEPTION 'violates constraint cp_tenants_apikeysecret_identity: tenant, key and kid of a secret stay'
            USING ERRCODE = '23514', CONSTRAINT = 'cp_tenants_apikeysecret_identity';
    END IF;
    IF OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at THEN
        RAISE EXCEPTION 'violates constraint cp_tenants_apikeysecret_revocation_is_final: a revoked secret stays revoked'
            USING ERRCODE = '23514', CONSTRAINT = 'cp_tenants_apikeysecret_revocation_is_final';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER cp_guard BEFORE UPDATE ON cp_tenants_apikeysecret
    FOR EACH ROW EXECUTE FUNCTION cp_tenants_guard_secret();
ALTER TABLE cp_tenants_apikeysecret ENABLE ALWAYS TRIGGER cp_guard;
