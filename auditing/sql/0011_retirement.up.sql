-- Guarantees: rows leave a log, or lose what is personal in them, by two doors alone, each of which leaves a retention record made
-- in the same transaction. DELETE of all rows of one log, tenant and month, while cp.retention_record names its `retired` record;
-- UPDATE that only sets ip, user_agent, actor_label and pii_salt to NULL, while cp.erasure_record names the `erased` record of
-- that actor. For the owner of the log alone. All else is refused as before (SQLSTATE 23001), under replication too.
-- See it: DELETE FROM cp_auditing_auditlog fails, inside BEGIN; SET LOCAL cp.retention_record = '<id of an older record>' as well.

-- Whether the open transaction wrote the row of this xmin, in a savepoint too: it is seen, and has not ended.
CREATE FUNCTION cp_made_here(made xid) RETURNS boolean LANGUAGE sql VOLATILE
    RETURN (SELECT pg_xact_status((CASE
            WHEN near - present > 2147483648 THEN near - 4294967296
            WHEN present - near > 2147483648 THEN near + 4294967296
            ELSE near END)::text::xid8) = 'in progress'
        FROM (SELECT present, (present >> 32 << 32) + made::text::bigint AS near
              FROM (SELECT pg_current_xact_id()::text::bigint AS present) p) n);

-- Ids of a month's rows: low <= id < high.
CREATE FUNCTION cp_month_ids(month date, OUT low uuid, OUT high uuid) LANGUAGE sql STABLE AS $$
    SELECT rpad(lpad(to_hex(cp_uuid7_ms(month::timestamp AT TIME ZONE 'UTC')), 12, '0'), 32, '0')::uuid,
           rpad(lpad(to_hex(cp_uuid7_ms((month + interval '1 month') AT TIME ZONE 'UTC')), 12, '0'), 32, '0')::uuid
$$;

-- TG_ARGV[0]: the log's name in records. Not SECURITY DEFINER: it asks who it is that changes the row.
CREATE FUNCTION cp_log_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    named uuid := nullif(current_setting(
        CASE TG_OP WHEN 'DELETE' THEN 'cp.retention_record' ELSE 'cp.erasure_record' END, true), '')::uuid;
    erased record;
BEGIN
    IF named IS NOT NULL AND pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        IF TG_OP = 'DELETE' THEN
            PERFORM FROM public.cp_auditing_retentionrecord r, public.cp_month_ids(r.month) m
                WHERE r.id = named AND r.kind = 'retired' AND r.log = TG_ARGV[0] AND r.tenant_id = OLD.tenant_id
                    AND r.subject = '' AND NOT r.all_tenants AND OLD.id >= m.low AND OLD.id < m.high AND public.cp_made_here(r.xmin);
            IF FOUND THEN
                RETURN OLD;
            END IF;
        ELSIF TG_ARGV[0] = 'auditlog' THEN
            erased := OLD;
            erased.ip := NULL;
            erased.user_agent := NULL;
            erased.actor_label := NULL;
            erased.pii_salt := NULL;
            PERFORM FROM public.cp_auditing_retentionrecord r
                WHERE r.id = named AND r.kind = 'erased' AND r.log = TG_ARGV[0] AND r.tenant_id = OLD.tenant_id
                    AND r.subject = OLD.actor_id AND public.cp_made_here(r.xmin);
            IF FOUND AND NEW *= erased THEN
                RETURN NEW;
            END IF;
        END IF;
    END IF;
    RAISE EXCEPTION '% is append-only: % is refused.', TG_TABLE_NAME, TG_OP
        USING ERRCODE = '23001', HINT = 'Record a correction as a new row; whole months are retired by retention.';
END $$;

-- Gives a log its guards, or gives them back to it. Those of its partitions follow, but for TRUNCATE: cp_partition_add.
CREATE FUNCTION cp_guard_log(target regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DROP TRIGGER IF EXISTS cp_append_only ON %s', target);
    EXECUTE format('DROP TRIGGER IF EXISTS cp_no_truncate ON %s', target);
    PERFORM cp_append_only(target);
    EXECUTE format('DROP TRIGGER cp_append_only ON %s', target);
    EXECUTE format('CREATE TRIGGER cp_append_only BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION cp_log_guard(%L)',
                   target, replace((SELECT relname FROM pg_class WHERE oid = target), 'cp_auditing_', ''));
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER cp_append_only', target);
END $$;
SELECT cp_guard_log('cp_auditing_auditlog');
SELECT cp_guard_log('cp_auditing_inferencerequest');

-- At the end of a transaction nothing may be left of what its record calls retired: no part of a month is ever deleted. A record
-- with a subject is of a month whose whole partition goes, which takes no more rows (trigger cp_retired) and is dropped next.
CREATE FUNCTION cp_check_retired() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    left_over boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM public.%I WHERE tenant_id = $1 AND id >= $2 AND id < $3)', 'cp_auditing_' || NEW.log)
        INTO left_over USING NEW.tenant_id, (public.cp_month_ids(NEW.month)).low, (public.cp_month_ids(NEW.month)).high;
    IF left_over THEN
        RAISE EXCEPTION 'Rows of % of % are left: a month of a tenant is retired as a whole.', NEW.log, to_char(NEW.month, 'YYYY-MM')
            USING ERRCODE = '23001', HINT = 'Delete all rows of the log, tenant and month in this transaction, or none.';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER cp_retired_whole AFTER INSERT ON cp_auditing_retentionrecord DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.kind = 'retired' AND NEW.subject = '') EXECUTE FUNCTION cp_check_retired();
ALTER TABLE cp_auditing_retentionrecord ENABLE ALWAYS TRIGGER cp_retired_whole;

-- On a month that is being removed (cp_retire): it takes no more rows, for its records are written.
CREATE FUNCTION cp_refuse_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is being removed, for its time is over: no row goes into it.', TG_TABLE_NAME
        USING ERRCODE = '23001', HINT = 'Run manage.py audit_retention apply; afterwards the month can be made anew.';
END $$;

CREATE FUNCTION cp_retire(partition regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER cp_retired BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION cp_refuse_row()', partition);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER cp_retired', partition);
END $$;
