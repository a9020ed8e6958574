"""Objects by the ten thousand, made by the database."""

from __future__ import annotations

from django.db import connection

_HEADS = """
    INSERT INTO cp_storage_meta_storageobject (id, tenant_id, bucket_id, object_key, current_version_id, next_seq, change_seq,
        is_delete_marker, last_modified, size, content_type, etag, checksum_sha256, storage_backend, storage_class, metadata,
        tags)
    SELECT md5(%(bucket)s || 'head' || key)::uuid, %(tenant)s, %(bucket)s, key, md5(%(bucket)s || key || 1)::uuid, 2, 1,
        %(markers)s, now(), CASE WHEN %(markers)s THEN 0 ELSE n END, 'text/plain', md5(key), '', 'elsewhere', 'STANDARD',
        jsonb_build_object('number', n), '{}'
    FROM generate_series(1, %(count)s) n, format(%(form)s, {name}) key
"""
_VERSIONS = """
    INSERT INTO cp_storage_meta_storageversion (id, tenant_id, object_id, bucket_id, seq, is_delete_marker, size, content_type,
        etag, checksum_sha256, storage_backend, storage_class, metadata, tags, null_version, external_id, blob_name, created_by,
        comment, legal_hold)
    SELECT o.current_version_id, o.tenant_id, o.id, o.bucket_id, o.next_seq - 1, o.is_delete_marker, o.size, o.content_type,
        o.etag, o.checksum_sha256, o.storage_backend, o.storage_class, o.metadata, o.tags, false, '', '', '', '', false
    FROM cp_storage_meta_storageobject o
    WHERE o.tenant_id = %(tenant)s AND o.bucket_id = %(bucket)s
      AND NOT EXISTS (SELECT FROM cp_storage_meta_storageversion v
                      WHERE v.tenant_id = o.tenant_id AND v.id = o.current_version_id)
"""


def fill(bucket, count, form="reports/%s/%s.txt", groups=100, *, markers=False):
    """Live objects, or delete markers, of one version each. form: of a key, of its group's number and its own."""
    name = "lpad((n %% %(groups)s)::text, 5, '0'), lpad(n::text, 7, '0')"
    asked = {"bucket": str(bucket.pk), "tenant": str(bucket.tenant_id), "count": count, "form": form, "groups": groups}
    with connection.cursor() as cursor:
        cursor.execute(_HEADS.replace("{name}", name), {**asked, "markers": markers})
        analyze()  # else what follows is planned for empty tables, and reads the tenant's rows for each one
        cursor.execute(_VERSIONS, asked)
        analyze()  # for the foreign keys
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def analyze():
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE cp_storage_meta_storageobject, cp_storage_meta_storageversion")
