DROP TRIGGER cp_as_it_was ON cp_storage_meta_hookexecution;
DROP FUNCTION cp_storage_refuse_execution();
DROP TRIGGER cp_as_it_was ON cp_storage_meta_storageevent;
DROP FUNCTION cp_storage_refuse_event();
