DROP FUNCTION cp_redact(jsonb, text[]);
DROP FUNCTION cp_names_a_secret(text);
DROP FUNCTION cp_redact_text(text);
