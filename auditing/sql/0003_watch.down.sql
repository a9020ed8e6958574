DROP FUNCTION cp_audit_unwatch(regclass);
DROP FUNCTION cp_audit_watch(regclass, text[], jsonb);
DROP FUNCTION cp_audit_row();
DROP FUNCTION cp_audit_write(text, text, jsonb, jsonb, jsonb, jsonb, jsonb);
DROP FUNCTION cp_audit_values(jsonb, text[]);
DROP FUNCTION cp_audit_value(jsonb);
