DROP FUNCTION cp_is_object(jsonb, integer);
DROP FUNCTION cp_is_time_zone(text);
DROP FUNCTION cp_untouch(regclass);
DROP FUNCTION cp_touch(regclass);
DROP FUNCTION cp_touch_row();
DROP FUNCTION cp_uuid7_of(timestamptz, bytea);
DROP FUNCTION cp_uuid7(timestamptz);
DROP FUNCTION cp_uuid7_ms(timestamptz);
