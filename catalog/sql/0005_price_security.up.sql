-- Guarantees: inside a tenant's scope the list prices and the tenant's own can be read; it may write its own only.
-- See it: in psql, SET ROLE cp_tenant; SET cp.tenant_id = '…'; SELECT * FROM cp_catalog_modelprice;
GRANT SELECT, INSERT, UPDATE, DELETE ON cp_catalog_modelprice TO cp_tenant;
ALTER TABLE cp_catalog_modelprice ENABLE ROW LEVEL SECURITY;
CREATE POLICY cp_tenant_reads ON cp_catalog_modelprice FOR SELECT TO cp_tenant
    USING (tenant_id IS NULL OR tenant_id = (SELECT cp_scope()));
CREATE POLICY cp_tenant_adds ON cp_catalog_modelprice FOR INSERT TO cp_tenant WITH CHECK (tenant_id = (SELECT cp_scope()));
CREATE POLICY cp_tenant_changes ON cp_catalog_modelprice FOR UPDATE TO cp_tenant
    USING (tenant_id = (SELECT cp_scope())) WITH CHECK (tenant_id = (SELECT cp_scope()));
CREATE POLICY cp_tenant_removes ON cp_catalog_modelprice FOR DELETE TO cp_tenant USING (tenant_id = (SELECT cp_scope()));
