-- Guarantees: inside a tenant's scope the catalog can be read, and of aliases those for everybody and the tenant's own; it may
-- write its own aliases only.
-- See it: in psql, SET ROLE cp_tenant; SET cp.tenant_id = '…'; SELECT * FROM cp_catalog_modelalias;
GRANT SELECT ON cp_catalog_provider, cp_catalog_aimodel TO cp_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON cp_catalog_modelalias TO cp_tenant;
ALTER TABLE cp_catalog_modelalias ENABLE ROW LEVEL SECURITY;
CREATE POLICY cp_tenant_reads ON cp_catalog_modelalias FOR SELECT TO cp_tenant
    USING (tenant_id IS NULL OR tenant_id = (SELECT cp_scope()));
CREATE POLICY cp_tenant_adds ON cp_catalog_modelalias FOR INSERT TO cp_tenant WITH CHECK (tenant_id = (SELECT cp_scope()));
CREATE POLICY cp_tenant_changes ON cp_catalog_modelalias FOR UPDATE TO cp_tenant
    USING (tenant_id = (SELECT cp_scope())) WITH CHECK (tenant_id = (SELECT cp_scope()));
CREATE POLICY cp_tenant_removes ON cp_catalog_modelalias FOR DELETE TO cp_tenant USING (tenant_id = (SELECT cp_scope()));
