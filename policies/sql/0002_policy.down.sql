SELECT cp_unreadable('cp_policies_policy');
SELECT cp_audit_unwatch('cp_policies_policy');
SELECT cp_unisolate('cp_policies_policy');
DROP TRIGGER cp_policies_policy_versioned ON cp_policies_policy;
DROP FUNCTION cp_policies_policy_versioned();
