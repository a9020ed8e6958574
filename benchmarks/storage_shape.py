"""Objects by the million for benchmarks, made by the database: 200 tenants of very different size, one version of each object."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

from django.db import connection, transaction
from psycopg import sql

from storage_meta.models import Bucket
from tenants.models import Tenant

TENANTS = 200
HEADS, VERSIONS = "cp_storage_meta_storageobject", "cp_storage_meta_storageversion"
LEAF = 86  # files of a folder
RARE = "albatross"  # in one of a hundred objects, but of the largest tenant in one of 30,000

# Four areas, folders in them, 86 files in a folder: area-a/set-00012/invoice-0001034.pdf. One word of 48 in the key, two more in
# the metadata: 245 bytes.
_WORDS = """
    CREATE FUNCTION cp_bench_word(n bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN (ARRAY['invoice', 'contract',
    'minutes', 'drawing', 'letter', 'report', 'offer', 'receipt', 'manual', 'photo', 'plan', 'summary', 'budget', 'draft',
    'notice', 'survey', 'protocol', 'schedule', 'memo', 'index', 'catalog', 'ledger', 'permit', 'license', 'lease', 'policy',
    'claim', 'order', 'quote', 'bill', 'ticket', 'log', 'trace', 'sample', 'model', 'dataset', 'figure', 'table', 'chapter',
    'article', 'thesis', 'paper', 'review', 'answer', 'question', 'transcript', 'caption', 'slide'])[1 + n % 48]
"""
_MAKE_HEADS = """
    INSERT INTO cp_storage_meta_storageobject (id, tenant_id, bucket_id, object_key, current_version_id, next_seq, change_seq,
        is_delete_marker, last_modified, created_at, size, content_type, etag, checksum_sha256, storage_backend, storage_class,
        metadata, tags)
    SELECT cp_uuid7(at), %(tenant)s, %(bucket)s,
        format('area-%%s/set-%%s/%%s-%%s.pdf', chr(97 + (folder %% 4)::int), lpad(folder::text, 5, '0'),
               cp_bench_word(dice / 7), lpad(n::text, 7, '0')),
        cp_uuid7(at), 2, n, false, at, at, dice %% 5000000,
        (ARRAY['application/pdf', 'image/png', 'text/plain', 'application/json', 'text/csv', 'image/jpeg'])[1 + dice %% 6],
        md5(n::text), md5(n::text) || md5(n::text || 'b'), 'objects', CASE WHEN dice %% 10 = 0 THEN 'ARCHIVE' ELSE 'STANDARD' END,
        jsonb_build_object('owner', 'user-' || dice %% 50, 'title', cp_bench_word(dice / 11) || ' ' || cp_bench_word(dice / 13),
            'project', format('%%s %%s', cp_bench_word(folder), folder), 'pages', dice %% 300, 'checked', dice %% 3 = 0,
            'source', jsonb_build_object('system', 'scanner-' || dice %% 9, 'batch', md5(folder::text)),
            'note', CASE WHEN dice %% %(one_in)s = 3 THEN %(rare)s ELSE 'kept as it came from the department' END),
        jsonb_build_object('stage', CASE WHEN dice %% 5 = 0 THEN 'final' ELSE 'draft' END)
    FROM (
        SELECT n, n / %(leaf)s AS folder, abs(hashint8extended(n, 7)) AS dice,
            timestamptz '2026-11-01' - interval '1 second' * (n * 9 %% 31000000) AS at
        FROM generate_series(1, %(count)s) n
    ) shaped
"""
_MAKE_VERSIONS = """
    INSERT INTO cp_storage_meta_storageversion (id, tenant_id, object_id, bucket_id, seq, is_delete_marker, created_at, size,
        content_type, etag, checksum_sha256, storage_backend, storage_class, metadata, tags, null_version, external_id, blob_name,
        created_by, comment, legal_hold)
    SELECT current_version_id, tenant_id, id, bucket_id, next_seq - 1, is_delete_marker, created_at, size, content_type, etag,
        checksum_sha256, storage_backend, storage_class, metadata, tags, false, '',
        CASE WHEN is_delete_marker THEN '' ELSE format('%%s/%%s', replace(tenant_id::text, '-', ''), id) END, '', '', false
    FROM cp_storage_meta_storageobject WHERE tenant_id = %(tenant)s AND bucket_id = %(bucket)s
"""
# A bucket in which `markers` deleted keys come before `live` others.
_MAKE_DELETED = """
    INSERT INTO cp_storage_meta_storageobject (id, tenant_id, bucket_id, object_key, current_version_id, next_seq, change_seq,
        is_delete_marker, last_modified, size, content_type, etag, checksum_sha256, storage_backend, storage_class, metadata,
        tags)
    SELECT cp_uuid7(now()), %(tenant)s, %(bucket)s,
        format('%%s/%%s.txt', CASE WHEN n <= %(markers)s THEN 'gone' ELSE 'here' END, lpad(n::text, 7, '0')),
        cp_uuid7(now()), 2, n, n <= %(markers)s, now(), 0, '', '', '', '', 'STANDARD', '{}', '{}'
    FROM generate_series(1, %(markers)s + %(live)s) n
"""


def sizes(objects: int) -> list[int]:
    """Objects of each tenant, the largest first: it has 17 of 100, the median a quarter of 100."""
    edges = [round(objects * (rank / TENANTS) ** (1 / 3)) for rank in range(TENANTS + 1)]
    return [above - below for below, above in pairwise(edges)]


def make(objects: int) -> list[Bucket]:
    """Fill the tables, which are empty, before they have indexes. Returns a bucket of each tenant, the largest first."""
    execute(_WORDS)
    buckets = []
    for rank in range(TENANTS):
        tenant = Tenant.objects.create(slug=f"bench-{rank}", name=f"Bench {rank}")
        buckets.append(Bucket.objects.create(tenant=tenant, name="docs", versioning=Bucket.Versioning.ENABLED))
    with bare(), ThreadPoolExecutor(2) as pool:
        done = [
            pool.submit(_fill, bucket, count, rank)
            for rank, (bucket, count) in enumerate(zip(buckets, sizes(objects), strict=True))
        ]
        for each in done:
            each.result()
    return buckets


def make_deleted(tenant: Tenant, name: str, markers: int, live: int) -> Bucket:
    """A bucket whose first keys are deleted."""
    bucket = Bucket.objects.create(tenant=tenant, name=name, versioning=Bucket.Versioning.ENABLED)
    given = {"tenant": tenant.pk, "bucket": bucket.pk, "markers": markers, "live": live}
    with transaction.atomic():
        execute(_MAKE_DELETED, given)
        execute(_MAKE_VERSIONS, given)
    return bucket


def _fill(bucket: Bucket, count: int, rank: int) -> None:
    given = {
        "tenant": bucket.tenant_id,
        "bucket": bucket.pk,
        "count": count,
        "leaf": LEAF,
        "rare": f"{RARE} on the cover",
        "one_in": 100 if rank else 30_000,
    }
    try:
        execute("SET synchronous_commit = off")
        execute(_MAKE_HEADS, given)
        execute(_MAKE_VERSIONS, given)
    finally:
        connection.close()  # of this thread


@contextmanager
def bare() -> Iterator[None]:
    """Within, the tables have no indexes, keys and triggers; then they have them again, made at once from all rows."""
    constraints = _pairs(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = ANY (%s::regclass[]) AND contype IN ('p', 'u', 'f') ORDER BY contype = 'f', conname"
    )
    indexes = _pairs(
        "SELECT indrelid::regclass::text, indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index i "
        "WHERE indrelid = ANY (%s::regclass[]) AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)"
    )
    for table, name, _ in reversed(constraints):
        execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(sql.Identifier(table), sql.Identifier(name)))
    for _, name, _ in indexes:
        execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    for table in (HEADS, VERSIONS):
        execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(sql.Identifier(table)))
    yield
    execute("SET maintenance_work_mem = '512MB'")
    for table, name, made in constraints:
        given = [sql.Identifier(table), sql.Identifier(name), sql.SQL(made)]
        execute(sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(*given))
    for _, _, made in indexes:
        execute(made)
    for table in (HEADS, VERSIONS):
        execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(sql.Identifier(table)))


def _pairs(statement: str) -> list[tuple[str, str, str]]:
    return execute(statement, [[HEADS, VERSIONS]])


def execute(statement: str | sql.Composable, given: object = None) -> list[tuple[object, ...]]:
    """Rows of a statement, if it has any."""
    with connection.cursor() as cursor:
        cursor.execute(statement, given)
        return cursor.fetchall() if cursor.description else []
