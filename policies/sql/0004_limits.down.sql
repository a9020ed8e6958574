SELECT cp_unreadable('cp_policies_reservation');
SELECT cp_unreadable('cp_policies_limitalert');
SELECT cp_unreadable('cp_policies_limitbucket');
SELECT cp_unisolate('cp_policies_reservation');
SELECT cp_unisolate('cp_policies_limitalert');
SELECT cp_unisolate('cp_policies_limitbucket');
DROP INDEX reservation_stale_idx;
ALTER TABLE cp_policies_limitbucket RESET (fillfactor);
