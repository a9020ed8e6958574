-- Guarantees: counters are updated in place (HOT: room in each page, and no index on a counter), and stale reservations are
-- found without reading the others. Inside a tenant scope limits can be read, not written.
-- See it: SELECT n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables WHERE relname = 'cp_policies_limitbucket';
ALTER TABLE cp_policies_limitbucket SET (fillfactor = 50);

-- Only open reservations are in it, so it stays small however many there were.
CREATE INDEX reservation_stale_idx ON cp_policies_reservation (expires_at) WHERE state = 'reserved';

SELECT cp_isolate('cp_policies_limitbucket', 'tenant_id', 'SELECT');
SELECT cp_isolate('cp_policies_limitalert', 'tenant_id', 'SELECT');
SELECT cp_isolate('cp_policies_reservation', 'tenant_id', 'SELECT');
SELECT cp_readable('cp_policies_limitbucket');
SELECT cp_readable('cp_policies_limitalert');
SELECT cp_readable('cp_policies_reservation');
