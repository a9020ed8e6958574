-- Guarantees: a stored schedule is {tz, days, start, end} with a known zone, real days and clock times, and nothing else; and
-- the database answers "does it hold at this instant" exactly as policies/periods.py does. NULL = always.
-- See it: SELECT cp_policies_schedule_holds('{"tz":"Europe/Berlin","days":["fri"],"start":"22:00","end":"06:00"}', now());

-- The zone is looked up by its exact name: AT TIME ZONE alone would also take 'europe/berlin' and 'ABC+5', which Python does not
-- know. A look-up takes some milliseconds, once per write of a schedule.
CREATE FUNCTION cp_policies_schedule_valid(schedule jsonb) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF schedule IS NULL THEN
        RETURN true;
    END IF;
    RETURN coalesce(
        jsonb_typeof(schedule) = 'object'
        AND schedule - ARRAY['tz', 'days', 'start', 'end'] = '{}'
        AND jsonb_typeof(schedule->'tz') = 'string'
        AND jsonb_typeof(schedule->'days') = 'array'
        AND jsonb_array_length(schedule->'days') BETWEEN 1 AND 7
        AND schedule->'days' <@ '["mon", "tue", "wed", "thu", "fri", "sat", "sun"]'
        AND (SELECT count(*) = count(DISTINCT day) FROM jsonb_array_elements(schedule->'days') AS day)
        AND schedule->>'start' ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$'
        AND schedule->>'end' ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$'
        AND schedule->>'tz' <> 'localtime'
        AND EXISTS (SELECT FROM pg_timezone_names WHERE name = schedule->>'tz'),
        false);
END $$;

CREATE FUNCTION cp_policies_schedule_holds(schedule jsonb, at timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN schedule IS NULL OR (
    SELECT CASE
        WHEN opens = closes THEN days ? today
        WHEN opens < closes THEN days ? today AND wall >= opens AND wall < closes
        ELSE (days ? today AND wall >= opens) OR (days ? yesterday AND wall < closes)
    END
    FROM (
        SELECT
            schedule->'days' AS days,
            (schedule->>'start')::time AS opens,
            (schedule->>'end')::time AS closes,
            (at AT TIME ZONE (schedule->>'tz'))::time AS wall,
            (ARRAY['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'])
                [extract(isodow FROM at AT TIME ZONE (schedule->>'tz'))::int] AS today,
            (ARRAY['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'])
                [extract(isodow FROM at AT TIME ZONE (schedule->>'tz'))::int] AS yesterday
    ) AS asked
);
