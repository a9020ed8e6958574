DROP TRIGGER cp_check_names ON cp_catalog_aimodel;
DROP TRIGGER cp_check_names_of_new ON cp_catalog_aimodel;
DROP TRIGGER cp_check_names ON cp_catalog_modelalias;
DROP FUNCTION cp_catalog_check_names();
