-- Guarantees: inside a tenant scope (SET LOCAL ROLE cp_tenant, cp.tenant_id) a table that joined by cp_isolate shows and
-- takes rows of that tenant only; with cp.tenant_id unset it shows none. The owner of the tables, the operator, is not bound.
-- See it: \d cp_tenants_app, "Policies".

-- The tenant of the scope, NULL outside. The setting comes back as '' after a transaction that had it.
CREATE FUNCTION cp_scope() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('cp.tenant_id', true), '')::uuid;

CREATE FUNCTION cp_isolate(
    target regclass, tenant_column text DEFAULT 'tenant_id', privileges text DEFAULT 'SELECT, INSERT, UPDATE, DELETE'
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    -- The sub-select is evaluated once per statement, not once per row.
    EXECUTE format(
        'CREATE POLICY cp_tenant ON %s TO cp_tenant USING (%I = (SELECT cp_scope())) WITH CHECK (%I = (SELECT cp_scope()))',
        target, tenant_column, tenant_column);
    EXECUTE format('GRANT %s ON %s TO cp_tenant', privileges, target);
END $$;

CREATE FUNCTION cp_unisolate(target regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('REVOKE ALL ON %s FROM cp_tenant', target);
    EXECUTE format('DROP POLICY cp_tenant ON %s', target);
    EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', target);
END $$;

-- cp_reader may read all columns but the hidden ones. Under row security a role that no policy names sees no row.
CREATE FUNCTION cp_readable(target regclass, hidden text[] DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    shown text;
    unknown text[];
BEGIN
    SELECT array_agg(h) INTO unknown FROM unnest(hidden) h
        WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = target AND attname = h AND NOT attisdropped);
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'cp_readable(%): no such column: %', target, unknown;
    END IF;
    SELECT string_agg(quote_ident(attname), ', ') INTO shown FROM pg_attribute
        WHERE attrelid = target AND attnum > 0 AND NOT attisdropped AND attname <> ALL (hidden);
    EXECUTE format('GRANT SELECT (%s) ON %s TO cp_reader', shown, target);
    IF (SELECT relrowsecurity FROM pg_class WHERE oid = target) THEN
        EXECUTE format('CREATE POLICY cp_reader ON %s FOR SELECT TO cp_reader USING (true)', target);
    END IF;
END $$;

CREATE FUNCTION cp_unreadable(target regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    columns text;
BEGIN
    SELECT string_agg(quote_ident(attname), ', ') INTO columns FROM pg_attribute
        WHERE attrelid = target AND attnum > 0 AND NOT attisdropped;
    EXECUTE format('REVOKE SELECT (%s) ON %s FROM cp_reader', columns, target);
    EXECUTE format('DROP POLICY IF EXISTS cp_reader ON %s', target);
END $$;
