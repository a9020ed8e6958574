-- Guarantees: the extensions the schema needs, and two roles nobody can log in as: cp_tenant (one tenant at a time, by row
-- security) and cp_reader (reports, without secrets). Roles belong to the cluster: another database may have made them,
-- or be making them right now.
-- See it: \dx and \du cp_*
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS btree_gin;
CREATE EXTENSION IF NOT EXISTS btree_gist;

DO $$
DECLARE
    wanted name;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['cp_tenant', 'cp_reader']::name[] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOBYPASSRLS', wanted);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL;
                WHEN insufficient_privilege THEN
                    RAISE EXCEPTION 'The role % is missing and % may not create it.', wanted, current_user
                        USING HINT = format(
                            'Let an administrator run: CREATE ROLE cp_tenant NOLOGIN; CREATE ROLE cp_reader NOLOGIN; GRANT cp_tenant TO %I;',
                            current_user);
            END;
        END IF;
    END LOOP;
END $$;

DO $$
BEGIN
    IF current_setting('server_version_num')::int >= 160000 THEN
        IF NOT pg_has_role(current_user, 'cp_tenant', 'SET') THEN
            EXECUTE format('GRANT cp_tenant TO %I WITH INHERIT FALSE, SET TRUE', current_user);
        END IF;
    ELSIF NOT pg_has_role(current_user, 'cp_tenant', 'MEMBER') THEN
        EXECUTE format('GRANT cp_tenant TO %I', current_user);
    END IF;
END $$;

GRANT USAGE ON SCHEMA public TO cp_tenant, cp_reader;
