-- Guarantees: rates hold numbers as their literal text, as "4.2e-08", from 0, never as JSON numbers (a reader would make floats of
-- them), NaN or true; a missing one is absent or null. Tables inside (tiers, windows) hold no JSON numbers either.
-- See it: SELECT cp_catalog_plain_rates('{"input_cost_per_token": 1}');
CREATE FUNCTION cp_catalog_plain_rates(rates jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
    SELECT NOT jsonb_path_exists(rates, 'strict $.** ? (@.type() == "number")')
        AND NOT EXISTS (
            SELECT FROM jsonb_each(CASE jsonb_typeof(rates) WHEN 'object' THEN rates ELSE '{}' END) AS rate (name, value)
            WHERE name <> 'web_search_billing_unit' AND (
                jsonb_typeof(value) = 'boolean'
                OR jsonb_typeof(value) = 'string' AND value #>> '{}' !~ '^[0-9]{1,40}(\.[0-9]{0,60})?([eE][-+]?[0-9]{1,2})?$'));
END;
