-- Guarantees: one row per process that has caches, written by itself every 15 s. Lost in a crash of the server, and then
-- written anew: nothing but the page and the command that show it relies on it.
-- See it: SELECT host, pid, now() - seen_at AS silent, lease_age_ms FROM cp_core_process;
CREATE UNLOGGED TABLE cp_core_process (
    process uuid PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    lease_age_ms bigint,
    caches jsonb NOT NULL
);
COMMENT ON TABLE cp_core_process IS 'Processes that have caches, and what these count';
COMMENT ON COLUMN cp_core_process.lease_age_ms IS 'Since the last look at the log began; NULL: none yet';
COMMENT ON COLUMN cp_core_process.caches IS 'Counts of each cache, by its name';
