-- Guarantees: of a version only tags, comment, legal_hold and retain_until change; a held one does not go, by whatever way; the
-- blob of one that went is queued for removal. A head points at its own version of the highest seq and stays under its key. A
-- bucket that was versioned never becomes unversioned again.
-- See it: UPDATE, DELETE in psql fail with SQLSTATE 23001 and the name of the rule.
CREATE FUNCTION cp_storage_version_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'A version never changes but for tags, comment, legal_hold and retain_until.'
        USING ERRCODE = '23001', CONSTRAINT = 'cp_storage_meta_storageversion_unchangeable', TABLE = TG_TABLE_NAME,
              HINT = 'Put a new version of the key.';
END $$;
CREATE TRIGGER cp_unchangeable BEFORE UPDATE ON cp_storage_meta_storageversion FOR EACH ROW
    WHEN (ROW(OLD.id, OLD.tenant_id, OLD.object_id, OLD.bucket_id, OLD.seq, OLD.null_version, OLD.external_id,
              OLD.is_delete_marker, OLD.blob_name, OLD.created_by, OLD.created_at, OLD.size, OLD.content_type, OLD.etag,
              OLD.checksum_sha256, OLD.storage_backend, OLD.storage_class, OLD.metadata)
          IS DISTINCT FROM
          ROW(NEW.id, NEW.tenant_id, NEW.object_id, NEW.bucket_id, NEW.seq, NEW.null_version, NEW.external_id,
              NEW.is_delete_marker, NEW.blob_name, NEW.created_by, NEW.created_at, NEW.size, NEW.content_type, NEW.etag,
              NEW.checksum_sha256, NEW.storage_backend, NEW.storage_class, NEW.metadata))
    EXECUTE FUNCTION cp_storage_version_stays();

CREATE FUNCTION cp_storage_version_held() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.legal_hold THEN
        RAISE EXCEPTION 'Version % is under legal hold.', CASE WHEN OLD.null_version THEN 'null' ELSE replace(OLD.id::text, '-', '') END
            USING ERRCODE = '23001', CONSTRAINT = 'cp_storage_meta_storageversion_held', TABLE = TG_TABLE_NAME,
                  HINT = 'Take the hold back first.';
    END IF;
    IF OLD.retain_until > now() THEN
        RAISE EXCEPTION 'Version % is kept until %.', CASE WHEN OLD.null_version THEN 'null' ELSE replace(OLD.id::text, '-', '') END,
                to_char(OLD.retain_until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')
            USING ERRCODE = '23001', CONSTRAINT = 'cp_storage_meta_storageversion_held', TABLE = TG_TABLE_NAME,
                  HINT = 'Wait until then, or shorten it, which needs bypass and a reason.';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER cp_held BEFORE DELETE ON cp_storage_meta_storageversion FOR EACH ROW
    WHEN (OLD.legal_hold OR OLD.retain_until IS NOT NULL) EXECUTE FUNCTION cp_storage_version_held();

-- As the owner: a note that is there already is renewed, so that who has read it before does not take it for done. In the order
-- of the names: two that remove versions of the same blobs wait for each other and never in a ring.
CREATE FUNCTION cp_storage_queue_blobs() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO cp_storage_meta_pendingblob (id, tenant_id, storage_backend, blob_name, reason, started_at)
    SELECT DISTINCT ON (blob_name)
        cp_uuid7(clock_timestamp()), tenant_id, storage_backend, blob_name, 'delete', clock_timestamp()
    FROM gone WHERE blob_name <> '' ORDER BY blob_name
    ON CONFLICT (blob_name) DO UPDATE SET reason = 'delete', started_at = excluded.started_at;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION cp_storage_queue_blobs() FROM PUBLIC;
CREATE TRIGGER cp_queue_blobs AFTER DELETE ON cp_storage_meta_storageversion
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION cp_storage_queue_blobs();

CREATE FUNCTION cp_storage_head_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'An object stays under its key.'
        USING ERRCODE = '23001', CONSTRAINT = 'cp_storage_meta_storageobject_stays', TABLE = TG_TABLE_NAME,
              HINT = 'Copy it to the other key, and delete it here.';
END $$;
CREATE TRIGGER cp_stays BEFORE UPDATE ON cp_storage_meta_storageobject FOR EACH ROW
    WHEN (ROW(OLD.id, OLD.tenant_id, OLD.bucket_id, OLD.object_key)
          IS DISTINCT FROM ROW(NEW.id, NEW.tenant_id, NEW.bucket_id, NEW.object_key))
    EXECUTE FUNCTION cp_storage_head_stays();

-- Looks at what is there when the transaction ends, not at NEW: rows of it may have changed again, or be gone. Two look-ups, each
-- by one index: a join would be planned as for a few rows where the tables have no statistics yet.
CREATE FUNCTION cp_storage_head_points() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    asked uuid;
    head record;
    newest record;
BEGIN
    IF TG_TABLE_NAME = 'cp_storage_meta_storageobject' THEN
        asked := NEW.id;
    ELSE
        asked := NEW.object_id;
    END IF;
    SELECT o.current_version_id, o.bucket_id, o.is_delete_marker, o.next_seq INTO head
        FROM cp_storage_meta_storageobject o WHERE o.tenant_id = NEW.tenant_id AND o.id = asked;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT v.id, v.bucket_id, v.is_delete_marker, v.seq INTO newest
        FROM cp_storage_meta_storageversion v WHERE v.tenant_id = NEW.tenant_id AND v.object_id = asked
        ORDER BY v.seq DESC LIMIT 1;
    IF (head.current_version_id, head.bucket_id, head.is_delete_marker)
        IS DISTINCT FROM (newest.id, newest.bucket_id, newest.is_delete_marker) OR newest.seq >= head.next_seq
    THEN
        RAISE EXCEPTION 'The head of a key does not point at its newest version.'
            USING ERRCODE = '23001', CONSTRAINT = 'cp_storage_meta_storageobject_points_at_newest', TABLE = TG_TABLE_NAME,
                  HINT = 'Write head and version in one transaction, as storage_meta does.';
    END IF;
    RETURN NULL;
END $$;
-- A put is looked at once, where its version comes in.
CREATE CONSTRAINT TRIGGER cp_points_at_newest AFTER INSERT ON cp_storage_meta_storageversion
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION cp_storage_head_points();
CREATE CONSTRAINT TRIGGER cp_points_at_newest AFTER UPDATE OF current_version_id, next_seq ON cp_storage_meta_storageobject
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.current_version_id IS DISTINCT FROM NEW.current_version_id AND NEW.next_seq <= OLD.next_seq
          OR NEW.next_seq < OLD.next_seq)
    EXECUTE FUNCTION cp_storage_head_points();

CREATE FUNCTION cp_storage_bucket_stays_versioned() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'A bucket that was versioned never becomes unversioned again.'
        USING ERRCODE = '23001', CONSTRAINT = 'cp_storage_meta_bucket_stays_versioned', TABLE = TG_TABLE_NAME,
              HINT = 'Suspend it: what is there stays, and new puts get the version id null.';
END $$;
CREATE TRIGGER cp_stays_versioned BEFORE UPDATE ON cp_storage_meta_bucket FOR EACH ROW
    WHEN (OLD.versioning <> 'unversioned' AND NEW.versioning = 'unversioned')
    EXECUTE FUNCTION cp_storage_bucket_stays_versioned();
