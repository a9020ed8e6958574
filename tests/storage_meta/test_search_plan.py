from __future__ import annotations

import json
import re

import pytest
from django.db import connection, transaction
from psycopg import sql
from psycopg.types.json import Jsonb

from controlplane.core.ids import now, uuid7
from storage_meta import queries, statistics
from storage_meta.models import StorageObject
from tenants.scope import tenant_scope
from tests.factories import BucketFactory, TenantFactory

FILL = """
WITH made AS (
    SELECT n, cp_uuid7(clock_timestamp()) AS head_id, cp_uuid7(clock_timestamp()) AS version_id,
        format('team-%%s/report-%%s.pdf', n %% 17, n) AS object_key,
        jsonb_build_object('owner', format('user%%s', n %% 500), 'case', n, 'language', 'de',
                           'note', format('quarterly figures of the northern region, draft %%s', n %% 9)) AS metadata,
        jsonb_build_object('state', format('s%%s', n %% 200)) AS tags
    FROM generate_series(1, %(count)s) n
), heads AS (
    INSERT INTO cp_storage_meta_storageobject
        (id, tenant_id, bucket_id, object_key, current_version_id, next_seq, change_seq, is_delete_marker, last_modified,
         created_at, size, content_type, etag, checksum_sha256, storage_backend, storage_class, metadata, tags)
    SELECT head_id, %(tenant)s, %(bucket)s, object_key, version_id, 2, 1, false, now() - make_interval(secs => n), now(),
        n, 'application/pdf', '', '', 'elsewhere', 'STANDARD', metadata, tags
    FROM made
)
INSERT INTO cp_storage_meta_storageversion
    (id, tenant_id, object_id, bucket_id, seq, null_version, external_id, is_delete_marker, blob_name, created_by, comment,
     legal_hold, created_at, size, content_type, etag, checksum_sha256, storage_backend, storage_class, metadata, tags)
SELECT version_id, %(tenant)s, head_id, %(bucket)s, 1, false, '', false, '', '', '', false, now(), n, 'application/pdf', '', '',
    'elsewhere', 'STANDARD', metadata, tags
FROM made
"""
PARAMETERS = ("the_tenant", "the_bucket", "lo", "hi", "words", "has_metadata", "has_tags", "of_type", "smallest", "largest",
              "since", "until", "part", "by_rank", "after_rank", "after_key", "after_at", "after_id", "most")  # fmt: skip
TYPES = ("uuid", "uuid", "text", "text", "jsonb", "jsonb", "jsonb", "text", "bigint", "bigint",
         "timestamptz", "timestamptz", "text", "boolean", "real", "text", "timestamptz", "uuid", "integer")  # fmt: skip


def execute(statement, params=()):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else []


def settled(*, vacuum=False):
    """Statistics are known and the lists of what GIN indexes are yet to take are empty, as autovacuum leaves them."""
    for index in ("storageobject_search_idx", "storageobject_contains_idx"):
        execute("SELECT gin_clean_pending_list(%s)", [index])
    for table in ("storageobject", "storageversion"):
        execute(f"{'VACUUM ANALYZE' if vacuum else 'ANALYZE'} cp_storage_meta_{table}")


def filled(tenant, count):
    bucket = BucketFactory(tenant=tenant, name="docs")
    with transaction.atomic():
        execute(FILL, {"tenant": tenant.pk, "bucket": bucket.pk, "count": count})
        # else the foreign keys are looked up by plans of empty tables, which read the tenant's rows for each one
        execute("ANALYZE cp_storage_meta_storageobject, cp_storage_meta_storageversion")


@pytest.fixture
def crowd(acme, globex):
    """Acme with 2,000 objects among 8,000 of others, which look alike."""
    filled(acme, 2000)
    filled(globex, 6000)
    filled(TenantFactory(slug="third"), 2000)
    settled()


def statement(number):
    """A statement of cp_storage_search, with parameters $1, $2 … for its arguments, as the function plans it."""
    [[body]] = execute("SELECT prosrc FROM pg_proc WHERE proname = 'cp_storage_search'")
    found = re.findall(r"RETURN QUERY\s(.*?);", body, re.DOTALL)[number]
    found = re.sub(r"\basked\b", "cp_storage_query(words)", found)
    for place, (name, kind) in enumerate(zip(PARAMETERS, TYPES, strict=True), 1):
        found = re.sub(rf"(?<!\.)\b{name}\b", f"${place}::{kind}", found)
    return found


def plan(number, tenant, **given):
    """The plan of one of its statements under force_custom_plan, as the function has it."""
    values = {"the_tenant": tenant.pk, "by_rank": number == 0, "most": 51, **given}
    if "words" in values:
        values["words"] = Jsonb(queries.parse(values["words"]).as_json())
    execute("SET LOCAL plan_cache_mode = force_custom_plan")
    execute(f"PREPARE asked ({', '.join(TYPES)}) AS {statement(number)}")
    literals = sql.SQL(", ").join(sql.Literal(values.get(name)) for name in PARAMETERS)
    explain = sql.SQL("EXPLAIN (FORMAT JSON) EXECUTE asked ({})").format(literals)
    [[found]] = execute(explain.as_string(connection.connection))
    execute("DEALLOCATE asked")
    execute("SET LOCAL plan_cache_mode = auto")  # else each deferred constraint plans anew
    return found if isinstance(found, list) else json.loads(found)


def nodes(node):
    """All nodes of a plan."""
    yield node
    for below in node.get("Plans", ()):
        yield from nodes(below)


def conditions(found):
    """Index conditions by the name of the index."""
    return {node["Index Name"]: node.get("Index Cond", "") for node in nodes(found[0]["Plan"]) if "Index Name" in node}


def buffers(query, params=()):
    """Pages that a statement touches, found in memory or not, planned before."""
    execute(query, params)
    [[found]] = execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", params)
    top = (found if isinstance(found, list) else json.loads(found))[0]["Plan"]
    return top["Shared Hit Blocks"] + top["Shared Read Blocks"]


SEARCH = """SELECT * FROM cp_storage_search(%s::uuid, NULL, NULL, NULL, %s::jsonb, %s::jsonb, NULL, NULL, NULL, NULL, NULL, NULL,
                                            NULL, %s, NULL, NULL, NULL, NULL, 51)"""


def asked(tenant, words=None, metadata=None, *, by_rank=True):
    return [
        tenant.pk,
        None if words is None else Jsonb(queries.parse(words).as_json()),
        None if metadata is None else Jsonb(metadata),
        by_rank,
    ]


def test_an_index_is_asked_for_the_tenant_and_for_what_is_looked_for(crowd, acme):
    words = [
        (number, {"words": typed}) for number in (0, 1) for typed in ("user77", "state-5 or case-7", '"draft 5" -user7')
    ]
    contained = [(1, {"has_metadata": Jsonb({"owner": "user77"})}), (1, {"has_tags": Jsonb({"state": "s7"})})]

    for number, given in [*words, *contained]:
        [[index, condition]] = conditions(plan(number, acme, **given)).items()
        assert index == ("storageobject_search_idx" if "words" in given else "storageobject_contains_idx")
        assert "tenant_id = " in condition
        assert ("search_vector @@ " if "words" in given else f"{next(iter(given))[4:]} @> ") in condition
    [[index, condition]] = conditions(plan(2, acme)).items()
    assert index == "storageobject_recent_idx"
    assert "tenant_id = " in condition


def test_a_search_touches_a_twentieth_of_the_table_and_no_more_inside_a_scope(crowd, acme):
    scan = buffers("SELECT count(size) FROM cp_storage_meta_storageobject WHERE tags IS NOT NULL")

    for words, metadata, by_rank in (
        ("user77", None, True),
        ("user77", None, False),
        (None, {"owner": "user77"}, False),
    ):
        params = asked(acme, words, metadata, by_rank=by_rank)
        outside = buffers(SEARCH, params)
        with tenant_scope(acme):
            inside = buffers(SEARCH, params)
        assert len(execute(SEARCH, params)) == 4
        assert outside < scan / 20
        assert inside <= outside * 1.2


def test_a_plain_query_inside_a_scope_reads_the_whole_tenant(crowd, acme):
    """Why there are functions: @@ waits behind row security, as it is not leakproof."""
    naive = (
        "SELECT id FROM cp_storage_meta_storageobject "
        "WHERE tenant_id = %s AND NOT is_delete_marker AND search_vector @@ 'user77'"
    )
    outside = buffers(naive, [acme.pk])
    with tenant_scope(acme):
        inside = buffers(naive, [acme.pk])
        by_function = buffers(SEARCH, asked(acme, "user77"))

    assert inside > outside * 5
    assert by_function < inside / 5


@pytest.mark.django_db(transaction=True)
def test_statistics_of_a_tenant_are_read_from_indexes_alone(acme, globex):
    filled(acme, 1000)
    filled(globex, 7000)
    settled(vacuum=True)
    files = StorageObject.objects.for_tenant(acme)

    given = {"tenant": acme.pk, "bucket": None, "name": None, "since": now(), "since_id": uuid7()}
    [[found]] = execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statistics._STATISTICS, given)
    found = found if isinstance(found, list) else json.loads(found)

    tables = {"cp_storage_meta_storageobject", "cp_storage_meta_storageversion"}
    scans = [node for node in nodes(found[0]["Plan"]) if node.get("Relation Name") in tables]
    assert {node["Node Type"] for node in scans} == {"Index Only Scan"}
    assert sum(node["Heap Fetches"] for node in scans) == 0
    assert "storageobject_statistics_idx" in {node["Index Name"] for node in scans}
    assert files.statistics().total_objects == 1000
