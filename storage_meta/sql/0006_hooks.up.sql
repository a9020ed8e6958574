-- Guarantees: what hooks were told stays as it was. Of an event its state and its times change, of an attempt nothing; both
-- may be removed, when they are old or their hook goes.
-- See it: UPDATE cp_storage_meta_hookexecution SET success = true;
CREATE FUNCTION cp_storage_refuse_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'What an event says does not change.' USING
        ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'cp_storage_meta_storageevent_as_it_was';
END $$;
CREATE TRIGGER cp_as_it_was BEFORE UPDATE ON cp_storage_meta_storageevent FOR EACH ROW
    WHEN ((OLD.id, OLD.tenant_id, OLD.hook_id, OLD.event_type, OLD.object_key, OLD.version_id, OLD.sequencer, OLD.payload,
           OLD.created_at)
          IS DISTINCT FROM
          (NEW.id, NEW.tenant_id, NEW.hook_id, NEW.event_type, NEW.object_key, NEW.version_id, NEW.sequencer, NEW.payload,
           NEW.created_at))
    EXECUTE FUNCTION cp_storage_refuse_event();

CREATE FUNCTION cp_storage_refuse_execution() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'An attempt to tell a hook does not change.' USING
        ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'cp_storage_meta_hookexecution_as_it_was';
END $$;
CREATE TRIGGER cp_as_it_was BEFORE UPDATE ON cp_storage_meta_hookexecution FOR EACH ROW
    EXECUTE FUNCTION cp_storage_refuse_execution();
