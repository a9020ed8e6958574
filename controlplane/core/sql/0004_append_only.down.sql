DROP FUNCTION cp_append_only(regclass);
DROP FUNCTION cp_refuse_change();
