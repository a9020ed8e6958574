DROP FUNCTION cp_partition_add(regclass, date, text[], text);
DROP FUNCTION cp_partition_name(regclass, date);
