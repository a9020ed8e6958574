DROP TRIGGER cp_void_tokens ON cp_tenants_user;
DROP FUNCTION cp_tenants_void_tokens();
DROP TRIGGER cp_keep_owner ON cp_tenants_user;
DROP FUNCTION cp_tenants_keep_owner();
