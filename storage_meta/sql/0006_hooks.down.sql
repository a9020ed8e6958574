-- Guarantees: nothing yet.
SELECT 1;
