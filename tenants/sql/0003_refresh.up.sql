-- Guarantees: whose a family of refresh tokens is, its absolute end, and that it was revoked never change; nor does what a
-- token of it is, or that it was spent. Whoever writes: a copy of a spent token is known as such until the family is purged.
-- See it: UPDATE cp_tenants_refreshtoken SET used_at = NULL of a spent token fails.
CREATE FUNCTION cp_tenants_guard_family() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.tenant_id, NEW.user_id, NEW.created_at, NEW.absolute_expires_at)
       IS DISTINCT FROM (OLD.tenant_id, OLD.user_id, OLD.created_at, OLD.absolute_expires_at) THEN
        RAISE EXCEPTION 'violates constraint cp_tenants_refreshfamily_identity: tenant, user, beginning and absolute end stay'
            USING ERRCODE = '23514', CONSTRAINT = 'cp_tenants_refreshfamily_identity';
    END IF;
    IF OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at THEN
        RAISE EXCEPTION 'violates constraint cp_tenants_refreshfamily_revocation_is_final: a revoked family stays revoked'
            USING ERRCODE = '23514', CONSTRAINT = 'cp_tenants_refreshfamily_revocation_is_final';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER cp_guard BEFORE UPDATE ON cp_tenants_refreshfamily
    FOR EACH ROW EXECUTE FUNCTION cp_tenants_guard_family();
ALTER TABLE cp_tenants_refreshfamily ENABLE ALWAYS TRIGGER cp_guard;

CREATE FUNCTION cp_tenants_guard_refresh() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.tenant_id, NEW.family_id, NEW.generation) IS DISTINCT FROM (OLD.tenant_id, OLD.family_id, OLD.generation) THEN
        RAISE EXCEPTION 'violates constraint cp_tenants_refreshtoken_identity: tenant, family and generation of a token stay'
            USING ERRCODE = '23514', CONSTRAINT = 'cp_tenants_refreshtoken_identity';
    END IF;
    IF OLD.used_at IS NOT NULL AND NEW.used_at IS DISTINCT FROM OLD.used_at THEN
        RAISE EXCEPTION 'violates constraint cp_tenants_refreshtoken_use_is_final: a spent token stays spent'
            USING ERRCODE = '23514', CONSTRAINT = 'cp_tenants_refreshtoken_use_is_final';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER cp_guard BEFORE UPDATE ON cp_tenants_refreshtoken
    FOR EACH ROW EXECUTE FUNCTION cp_tenants_guard_refresh();
ALTER TABLE cp_tenants_refreshtoken ENABLE ALWAYS TRIGGER cp_guard;
