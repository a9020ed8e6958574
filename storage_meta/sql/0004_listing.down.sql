ALTER TABLE cp_storage_meta_storageobject RESET (autovacuum_analyze_scale_factor);
DROP FUNCTION cp_storage_list_versions(uuid, uuid, text, text, bigint, integer);
DROP FUNCTION cp_storage_list(uuid, uuid, text, text, integer, text, text, integer);
