DROP TRIGGER cp_guard ON cp_tenants_apikeysecret;
DROP FUNCTION cp_tenants_guard_secret();
DROP TRIGGER cp_guard ON cp_tenants_apikey;
DROP FUNCTION cp_tenants_guard_key();
