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

-- Once for each statement: a roll-up writes thousands of rows of few months. TG_ARGV: the column that tells the month, and the
-- days after which a row may be of a closed one; what the roll-up writes all the time is not looked at.
CREATE FUNCTION cp_refuse_closed_month() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    closed record;
BEGIN
    EXECUTE format(
        'SELECT tenant_id, month FROM (SELECT DISTINCT tenant_id, date_trunc(''month'', %1$I::timestamp)::date AS month FROM touched '
        'WHERE %1$I < (now() - make_interval(days => %2$s))::date) months WHERE cp_month_closed(tenant_id, month) LIMIT 1',
        TG_ARGV[0], TG_ARGV[1]::integer) INTO closed;
    IF closed.month IS NOT NULL THEN
        RAISE EXCEPTION 'The month % of tenant % is closed: its sums cannot change.', to_char(closed.month, 'YYYY-MM'), closed.tenant_id
            USING ERRCODE = '23001', CONSTRAINT = 'cp_auditing_closed_month', TABLE = TG_TABLE_NAME,
                  HINT = 'What belongs to it is booked now instead. Reopen it first: manage.py usage_month reopen.';
    END IF;
    RETURN NULL;
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

-- A month that is over for three days begins more than 30 days ago, its last day is more than two days ago. A row of an open
-- month cannot be moved into a closed one either.
DO $$
DECLARE
    target record;
    guard record;
BEGIN
    FOR target IN VALUES ('cp_auditing_usagesummary', 'month', 30), ('cp_auditing_usageday', 'day', 2) LOOP
        FOR guard IN VALUES ('cp_closed_month', 'INSERT', 'NEW'), ('cp_closed_month_moved', 'UPDATE', 'NEW'),
                            ('cp_closed_month_change', 'UPDATE', 'OLD'), ('cp_closed_month_delete', 'DELETE', 'OLD') LOOP
            EXECUTE format('CREATE TRIGGER %I AFTER %s ON %I REFERENCING %s TABLE AS touched FOR EACH STATEMENT '
                           'EXECUTE FUNCTION cp_refuse_closed_month(%L, %L)',
                           guard.column1, guard.column2, target.column1, guard.column3, target.column2, target.column3);
            EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', target.column1, guard.column1);
        END LOOP;
        EXECUTE format('CREATE TRIGGER cp_no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT '
                       'EXECUTE FUNCTION cp_refuse_closed_truncate()', target.column1);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER cp_no_truncate', target.column1);
    END LOOP;
END $$;
