DROP FUNCTION cp_partition_add(regclass, date, text[], text);
-- 'exists', 'attached' (it was there, detached or half-made) or 'created'. local_unique: columns of a unique index that
-- each partition has on its own; the parent cannot, as it is not partitioned by them.
CREATE FUNCTION cp_partition_add(parent regclass, month date, local_unique text[] DEFAULT '{}') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    starts timestamptz := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
    ends timestamptz := (date_trunc('month', month::timestamp) + interval '1 month') AT TIME ZONE 'UTC';
    child text := cp_partition_name(parent, month);
    outcome text := 'attached';
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('cp_partition'), hashtext(child));
    IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = parent AND inhrelid = to_regclass('public.' || quote_ident(child))) THEN
        RETURN 'exists';
    END IF;
    IF to_regclass('public.' || quote_ident(child)) IS NULL THEN
        outcome := 'created';
        -- PARTITION OF would lock the parent ACCESS EXCLUSIVE; LIKE and ATTACH do not.
        EXECUTE format('CREATE TABLE public.%I (LIKE %s INCLUDING ALL)', child, parent);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_constraint
                   WHERE conrelid = ('public.' || quote_ident(child))::regclass AND conname = child || '_month') THEN
        EXECUTE format('ALTER TABLE public.%I ADD CONSTRAINT %I CHECK (created_at >= %L AND created_at < %L)',
                       child, child || '_month', starts, ends);
    END IF;
    IF cardinality(local_unique) > 0 THEN
        EXECUTE format('CREATE UNIQUE INDEX IF NOT EXISTS %I ON public.%I (%s)', child || '_once', child,
                       (SELECT string_agg(quote_ident(c), ', ') FROM unnest(local_unique) c));
    END IF;
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = parent AND tgname = 'cp_no_truncate')
       AND NOT EXISTS (SELECT FROM pg_trigger
                       WHERE tgrelid = ('public.' || quote_ident(child))::regclass AND tgname = 'cp_no_truncate') THEN
        EXECUTE format('CREATE TRIGGER cp_no_truncate BEFORE TRUNCATE ON public.%I FOR EACH STATEMENT '
                       'EXECUTE FUNCTION cp_refuse_change()', child);
        EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER cp_no_truncate', child);
    END IF;
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', parent, child,
                   rpad(lpad(to_hex(cp_uuid7_ms(starts)), 12, '0'), 32, '0')::uuid,
                   rpad(lpad(to_hex(cp_uuid7_ms(ends)), 12, '0'), 32, '0')::uuid);
    RETURN outcome;
END $$;
