DROP TABLE cp_auditing_usagehour;
