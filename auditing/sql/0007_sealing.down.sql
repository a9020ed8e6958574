DROP FUNCTION cp_merkle_root(bytea[]);
DROP FUNCTION cp_seal_hash(cp_auditing_auditseal);
DROP FUNCTION cp_leaf(cp_auditing_usagesummary);
DROP FUNCTION cp_leaf(cp_auditing_inferencerequest);
DROP FUNCTION cp_leaf(cp_auditing_auditlog);
DROP FUNCTION cp_netstring(date);
DROP FUNCTION cp_netstring(timestamptz);
DROP FUNCTION cp_netstring(bytea);
DROP FUNCTION cp_netstring(boolean);
DROP FUNCTION cp_netstring(uuid);
CREATE OR REPLACE FUNCTION cp_netstring(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(octet_length(value) || ':' || value || ',', '-,');
