"""Two million objects of 200 tenants: what a search, a list and a count wait for, beside the forms that come to mind first."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from django.db import transaction

from benchmarks import storage_writes
from benchmarks.report import Goal, show
from benchmarks.storage_shape import HEADS, RARE, VERSIONS, execute, make, make_deleted, sizes
from benchmarks.storage_timing import Asked, Timing, asked_by, beside, nodes, plan
from storage_meta import statistics
from storage_meta.handle import Files
from storage_meta.keys import upper_bound
from storage_meta.listing import END
from storage_meta.models import Bucket, StorageObject

OBJECTS = 2_000_000
COMMON = "invoice"
PAGE = 100  # entries of the pages at depth and behind markers

_COLUMNS = ", ".join(field.column for field in StorageObject._meta.concrete_fields if field.column != "search_vector")
_IN_RANGE = (
    "FROM cp_storage_meta_storageobject "
    "WHERE tenant_id = %s AND bucket_id = %s AND object_key >= %s AND object_key < %s"
)
# Names alone, of the whole range; ours gives the heads of the keys too.
_DISTINCT = f"""
    SELECT DISTINCT CASE strpos(substr(object_key, %s), '/') WHEN 0 THEN object_key
        ELSE left(object_key, %s + strpos(substr(object_key, %s), '/')) END AS entry
    {_IN_RANGE} AND NOT is_delete_marker ORDER BY 1 LIMIT 1001
"""
_OFFSET = f"SELECT {_COLUMNS} {_IN_RANGE} AND NOT is_delete_marker ORDER BY object_key OFFSET %s LIMIT 101"
# What the partial index is not known to hold: markers are met, and left out one by one.
_FILTERED = f"SELECT {_COLUMNS} {_IN_RANGE} AND is_delete_marker IS NOT TRUE ORDER BY object_key LIMIT 101"
# The tenant is tested behind the index, as an index of words alone has it.
_WORDS = """
    SELECT id, ts_rank(search_vector, query) AS rank, object_key, last_modified
    FROM cp_storage_meta_storageobject, to_tsquery('simple', %s) query
    WHERE NOT (tenant_id IS DISTINCT FROM %s) AND NOT is_delete_marker AND search_vector @@ query
    ORDER BY rank DESC, object_key, id LIMIT 51
"""


def run(objects: int = OBJECTS) -> bool:
    began = perf_counter()
    buckets = make(objects)
    made = perf_counter() - began
    execute("SET jit = off")  # as the project's connections have it or not, for both sides alike
    execute(f"VACUUM (ANALYZE) {HEADS}, {VERSIONS}")
    per_object = float(str(execute(f"SELECT pg_total_relation_size('{HEADS}')")[0][0])) / objects
    sys.stdout.write(f"{objects:,} objects of 200 tenants, the largest {sizes(objects)[0]:,}; made in {made:.0f} s\n")
    goals = [
        *_searching(buckets, objects),
        *_listing(buckets[0], objects),
        *_deleted(buckets[1], objects // 10),
        *_counting(buckets[0]),
        Goal("G11 head table with its indexes, bytes an object", per_object, 1600, "{:,.0f}", most=True),
        *storage_writes.goals(buckets),
    ]
    return show("Storage", {}, "", goals)


def files_of(bucket: Bucket) -> Files:
    return StorageObject.objects.for_tenant(bucket.tenant).bucket(bucket.name)


def _searching(buckets: list[Bucket], objects: int) -> list[Goal]:
    """G1. The places of tenants of 4,000, 25,000 and 340,000 of two million objects."""
    cases = [(152, "4k", COMMON, 8.0), (9, "25k", COMMON, 4.0), (0, "340k", COMMON, 1.5), (0, "340k, rare", RARE, 8.0)]
    ours = []
    for rank, _, word, _ in cases:
        files = StorageObject.objects.for_tenant(buckets[rank].tenant)
        ours.append(Timing.of(asked_by(lambda: files.search_objects(word), "cp_storage_search(")))  # noqa: B023
    with transaction.atomic():
        execute("DROP INDEX storageobject_search_idx")
        execute("SET LOCAL maintenance_work_mem = '512MB'")
        execute(f"CREATE INDEX cp_bench_words ON {HEADS} USING gin (search_vector) WHERE NOT is_delete_marker")
        theirs = [Timing.of(Asked(_WORDS, [word, buckets[rank].tenant_id])) for rank, _, word, _ in cases]
        transaction.set_rollback(True)
    return [
        Goal(
            f"G1 search of {name} against GIN without tenant",
            beside(f"search of {name}", mine, their),
            least,
            "{:.1f} x",
        )
        for (_, name, _, least), mine, their in zip(cases, ours, theirs, strict=True)
    ]


def _listing(bucket: Bucket, objects: int) -> list[Goal]:
    """G3 and G4, of the largest tenant."""
    files = files_of(bucket)
    cases = [
        ("root of 340k", "", 100.0),
        ("full page of 1,000", "area-b/", 2.0),
        ("leaf of 86 files", "area-a/set-00008/", 0.4),
    ]
    goals, per_entry = [], 0.0
    for name, prefix, least in cases:
        mine = Timing.of(_listed(lambda: files.list_objects_v2(prefix, "/")))  # noqa: B023
        skip = len(prefix)
        given = [skip + 1, skip, skip + 1, *_range(bucket, prefix)]
        ratio = beside(name, mine, Timing.of(Asked(_DISTINCT, given)))
        goals.append(Goal(f"G3 {name} against DISTINCT", ratio, least, "{:.2f} x"))
        per_entry = max(per_entry, mine.buffers / mine.rows)
    goals.append(Goal("G3 buffers an entry", per_entry, 8, "{:.1f}", most=True))

    depth = min(300_000 * objects // OBJECTS, sizes(objects)[0] - 1001)
    [[key]] = execute(
        f"SELECT object_key {_IN_RANGE} ORDER BY object_key OFFSET %s LIMIT 1", [*_range(bucket, ""), depth - 1]
    )
    first = Timing.of(_listed(lambda: files.list_objects_v2(max_keys=PAGE)))
    deep = Timing.of(_listed(lambda: files.list_objects_v2(start_after=str(key), max_keys=PAGE)))
    far = Timing.of(Asked(_OFFSET, [*_range(bucket, ""), depth]))
    beside("page at depth against the first page", deep, first)
    goals.append(Goal("G4 page at depth 300,000 against the first", deep.p50 / first.p50, 2, "{:.2f} x", most=True))
    goals.append(Goal("G4 the same against OFFSET", beside("page at depth against OFFSET", deep, far), 50, "{:.1f} x"))
    return goals


def _deleted(bucket: Bucket, markers: int) -> list[Goal]:
    """G5: the first page behind so many markers."""
    behind = make_deleted(bucket.tenant, "behind", markers, 2000)
    alone = make_deleted(bucket.tenant, "alone", 0, 2000)
    execute(f"VACUUM (ANALYZE) {HEADS}, {VERSIONS}")
    mine = Timing.of(_listed(lambda: files_of(behind).list_objects_v2(max_keys=PAGE)))
    without = Timing.of(_listed(lambda: files_of(alone).list_objects_v2(max_keys=PAGE)))
    filtered = Timing.of(Asked(_FILTERED, _range(behind, "")))
    beside("page behind markers against one without", mine, without)
    return [
        Goal("G5 page behind 200,000 markers against one without", mine.p50 / without.p50, 2, "{:.2f} x", most=True),
        Goal(
            "G5 the same against a filter",
            beside("page behind markers against a filter", mine, filtered),
            10,
            "{:.1f} x",
        ),
    ]


def _counting(bucket: Bucket) -> list[Goal]:
    """G8."""
    of_one = asked_by(StorageObject.objects.for_tenant(bucket.tenant).statistics, "recent")
    of_all = asked_by(statistics.of_buckets, "GROUP BY tenant_id, bucket_id")
    one, everything = Timing.of(of_one), Timing.of(of_all)
    scans = [
        each for each in nodes(plan(of_one)) + nodes(plan(of_all)) if each.get("Relation Name") in (HEADS, VERSIONS)
    ]
    sys.stdout.write(f"  statistics: of 340k {one.p50:.1f} ms, of all tenants {everything.p50:.1f} ms\n")
    others = sum(each["Node Type"] != "Index Only Scan" for each in scans)
    return [
        Goal("G8 scans that are not of an index alone", others, 0, "{:.0f}", most=True),
        Goal("G8 heap fetches", sum(each.get("Heap Fetches", 0) for each in scans), 0, "{:.0f}", most=True),
        Goal("G8 statistics of 340k, ms", one.p50, 150, "{:.1f}", most=True),
        Goal("G8 live objects of all tenants, ms", everything.p50, 500, "{:.1f}", most=True),
    ]


def _listed(call: Callable[[], Any]) -> Asked:
    return asked_by(call, "cp_storage_list(")


def _range(bucket: Bucket, prefix: str) -> list[Any]:
    return [bucket.tenant_id, bucket.pk, prefix, upper_bound(prefix) or END]
