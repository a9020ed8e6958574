-- Back: nothing relies on these rows.
DROP TABLE cp_core_process;
