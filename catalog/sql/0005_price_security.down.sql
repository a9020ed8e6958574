DROP POLICY cp_tenant_removes ON cp_catalog_modelprice;
DROP POLICY cp_tenant_changes ON cp_catalog_modelprice;
DROP POLICY cp_tenant_adds ON cp_catalog_modelprice;
DROP POLICY cp_tenant_reads ON cp_catalog_modelprice;
ALTER TABLE cp_catalog_modelprice DISABLE ROW LEVEL SECURITY;
REVOKE SELECT, INSERT, UPDATE, DELETE ON cp_catalog_modelprice FROM cp_tenant;
