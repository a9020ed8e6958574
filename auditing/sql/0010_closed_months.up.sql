-- Guarantees: the sums of a closed month never change: day and month roll-ups of that tenant and local month refuse INSERT,
-- UPDATE and DELETE, under session_replication_role = replica too (ENABLE ALWAYS). Hours are of UTC, and one may lie in two
-- local months, so they are not guarded: nothing is invoiced by them. Whether a month is closed says the last seal of kind
-- close or reopen over it.
-- Who writes a request into a month that is over asks cp_month_hold first: it waits for whoever closes the month, and lets
-- nobody close it before the writer's transaction ends.
-- See it: SELECT cp_month_closed(tenant_id, month) FROM cp_auditing_usagesummary; an UPDATE of such a row fails with 23001.
CREATE FUNCTION cp_month_closed(tenant uuid, month date) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce((
        SELECT s.kind = 'close' FROM cp_auditing_auditseal s
        WHERE s.tenant_id = $1 AND s.log = 'usagesummary' AND s.month = $2 AND s.kind IN ('close', 'reopen')
        ORDER BY s.seq DESC LIMIT 1), false)
$$;

-- The lock of a month; 256 in all, so that a batch of many months holds no more.
CREATE FUNCTION cp_month_lock(tenant uuid, month date) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN hashtext(tenant::text || to_char(month::timestamp, 'YYYY-MM')) & 255;

-- VOLATILE, so that it looks with a snapshot from after the lock.
CREATE FUNCTION cp_month_hold(tenant uuid, month date) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('cp_month'), cp_month_lock(tenant, month));
    RETURN cp_month_closed(tenant, month);
END $$;

CREATE FUNCTION cp_refuse_closed_month() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    given jsonb;
    first date;
BEGIN
    FOREACH given IN ARRAY ARRAY[to_jsonb(OLD), to_jsonb(NEW)] LOOP
        CONTINUE WHEN given IS NULL;
        first := date_trunc('month', (given ->> TG_ARGV[0])::timestamp)::date;
        IF cp_month_closed((given ->> 'tenant_id')::uuid, first) THEN
            RAISE EXCEPTION 'The month % of tenant % is closed: its sums cannot change.', to_char(first, 'YYYY-MM'), given ->> 'tenant_id'
                USING ERRCODE = '23001', CONSTRAINT = 'cp_auditing_closed_month', TABLE = TG_TABLE_NAME,
                      HINT = 'What belongs to it is booked now instead. Reopen it first: manage.py usage_month reopen.';
        END IF;
    END LOOP;
    RETURN coalesce(NEW, OLD);
END $$;

CREATE FUNCTION cp_refuse_closed_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM cp_auditing_auditseal s WHERE s.log = 'usagesummary' AND cp_month_closed(s.tenant_id, s.month)) THEN
        RAISE EXCEPTION '% holds closed months: TRUNCATE is refused.', TG_TABLE_NAME
            USING ERRCODE = '23001', CONSTRAINT = 'cp_auditing_closed_month', TABLE = TG_TABLE_NAME,
                  HINT = 'Reopen them first: manage.py usage_month reopen.';
    END IF;
    RETURN NULL;
END $$;

-- A month that is over for three days begins more than 30 days ago, its last day is more than two days ago: the rows that the
-- roll-up writes all the time are not looked at. A row of an open month cannot be moved into a closed one either.
CREATE TRIGGER cp_closed_month BEFORE INSERT OR UPDATE OF month, tenant_id ON cp_auditing_usagesummary FOR EACH ROW
    WHEN (NEW.month < (now() - interval '30 days')::date) EXECUTE FUNCTION cp_refuse_closed_month('month');
CREATE TRIGGER cp_closed_month_change BEFORE UPDATE OR DELETE ON cp_auditing_usagesummary FOR EACH ROW
    WHEN (OLD.month < (now() - interval '30 days')::date) EXECUTE FUNCTION cp_refuse_closed_month('month');
CREATE TRIGGER cp_closed_month BEFORE INSERT OR UPDATE OF day, tenant_id ON cp_auditing_usageday FOR EACH ROW
    WHEN (NEW.day < (now() - interval '2 days')::date) EXECUTE FUNCTION cp_refuse_closed_month('day');
CREATE TRIGGER cp_closed_month_change BEFORE UPDATE OR DELETE ON cp_auditing_usageday FOR EACH ROW
    WHEN (OLD.day < (now() - interval '2 days')::date) EXECUTE FUNCTION cp_refuse_closed_month('day');
CREATE TRIGGER cp_no_truncate BEFORE TRUNCATE ON cp_auditing_usagesummary
    FOR EACH STATEMENT EXECUTE FUNCTION cp_refuse_closed_truncate();
CREATE TRIGGER cp_no_truncate BEFORE TRUNCATE ON cp_auditing_usageday
    FOR EACH STATEMENT EXECUTE FUNCTION cp_refuse_closed_truncate();
ALTER TABLE cp_auditing_usagesummary ENABLE ALWAYS TRIGGER cp_closed_month;
ALTER TABLE cp_auditing_usagesummary ENABLE ALWAYS TRIGGER cp_closed_month_change;
ALTER TABLE cp_auditing_usagesummary ENABLE ALWAYS TRIGGER cp_no_truncate;
ALTER TABLE cp_auditing_usageday ENABLE ALWAYS TRIGGER cp_closed_month;
ALTER TABLE cp_auditing_usageday ENABLE ALWAYS TRIGGER cp_closed_month_change;
ALTER TABLE cp_auditing_usageday ENABLE ALWAYS TRIGGER cp_no_truncate;
