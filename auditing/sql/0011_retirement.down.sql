DROP FUNCTION cp_retire(regclass);
DROP FUNCTION cp_refuse_row() CASCADE;
DROP TRIGGER cp_retired_whole ON cp_auditing_retentionrecord;
DROP FUNCTION cp_check_retired();
DROP TRIGGER cp_append_only ON cp_auditing_inferencerequest;
DROP TRIGGER cp_append_only ON cp_auditing_auditlog;
DROP FUNCTION cp_guard_log(regclass);
DROP FUNCTION cp_log_guard();
DROP FUNCTION cp_month_ids(date);
DROP FUNCTION cp_made_here(xid);
DO $$
DECLARE
    target regclass;
BEGIN
    FOREACH target IN ARRAY ARRAY['cp_auditing_auditlog', 'cp_auditing_inferencerequest']::regclass[] LOOP
        EXECUTE format('CREATE TRIGGER cp_append_only BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION cp_refuse_change()', target);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER cp_append_only', target);
    END LOOP;
END $$;
