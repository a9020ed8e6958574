-- Guarantees: an adjustment is made for one of the known reasons; sums tell by the code what it does to counts.
-- See it: \d cp_auditing_inferencerequest
ALTER TABLE cp_auditing_inferencerequest ADD CONSTRAINT cp_auditing_inferencerequest_reason_code CHECK (reason_code IN
    ('', 'priced', 'repriced', 'late_completion', 'invoice', 'credit', 'manual'));
