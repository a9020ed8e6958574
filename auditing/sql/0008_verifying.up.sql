-- Guarantees: what was changed behind the guards of the logs is found, and said where: cp_audit_verify gives one row for each
-- finding, none where all is as it was sealed. It writes nothing. It cannot find what was rebuilt from the first seal on, by
-- whom the tables belong to: that takes an anchor kept elsewhere (audit_verify --anchors).
-- See it: SELECT * FROM cp_audit_verify('auditlog');
--
-- kinds: chain_broken seal_altered seal_missing checkpoint_mismatch root_mismatch count_mismatch stray_row
-- retired_without_record erased_without_record month_altered guard_missing. The same words in auditing/verifying.py, which
-- asks the functions below for spans of transactions, and makes the roots itself: that takes half the time.

-- The chains: each seal hashes to what it says, follows the one before it, and none is left out.
CREATE FUNCTION cp_verify_chains(wanted text DEFAULT NULL, tenant uuid DEFAULT NULL)
RETURNS TABLE (kind text, log text, tenant_id uuid, month date, seq bigint, id_from uuid, id_to uuid, message text)
LANGUAGE sql STABLE AS $$
    WITH chain AS MATERIALIZED (
        SELECT s.log, s.tenant_id, s.month, s.seq, s.id_from, s.id_to, s.prev, cp_seal_hash(s) <> s.hash AS altered,
               coalesce(lag(s.seq) OVER chained, 0) AS seq_before,
               coalesce(lag(s.hash) OVER chained, decode(repeat('00', 32), 'hex')) AS hash_before
        FROM cp_auditing_auditseal s
        WHERE (wanted IS NULL OR s.log = wanted) AND (tenant IS NULL OR s.tenant_id = tenant)
        WINDOW chained AS (PARTITION BY s.log, s.tenant_id ORDER BY s.seq)
    )
    SELECT 'seal_altered', c.log, c.tenant_id, c.month, c.seq, c.id_from, c.id_to,
           format('Seal %s was changed: its hash is of other figures.', c.seq)
    FROM chain c WHERE c.altered
    UNION ALL
    SELECT 'seal_missing', c.log, c.tenant_id, c.month, c.seq_before + 1, NULL, NULL,
           CASE WHEN c.seq = c.seq_before + 2 THEN format('Seal %s is missing.', c.seq_before + 1)
                ELSE format('The seals %s to %s are missing.', c.seq_before + 1, c.seq - 1) END
    FROM chain c WHERE c.seq > c.seq_before + 1
    UNION ALL
    SELECT 'chain_broken', c.log, c.tenant_id, c.month, c.seq, c.id_from, c.id_to,
           format('Seal %s does not follow the seal before it.', c.seq)
    FROM chain c WHERE c.seq = c.seq_before + 1 AND c.prev <> c.hash_before
$$;

-- The checkpoints: each is over the seals of its run, which is named by the checkpoint before. tenant: only the runs that
-- sealed rows of it.
CREATE FUNCTION cp_verify_checkpoints(tenant uuid DEFAULT NULL)
RETURNS TABLE (kind text, log text, tenant_id uuid, month date, seq bigint, id_from uuid, id_to uuid, message text)
LANGUAGE sql STABLE AS $$
    WITH concerned AS (
        SELECT s.run FROM cp_auditing_auditseal s WHERE tenant IS NOT NULL AND s.tenant_id = tenant GROUP BY s.run
    ), runs AS MATERIALIZED (
        SELECT s.run, count(*) AS n, cp_merkle_root(array_agg(s.hash ORDER BY s.log COLLATE "C", s.tenant_id, s.seq)) AS root
        FROM cp_auditing_auditseal s
        WHERE s.kind <> 'checkpoint' AND (tenant IS NULL OR s.run IN (SELECT run FROM concerned)) GROUP BY s.run
    ), checkpoints AS MATERIALIZED (
        SELECT c.* FROM cp_auditing_auditseal c
        WHERE c.kind = 'checkpoint' AND (tenant IS NULL OR c.run IN (SELECT run FROM concerned))
    ), latest AS (
        SELECT encode(substring(c.hash FROM 1 FOR 16), 'hex')::uuid AS run
        FROM cp_auditing_auditseal c WHERE c.kind = 'checkpoint' ORDER BY c.seq DESC LIMIT 1
    ), hidden AS (  -- a tenant sees its own seals, and no checkpoint: it cannot say of any that it is missing
        SELECT row_security_active('cp_auditing_auditseal') AND pg_has_role(current_user, 'cp_tenant', 'USAGE') AS all
    )
    SELECT 'checkpoint_mismatch', c.log, c.tenant_id, c.month, c.seq, NULL::uuid, NULL::uuid,
           CASE WHEN coalesce(r.n, 0) <> c.n
                THEN format('Checkpoint %s is over %s seals; there are %s of its run.', c.seq, c.n, coalesce(r.n, 0))
                ELSE format('Checkpoint %s is over other seals than those of its run.', c.seq) END
    FROM checkpoints c LEFT JOIN runs r ON r.run = c.run
    WHERE coalesce(r.n, 0) <> c.n OR coalesce(r.root, sha256('')) <> c.root
       OR c.run <> encode(substring(c.prev FROM 1 FOR 16), 'hex')::uuid
    UNION ALL  -- a month may have been closed since the last run; rows are sealed together with their checkpoint
    SELECT 'checkpoint_mismatch', s.log, s.tenant_id, s.month, s.seq, s.id_from, s.id_to,
           format('Seal %s is under no checkpoint.', s.seq)
    FROM cp_auditing_auditseal s
    WHERE s.kind <> 'checkpoint' AND (tenant IS NULL OR s.tenant_id = tenant)
      AND NOT (SELECT hidden.all FROM hidden)
      AND NOT EXISTS (SELECT FROM checkpoints c WHERE c.run = s.run)
      AND (s.kind = 'rows' OR s.run <> coalesce((SELECT run FROM latest), '00000000-0000-0000-0000-000000000000'))
$$;

-- Months of a log whose rows are gone, up to the seal `seq`. recorded: a record of retention says so, and an audit row says
-- that there is the record; else `message` says what is wrong.
CREATE FUNCTION cp_verify_gone(wanted text, tenant uuid DEFAULT NULL)
RETURNS TABLE (tenant_id uuid, month date, seq bigint, id_from uuid, id_to uuid, message text)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY EXECUTE format($query$
        WITH months AS MATERIALIZED (
            SELECT s.tenant_id, s.month, max(s.seq) AS seq, sum(s.n) AS n,
                   (array_agg(s.id_from ORDER BY s.id_from))[1] AS id_from,
                   (array_agg(s.id_to ORDER BY s.id_to DESC))[1] AS id_to
            FROM cp_auditing_auditseal s
            WHERE s.kind = 'rows' AND s.log = %1$L AND s.n > 0 AND (%2$L::uuid IS NULL OR s.tenant_id = %2$L::uuid)
            GROUP BY s.tenant_id, s.month
        ), records AS MATERIALIZED (
            SELECT r.tenant_id, r.month, max(s.seq) AS seq, sum(r.rows) AS rows,
                   (array_agg(r.id) FILTER (WHERE s.seq IS NULL))[1] AS vague,
                   (array_agg(r.id) FILTER (WHERE NOT EXISTS (
                       SELECT FROM cp_auditing_auditlog a
                       WHERE a.tenant_id IN (r.tenant_id, '00000000-0000-0000-0000-000000000000')
                         AND a.resource_type = 'cp_auditing_retentionrecord' AND a.resource_id = r.id::text
                   ) AND NOT EXISTS (  -- the audit row has been retired in its turn
                       SELECT FROM cp_auditing_retentionrecord later
                       WHERE later.kind = 'retired' AND later.log = 'auditlog'
                         AND later.month = date_trunc('month', r.created_at AT TIME ZONE 'UTC')::date
                   )))[1] AS unsaid
            FROM cp_auditing_retentionrecord r
            LEFT JOIN cp_auditing_auditseal s ON s.tenant_id = r.tenant_id AND s.log = r.log AND s.month = r.month
                AND s.hash = r.last_hash
            WHERE r.kind = 'retired' AND r.log = %1$L AND (%2$L::uuid IS NULL OR r.tenant_id = %2$L::uuid)
            GROUP BY r.tenant_id, r.month
        ), found AS (
            SELECT m.*, r.seq AS recorded, r.rows, r.vague, r.unsaid, r.month IS NOT NULL AS known, m.seq > coalesce(r.seq, 0)
                   AND NOT EXISTS (SELECT FROM %3$I l WHERE l.tenant_id = m.tenant_id AND l.id BETWEEN m.id_from AND m.id_to)
                   AS empty
            FROM months m LEFT JOIN records r ON r.tenant_id = m.tenant_id AND r.month = m.month
        )
        SELECT f.tenant_id, f.month, CASE WHEN f.empty THEN f.seq ELSE f.recorded END, f.id_from, f.id_to, CASE
            WHEN f.empty AND NOT f.known THEN format('All %%s rows are gone%%s, and no record says why.', f.n,
                CASE WHEN to_regclass(%3$L || to_char(f.month, '_YYYYMM')) IS NULL THEN ''
                     WHEN EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(%3$L || to_char(f.month, '_YYYYMM'))) THEN ''
                     ELSE ' (their partition is detached)' END)
            WHEN f.vague IS NOT NULL THEN format('The record %%s of retention names a last seal that is not there.', f.vague)
            WHEN f.empty THEN format('Rows that were sealed after seal %%s are gone, and no record says why.', f.recorded)
            WHEN f.unsaid IS NOT NULL THEN format('No audit row tells of the record %%s of retention.', f.unsaid)
            WHEN f.rows <> (SELECT sum(s.n) FROM cp_auditing_auditseal s WHERE s.kind = 'rows' AND s.log = %1$L
                            AND s.tenant_id = f.tenant_id AND s.month = f.month AND s.seq <= f.recorded)
                THEN format('The records of retention count %%s rows; their seals count others.', f.rows)
            END
        FROM found f WHERE f.empty OR f.known
    $query$, wanted, tenant, 'cp_auditing_' || wanted);
END $$;

-- What the rows of transactions xid_low <= xid < xid_high are now, seal by seal: how many, and their leaves in the order of
-- their ids, 32 octets each. One more row for each tenant and month with strays: rows that are under no seal (seq is NULL), the
-- first 100 by id. Rows are matched to seals by transaction, then by id: all of a span in one pass, by a join of hashes.
-- altered: ids whose personal columns are not those that pii_commit is of; erased: ids that have none, which no record tells.
CREATE FUNCTION cp_verify_rows(
    wanted text, tenant uuid, xid_low bigint, xid_high bigint, id_low uuid DEFAULT NULL, id_high uuid DEFAULT NULL
) RETURNS TABLE (
    tenant_id uuid, month date, seq bigint, id_from uuid, id_to uuid, xid_from bigint, xid_to bigint, n bigint, root bytea,
    found bigint, leaves bytea, strays uuid[], altered uuid[], erased uuid[]
) LANGUAGE plpgsql STABLE SET jit = off SET work_mem = '64MB' AS $$
BEGIN
    RETURN QUERY EXECUTE format($query$
        WITH seals AS MATERIALIZED (
            SELECT s.tenant_id, s.month, s.seq, s.id_from, s.id_to, s.xid_from, s.xid_to, s.n, s.root
            FROM cp_auditing_auditseal s WHERE s.kind = 'rows' AND s.log = %1$L AND s.xid_from >= %3$L AND s.xid_from < %4$L
              AND (%2$L::uuid IS NULL OR s.tenant_id = %2$L::uuid)
              AND (%5$L::uuid IS NULL OR (s.id_to >= %5$L::uuid AND s.id_from < %6$L::uuid))
        ), windows AS MATERIALIZED (
            SELECT s.tenant_id, s.xid_from, max(s.xid_to) AS xid_to, array_agg(s.id_from ORDER BY s.id_from) AS low,
                   array_agg(s.id_to ORDER BY s.id_from) AS high, array_agg(s.seq ORDER BY s.id_from) AS seqs
            FROM seals s GROUP BY s.tenant_id, s.xid_from
        ), starts AS MATERIALIZED (
            SELECT coalesce(array_agg(DISTINCT s.xid_from ORDER BY s.xid_from), '{}') AS all FROM seals s
        ), leaves AS (
            SELECT r.tenant_id, r.id,
                   CASE WHEN r.id <= w.high[width_bucket(r.id, w.low)] THEN w.seqs[width_bucket(r.id, w.low)] END AS seq,
                   CASE WHEN w.seqs IS NULL THEN date_trunc('month', r.created_at AT TIME ZONE 'UTC')::date END AS month,
                   r.leaf, r.personal
            FROM (  -- apart from the join: so that several processes make leaves
                SELECT r.tenant_id, r.id, r.xid, r.created_at, cp_leaf(r) AS leaf, %7$s AS personal
                FROM %8$I r WHERE r.xid < %4$L %9$s OFFSET 0
            ) r LEFT JOIN windows w ON w.tenant_id = r.tenant_id
                AND w.xid_from = (SELECT s.all FROM starts s)[width_bucket(r.xid, (SELECT s.all FROM starts s))]
                AND r.xid < w.xid_to
            OFFSET 0  -- so that what is sorted are rows of a hundred octets, without the arrays of their windows
        ), rows AS (
            SELECT l.tenant_id, l.seq, l.month, count(*) AS found, string_agg(l.leaf, '' ORDER BY l.id) AS leaves,
                   (array_agg(l.id ORDER BY l.id) FILTER (WHERE l.seq IS NULL))[1:100] AS strays,
                   (array_agg(l.id) FILTER (WHERE l.personal = 1))[1:100] AS altered,
                   (array_agg(l.id) FILTER (WHERE l.personal = 2))[1:100] AS erased
            FROM leaves l GROUP BY l.seq, l.tenant_id, l.month  -- in this order, in which numbers settle most comparisons
        )
        SELECT s.tenant_id, s.month, s.seq, s.id_from, s.id_to, s.xid_from, s.xid_to, s.n, s.root, coalesce(r.found, 0),
               coalesce(r.leaves, ''), NULL::uuid[], r.altered, r.erased
        FROM seals s LEFT JOIN rows r ON r.tenant_id = s.tenant_id AND r.seq = s.seq
        UNION ALL
        SELECT r.tenant_id, coalesce(r.month, date_trunc('month', to_timestamp(
                   ('x' || translate(substring(r.strays[1]::text FROM 1 FOR 13), '-', ''))::bit(48)::bigint / 1000.0
               ) AT TIME ZONE 'UTC')::date),
               NULL, r.strays[1], r.strays[cardinality(r.strays)], NULL, NULL, 0, NULL, r.found, NULL, r.strays, NULL, NULL
        FROM rows r WHERE r.seq IS NULL
    $query$, wanted, tenant, xid_low, xid_high, id_low, id_high,
    CASE wanted WHEN 'auditlog' THEN $personal$CASE
            WHEN r.pii_salt IS NULL THEN CASE WHEN r.pii_commit IS NOT NULL AND NOT EXISTS (
                SELECT FROM cp_auditing_retentionrecord e WHERE e.kind = 'erased' AND e.log = 'auditlog' AND e.tenant_id = r.tenant_id
                AND e.subject = r.actor_id AND e.created_at >= r.created_at) THEN 2 END
            WHEN r.pii_commit IS DISTINCT FROM sha256(r.pii_salt || convert_to(
                cp_netstring(host(r.ip)) || cp_netstring(r.user_agent) || cp_netstring(r.actor_label), 'UTF8'))
                THEN CASE WHEN coalesce(host(r.ip), r.user_agent, r.actor_label) IS NULL THEN 2 ELSE 1 END
        END$personal$ ELSE 'NULL::integer' END,
    'cp_auditing_' || wanted,
    -- a span that is named by its seals alone begins where the seals before it end, so that no row is between two spans
    CASE WHEN xid_low > 0 THEN format('AND r.xid >= %s', xid_low) ELSE '' END
    || CASE WHEN tenant IS NULL THEN '' ELSE format(' AND r.tenant_id = %L', tenant) END
    || CASE WHEN id_low IS NULL THEN '' ELSE format(' AND r.id >= %L AND r.id < %L', id_low, id_high) END);
END $$;

-- Rows that are not sealed yet, and those that never would be: of transactions that have not begun. The reader's own has: a snapshot
-- ends at the last transaction that has ended, so where nobody wrote since, what this one has written itself lies above it.
CREATE FUNCTION cp_verify_pending(wanted text, tenant uuid, xid_high bigint)
RETURNS TABLE (tenant_id uuid, month date, n bigint, strays uuid[]) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY EXECUTE format($query$
        SELECT r.tenant_id, date_trunc('month', r.created_at AT TIME ZONE 'UTC')::date, count(*),
               (array_agg(r.id) FILTER (WHERE r.xid >= greatest(
                   pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_xact_id_if_assigned()::text::bigint + 1
               ) + coalesce((SELECT max(w.xid_offset) FROM cp_auditing_ingestwatermark w), 0)))[1:100]
        FROM %I r WHERE r.xid >= %s AND (%L::uuid IS NULL OR r.tenant_id = %L::uuid) GROUP BY 1, 2
    $query$, 'cp_auditing_' || wanted, xid_high, tenant, tenant);
END $$;

-- Up to which transaction the rows of a log are sealed. Not the watermark alone: that may be put back, seals are chained.
CREATE FUNCTION cp_verify_upto(wanted text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(greatest(
        (SELECT max(s.xid_to) FROM cp_auditing_auditseal s WHERE s.kind = 'rows' AND s.log = wanted),
        (SELECT w.xid FROM cp_auditing_ingestwatermark w WHERE w.name = 'seal:' || wanted)), 0)
$$;

-- Rows under a seal whose stored version is younger than the seal: where a root differs, these are to be looked at first. Only a
-- hint: a row of a savepoint that was released late may be among them, and one that was put back by restoring it, too.
CREATE FUNCTION cp_verify_younger(wanted text, tenant uuid, xid_from bigint, xid_to bigint, id_from uuid, id_to uuid)
RETURNS uuid[] LANGUAGE plpgsql STABLE AS $$
DECLARE
    found uuid[];
BEGIN
    EXECUTE format(
        'SELECT (array_agg(r.id ORDER BY r.id))[1:5] FROM %I r WHERE r.tenant_id = $1 AND r.xid >= $2 AND r.xid < $3 '
        'AND r.id BETWEEN $4 AND $5 AND (r.xmin::text::bigint - ($3 - coalesce((SELECT max(xid_offset) '
        'FROM cp_auditing_ingestwatermark), 0))) & 4294967295 < 2147483648', 'cp_auditing_' || wanted)
        INTO found USING tenant, xid_from, xid_to, id_from, id_to;
    RETURN coalesce(found, '{}');
END $$;

-- Closed months: their summaries are those that were closed.
CREATE FUNCTION cp_verify_months(tenant uuid DEFAULT NULL)
RETURNS TABLE (kind text, log text, tenant_id uuid, month date, seq bigint, id_from uuid, id_to uuid, message text)
LANGUAGE sql STABLE AS $$
    SELECT 'month_altered', s.log, s.tenant_id, s.month, s.seq, NULL::uuid, NULL::uuid,
           format('The month %s was closed over %s summaries; the %s that are there now are others.',
                  to_char(s.month, 'YYYY-MM'), s.n, now.n)
    FROM (
        SELECT DISTINCT ON (c.tenant_id, c.month) c.* FROM cp_auditing_auditseal c
        WHERE c.log = 'usagesummary' AND c.kind IN ('close', 'reopen') AND (tenant IS NULL OR c.tenant_id = tenant)
        ORDER BY c.tenant_id, c.month, c.seq DESC
    ) s, LATERAL (
        SELECT count(*) AS n, cp_merkle_root(array_agg(cp_leaf(u) ORDER BY u.id)) AS root FROM cp_auditing_usagesummary u
        WHERE u.tenant_id = s.tenant_id AND u.month = s.month
    ) now
    WHERE s.kind = 'close' AND (now.n <> s.n OR now.root <> s.root)
$$;

-- The guards: triggers that keep the logs and record changes are there, and fire whatever the session says.
CREATE FUNCTION cp_verify_guards()
RETURNS TABLE (kind text, log text, tenant_id uuid, month date, seq bigint, id_from uuid, id_to uuid, message text)
LANGUAGE sql STABLE AS $$
    WITH logs AS (
        SELECT c.oid, c.relname::text AS name FROM pg_class c WHERE c.oid IN (
            'cp_auditing_auditlog'::regclass, 'cp_auditing_inferencerequest'::regclass,
            'cp_auditing_auditseal'::regclass, 'cp_auditing_retentionrecord'::regclass)
    ), tables AS (
        SELECT oid, name, name AS parent FROM logs UNION ALL
        SELECT i.inhrelid, c.relname::text, l.name FROM logs l
        JOIN pg_inherits i ON i.inhparent = l.oid JOIN pg_class c ON c.oid = i.inhrelid
    ), wanted AS (
        SELECT t.oid, t.name, t.parent, g.guard FROM tables t, unnest(ARRAY['cp_append_only', 'cp_no_truncate']) g(guard)
        UNION ALL SELECT t.oid, t.name, t.parent, 'cp_stamp' FROM tables t WHERE t.parent = 'cp_auditing_auditlog'
        UNION ALL SELECT t.oid, t.name, t.parent, 'cp_retired_whole' FROM tables t
            WHERE t.name = 'cp_auditing_retentionrecord'
        UNION ALL SELECT c.oid, c.relname::text, '', g.guard
            FROM pg_class c, unnest(
                ARRAY['cp_closed_month', 'cp_closed_month_moved', 'cp_closed_month_change', 'cp_closed_month_delete']) g(guard)
            WHERE c.oid IN ('cp_auditing_usageday'::regclass, 'cp_auditing_usagesummary'::regclass)
        UNION  -- a table of another app with one half of the watch had both
        SELECT c.oid, c.relname::text, '', g.guard
        FROM pg_class c, unnest(ARRAY['cp_audit', 'cp_audit_truncate']) g(guard)
        WHERE c.oid IN (SELECT tgrelid FROM pg_trigger WHERE tgname IN ('cp_audit', 'cp_audit_truncate'))
        UNION SELECT g.tgrelid, c.relname::text, '', g.tgname FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
        WHERE g.tgname IN ('cp_append_only', 'cp_no_truncate') AND g.tgrelid NOT IN (SELECT oid FROM tables)
    )
    SELECT 'guard_missing', substring(w.parent FROM 13), NULL::uuid, NULL::date, NULL::bigint, NULL::uuid, NULL::uuid,
           CASE WHEN g.tgname IS NULL THEN format('%s has no trigger %s.', w.name, w.guard)
                ELSE format('The trigger %s of %s is %s.', w.guard, w.name,
                            CASE g.tgenabled WHEN 'D' THEN 'disabled' ELSE 'not ALWAYS' END) END
    FROM wanted w LEFT JOIN pg_trigger g ON g.tgrelid = w.oid AND g.tgname = w.guard
    WHERE g.tgenabled IS DISTINCT FROM 'A'
    ORDER BY w.name, w.guard
$$;

-- All of it for one log. tenant NULL: every tenant.
CREATE FUNCTION cp_audit_verify(log text, tenant uuid DEFAULT NULL)
RETURNS TABLE (kind text, log_ text, tenant_id uuid, month date, seq bigint, id_from uuid, id_to uuid, message text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    upto bigint := cp_verify_upto(log);
BEGIN
    IF log NOT IN ('auditlog', 'inferencerequest') OR log IS NULL THEN
        RAISE EXCEPTION 'There is no log %: give auditlog or inferencerequest.', coalesce(quote_literal(log), 'NULL')
            USING ERRCODE = '22023';
    END IF;
    RETURN QUERY SELECT * FROM cp_verify_chains(log, tenant);
    RETURN QUERY SELECT * FROM cp_verify_chains('checkpoint');
    RETURN QUERY SELECT * FROM cp_verify_checkpoints(tenant);
    RETURN QUERY
        WITH gone AS MATERIALIZED (
            SELECT * FROM cp_verify_gone(log, tenant)
        ), read AS MATERIALIZED (
            SELECT r.*, r.seq <= g.seq AND r.found = 0 AS gone
            FROM cp_verify_rows(log, tenant, 0, upto) r
            LEFT JOIN gone g ON g.tenant_id = r.tenant_id AND g.month = r.month
        ), wrong AS (
            SELECT r.* FROM read r WHERE r.seq IS NOT NULL AND r.gone IS NOT TRUE AND (r.found <> r.n OR r.root <> cp_merkle_root(
                ARRAY(SELECT substring(r.leaves FROM 32 * place + 1 FOR 32) FROM generate_series(0, r.found::int - 1) place)))
        )
        SELECT 'retired_without_record', log, g.tenant_id, g.month, g.seq, g.id_from, g.id_to, g.message
        FROM gone g WHERE g.message IS NOT NULL
        UNION ALL
        SELECT 'root_mismatch', log, w.tenant_id, w.month, w.seq, w.id_from, w.id_to,
               format('The %s rows under seal %s are not the %s that were sealed.', w.found, w.seq, w.n)
               || coalesce(' Younger than the seal: ' || nullif(array_to_string(
                      cp_verify_younger(log, w.tenant_id, w.xid_from, w.xid_to, w.id_from, w.id_to), ', '), '') || '.', '')
        FROM wrong w
        UNION ALL
        SELECT 'count_mismatch', log, t.tenant_id, t.month, NULL, NULL, NULL,
               format('%s rows are sealed, %s are there.', t.n, t.found)
        FROM (SELECT r.tenant_id, r.month, sum(r.n) FILTER (WHERE r.gone IS NOT TRUE) AS n, sum(r.found) AS found
              FROM read r GROUP BY r.tenant_id, r.month) t
        WHERE coalesce(t.n, 0) <> t.found
        UNION ALL
        SELECT 'stray_row', log, r.tenant_id, r.month, NULL, s.id, s.id, format('Row %s is under no seal.', s.id)
        FROM read r, unnest(r.strays) s(id)
        UNION ALL
        SELECT 'stray_row', log, p.tenant_id, p.month, NULL, s.id, s.id,
               format('Row %s is of a transaction that has not begun.', s.id)
        FROM cp_verify_pending(log, tenant, upto) p, unnest(p.strays) s(id)
        UNION ALL
        SELECT 'root_mismatch', log, r.tenant_id, r.month, r.seq, s.id, s.id,
               format('ip, user_agent or actor_label of row %s was changed.', s.id)
        FROM read r, unnest(r.altered) s(id)
        UNION ALL
        SELECT 'erased_without_record', log, r.tenant_id, r.month, r.seq, s.id, s.id,
               format('Personal data of row %s is gone, and no record says that it was erased.', s.id)
        FROM read r, unnest(r.erased) s(id);
    IF log = 'inferencerequest' THEN  -- summaries are of requests
        RETURN QUERY SELECT * FROM cp_verify_months(tenant);
    END IF;
    RETURN QUERY SELECT * FROM cp_verify_guards();
END $$;
