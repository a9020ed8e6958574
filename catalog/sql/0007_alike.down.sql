DROP FUNCTION cp_catalog_alike(text, uuid);
DROP INDEX modelalias_alias_trgm_idx;
DROP INDEX aimodel_display_trgm_idx;
ALTER INDEX aimodel_key_trgm_idx RESET (fastupdate);
