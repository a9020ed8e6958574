DROP TABLE cp_storage_meta_storageaudit;
DROP FUNCTION cp_storage_audit_guard();
DROP FUNCTION cp_storage_audit_end();
