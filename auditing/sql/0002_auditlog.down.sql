DROP TABLE cp_auditing_auditlog;
DROP FUNCTION cp_audit_stamp();
DROP FUNCTION cp_netstring(text);
