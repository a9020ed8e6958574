-- Guarantees: a table that joined by cp_append_only takes INSERT and nothing else, from anybody, under
-- session_replication_role = replica too (ENABLE ALWAYS). TRUNCATE triggers are not inherited: cp_partition_add gives
-- each partition its own.
-- See it: UPDATE, DELETE, TRUNCATE of the table or of a partition fail with SQLSTATE 23001.
CREATE FUNCTION cp_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused.', TG_TABLE_NAME, TG_OP
        USING ERRCODE = '23001', HINT = 'Record a correction as a new row; whole months are retired by retention.';
END $$;

CREATE FUNCTION cp_append_only(target regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE TRIGGER cp_append_only BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION cp_refuse_change()', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER cp_append_only', target);
    EXECUTE format(
        'CREATE TRIGGER cp_no_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION cp_refuse_change()', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER cp_no_truncate', target);
END $$;
