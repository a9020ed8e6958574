-- Guarantees: no alias for everybody has the name of a model's key in any case, whichever of the two came first and whoever
-- writes: every call of that model would be answered, and billed, as another one. A tenant may redirect its own calls.
-- See it: INSERT an alias without tenant that is a key of cp_catalog_aimodel: it fails.
CREATE FUNCTION cp_catalog_check_names() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    given text := lower(CASE TG_TABLE_NAME WHEN 'cp_catalog_aimodel' THEN to_jsonb(NEW) ->> 'key' ELSE to_jsonb(NEW) ->> 'alias' END);
    clash boolean;
BEGIN
    -- An alias and a model of one name that come at once wait for each other; models do not. One lock, as an import makes
    -- thousands of models in a transaction.
    IF TG_TABLE_NAME = 'cp_catalog_aimodel' THEN
        PERFORM pg_advisory_xact_lock_shared(hashtext('cp_catalog_names'));
        clash := EXISTS (SELECT FROM cp_catalog_modelalias WHERE tenant_id IS NULL AND lower(alias) = given);
    ELSE
        PERFORM pg_advisory_xact_lock(hashtext('cp_catalog_names'));
        clash := EXISTS (SELECT FROM cp_catalog_aimodel WHERE lower(key) = given);
    END IF;
    IF clash THEN
        RAISE EXCEPTION 'violates constraint cp_catalog_modelalias_shadows_no_model: "%" would be a model''s key and an alias for everybody', given
            USING ERRCODE = '23514', CONSTRAINT = 'cp_catalog_modelalias_shadows_no_model';
    END IF;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION cp_catalog_check_names() FROM PUBLIC;  -- as cp_audit_row's: it runs as the owner
CREATE TRIGGER cp_check_names AFTER INSERT OR UPDATE OF alias, tenant_id ON cp_catalog_modelalias
    FOR EACH ROW WHEN (NEW.tenant_id IS NULL) EXECUTE FUNCTION cp_catalog_check_names();
ALTER TABLE cp_catalog_modelalias ENABLE ALWAYS TRIGGER cp_check_names;
CREATE TRIGGER cp_check_names_of_new AFTER INSERT ON cp_catalog_aimodel
    FOR EACH ROW EXECUTE FUNCTION cp_catalog_check_names();
ALTER TABLE cp_catalog_aimodel ENABLE ALWAYS TRIGGER cp_check_names_of_new;
CREATE TRIGGER cp_check_names AFTER UPDATE OF key ON cp_catalog_aimodel
    FOR EACH ROW WHEN (NEW.key <> OLD.key) EXECUTE FUNCTION cp_catalog_check_names();
ALTER TABLE cp_catalog_aimodel ENABLE ALWAYS TRIGGER cp_check_names;
