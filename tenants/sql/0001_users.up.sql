-- Guarantees: a tenant that has an active owner keeps one, whoever changes users and however many at once; and the moment a
-- user is deactivated is kept, so that older refresh tokens are void, whatever deactivated it.
-- See it: UPDATE cp_tenants_user SET role = 'viewer' for the last owner of a tenant fails.
CREATE FUNCTION cp_tenants_keep_owner() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF OLD.tenant_id IS NULL OR OLD.role <> 'owner' OR NOT OLD.is_active THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.tenant_id = OLD.tenant_id AND NEW.role = 'owner' AND NEW.is_active THEN
        RETURN NULL;
    END IF;
    -- Two owners who demote each other at once wait for each other here; the second one then sees the first. It is an
    -- UPDATE, not only a lock: under REPEATABLE READ the second one would look at a snapshot from before the first.
    UPDATE cp_tenants_tenant SET slug = slug WHERE id = OLD.tenant_id;
    IF NOT EXISTS (SELECT FROM cp_tenants_user WHERE tenant_id = OLD.tenant_id AND role = 'owner' AND is_active) THEN
        RAISE EXCEPTION 'violates constraint cp_tenants_user_last_owner: a tenant keeps one active owner'
            USING ERRCODE = '23514', CONSTRAINT = 'cp_tenants_user_last_owner';
    END IF;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION cp_tenants_keep_owner() FROM PUBLIC;  -- as cp_audit_row's: it runs as the owner
CREATE TRIGGER cp_keep_owner AFTER UPDATE OF tenant_id, role, is_active OR DELETE ON cp_tenants_user
    FOR EACH ROW EXECUTE FUNCTION cp_tenants_keep_owner();
ALTER TABLE cp_tenants_user ENABLE ALWAYS TRIGGER cp_keep_owner;

CREATE FUNCTION cp_tenants_void_tokens() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tokens_valid_after := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER cp_void_tokens BEFORE UPDATE OF is_active ON cp_tenants_user
    FOR EACH ROW WHEN (OLD.is_active AND NOT NEW.is_active) EXECUTE FUNCTION cp_tenants_void_tokens();
