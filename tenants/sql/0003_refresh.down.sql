DROP TRIGGER cp_guard ON cp_tenants_refreshtoken;
DROP FUNCTION cp_tenants_guard_refresh();
DROP TRIGGER cp_guard ON cp_tenants_refreshfamily;
DROP FUNCTION cp_tenants_guard_family();
