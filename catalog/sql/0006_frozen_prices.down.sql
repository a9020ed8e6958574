DROP TRIGGER cp_no_truncate ON cp_catalog_modelprice;
DROP TRIGGER cp_frozen ON cp_catalog_modelprice;
DROP FUNCTION cp_catalog_freeze_price();
