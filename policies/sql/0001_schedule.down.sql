DROP FUNCTION cp_policies_schedule_holds(jsonb, timestamptz);
DROP FUNCTION cp_policies_schedule_valid(jsonb);
