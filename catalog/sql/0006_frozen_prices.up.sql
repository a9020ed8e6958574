-- Guarantees: of a price only its end and reason change, and only one that has not begun can be deleted, whoever writes: what was
-- billed points at the price that was used. A new column is frozen without being named here.
-- See it: UPDATE cp_catalog_modelprice SET rates = '{}'; fails.
CREATE FUNCTION cp_catalog_freeze_price() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- The generated columns are still NULL in NEW, and follow the rates anyway.
    loose CONSTANT text[] := ARRAY['effective_to', 'reason', 'input_rate', 'output_rate', 'cache_read_rate', 'cache_write_rate',
        'reasoning_rate', 'batch_input_rate', 'batch_output_rate', 'image_rate', 'second_rate', 'character_rate', 'query_rate',
        'page_rate'];
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.effective_from > now() THEN
            RETURN OLD;
        END IF;
    ELSIF to_jsonb(NEW) - loose = to_jsonb(OLD) - loose THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'A price cannot be changed or deleted, only ended.'
        USING ERRCODE = '23001', CONSTRAINT = 'cp_catalog_modelprice_is_frozen', HINT = 'End it and insert a new one.';
END $$;
CREATE TRIGGER cp_frozen BEFORE UPDATE OR DELETE ON cp_catalog_modelprice FOR EACH ROW EXECUTE FUNCTION cp_catalog_freeze_price();
ALTER TABLE cp_catalog_modelprice ENABLE ALWAYS TRIGGER cp_frozen;
CREATE TRIGGER cp_no_truncate BEFORE TRUNCATE ON cp_catalog_modelprice FOR EACH STATEMENT EXECUTE FUNCTION cp_refuse_change();
ALTER TABLE cp_catalog_modelprice ENABLE ALWAYS TRIGGER cp_no_truncate;
