DROP FUNCTION cp_catalog_plain_rates(jsonb);
