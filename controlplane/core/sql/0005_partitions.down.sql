DROP FUNCTION cp_partition_add(regclass, date, text[]);
DROP FUNCTION cp_partition_name(regclass, date);
