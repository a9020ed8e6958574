-- Guarantees: rows leave a log by doors that leave a record.
SELECT 1;
