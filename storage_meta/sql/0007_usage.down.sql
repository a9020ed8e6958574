DROP FUNCTION cp_storage_count();
DROP FUNCTION cp_storage_used(uuid);
DROP FUNCTION cp_storage_since(timestamptz);
