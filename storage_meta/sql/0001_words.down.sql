DROP FUNCTION cp_storage_tsv(text, text, jsonb);
DROP FUNCTION cp_storage_values(jsonb);
DROP FUNCTION cp_storage_words(text);
