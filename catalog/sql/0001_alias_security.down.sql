DROP POLICY cp_tenant_removes ON cp_catalog_modelalias;
DROP POLICY cp_tenant_changes ON cp_catalog_modelalias;
DROP POLICY cp_tenant_adds ON cp_catalog_modelalias;
DROP POLICY cp_tenant_reads ON cp_catalog_modelalias;
ALTER TABLE cp_catalog_modelalias DISABLE ROW LEVEL SECURITY;
REVOKE ALL ON cp_catalog_modelalias, cp_catalog_aimodel, cp_catalog_provider FROM cp_tenant;
