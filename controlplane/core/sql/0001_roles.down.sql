-- Extensions and roles stay: other databases and schemas of the cluster may stand on them.
REVOKE USAGE ON SCHEMA public FROM cp_tenant, cp_reader;
