"""Puts beside a bare upsert, writers on one key beside flags that are flipped, and what the vector costs an UPDATE."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import perf_counter

from django.db import connection

from benchmarks.report import Goal
from benchmarks.storage_shape import HEADS, execute
from controlplane.core.ids import now
from storage_meta.handle import Files
from storage_meta.models import Bucket, StorageObject, StorageVersion

PUTS, BULK, WRITERS, EACH, ROWS = 500, 20_000, 8, 125, 50_000
METADATA = {"owner": "user-7", "title": "budget survey", "project": "lease 12", "pages": 12, "note": "kept as it came"}

# The newest version by a pointer, as our heads have it, and by a flag on the versions: the same columns, one statement a put.
_DESIGNS = """
    CREATE TABLE cp_bench_head (key text PRIMARY KEY, current uuid NOT NULL, next_seq bigint NOT NULL, metadata jsonb NOT NULL);
    CREATE TABLE cp_bench_version (id uuid PRIMARY KEY, key text NOT NULL, seq bigint NOT NULL, metadata jsonb NOT NULL,
        UNIQUE (key, seq));
    CREATE TABLE cp_bench_flag (LIKE cp_bench_version INCLUDING ALL, is_latest boolean NOT NULL);
    CREATE UNIQUE INDEX ON cp_bench_flag (key) WHERE is_latest;
    CREATE FUNCTION cp_bench_point(the_key text, said jsonb) RETURNS void LANGUAGE sql
    BEGIN ATOMIC
        WITH head AS (
            INSERT INTO cp_bench_head AS h VALUES (the_key, gen_random_uuid(), 2, said)
            ON CONFLICT (key) DO UPDATE SET current = excluded.current, next_seq = h.next_seq + 1, metadata = excluded.metadata
            RETURNING *
        )
        INSERT INTO cp_bench_version SELECT current, key, next_seq - 1, metadata FROM head;
    END;
    CREATE FUNCTION cp_bench_flip(the_key text, said jsonb) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtext(the_key));  -- else all but one fail, and try again
        UPDATE cp_bench_flag SET is_latest = false WHERE key = the_key AND is_latest;
        INSERT INTO cp_bench_flag
        SELECT gen_random_uuid(), the_key, coalesce(max(seq), 0) + 1, said, true FROM cp_bench_flag WHERE key = the_key;
    END $$
"""
# The vector as a generated column, as it is, and kept by a trigger.
_VECTORS = f"""
    CREATE TABLE cp_bench_generated (LIKE {HEADS} INCLUDING GENERATED INCLUDING DEFAULTS INCLUDING INDEXES);
    CREATE TABLE cp_bench_trigger (LIKE {HEADS} INCLUDING DEFAULTS INCLUDING INDEXES);
    CREATE FUNCTION cp_bench_vector() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.search_vector := cp_storage_tsv(NEW.object_key, NEW.content_type, NEW.metadata);
        RETURN NEW;
    END $$;
    CREATE TRIGGER cp_bench_vector BEFORE INSERT OR UPDATE OF object_key, content_type, metadata ON cp_bench_trigger
        FOR EACH ROW EXECUTE FUNCTION cp_bench_vector()
"""
_COLUMNS = ", ".join(field.column for field in StorageObject._meta.concrete_fields if field.column != "search_vector")


def goals(buckets: list[Bucket]) -> list[Goal]:
    """buckets: of each tenant, the largest first."""
    return [*_puts(buckets[20]), *_one_key(buckets[30]), *_vectors()]


def _puts(bucket: Bucket) -> list[Goal]:
    """G6."""
    files = StorageObject.objects.for_tenant(bucket.tenant).bucket(bucket.name)
    heads = list(StorageObject.objects.filter(tenant=bucket.tenant, bucket=bucket)[:PUTS])
    changed = ["size", "etag", "metadata", "last_modified"]

    def put() -> None:
        for number in range(PUTS):
            files.put_object(f"new/{number:07}.txt", size=number, etag=f"{number:032x}", metadata=METADATA)

    def upsert() -> None:
        for number, head in enumerate(heads):
            head.size, head.etag, head.metadata, head.last_modified = number, f"{number:032x}", METADATA, now()
            StorageObject.objects.bulk_create(
                [head], update_conflicts=True, unique_fields=["tenant", "bucket", "object_key"], update_fields=changed
            )

    def bulk() -> None:
        rows = ({"key": f"bulk/{n:07}.txt", "size": n, "etag": f"{n:032x}", "metadata": METADATA} for n in range(BULK))
        files.bulk_put(rows)

    # the first of each fills caches and is not counted
    files.put_object("new/first", size=1, etag="")
    ours, bare, many = PUTS / _seconds(put), len(heads) / _seconds(upsert), BULK / _seconds(bulk)
    sys.stdout.write(f"  puts {ours:,.0f}/s, bare upserts {bare:,.0f}/s, bulk_put {many:,.0f}/s\n")
    return [
        Goal("G6 puts against a bare upsert of the head", ours / bare, 0.33, "{:.2f} x"),
        Goal("G6 bulk_put against puts", many / ours, 10, "{:.1f} x"),
        Goal("G6 puts a second", ours, 400, "{:,.0f}"),
        Goal("G6 bulk_put, objects a second", many, 4000, "{:,.0f}"),
    ]


def _one_key(bucket: Bucket) -> list[Goal]:
    """G7: the two designs as one statement each, and our put_object, by 8 writers."""
    files = StorageObject.objects.for_tenant(bucket.tenant).bucket(bucket.name)
    execute(_DESIGNS)
    flipped = _together(lambda: execute("SELECT cp_bench_flip('k', '{\"a\": 1}')"), flushed=False)
    pointed = _together(lambda: execute("SELECT cp_bench_point('k', '{\"a\": 1}')"), flushed=False)
    put = _together(lambda: _put(files))
    seqs = list(
        StorageVersion.objects.filter(object__object_key="one", object__bucket=bucket).values_list("seq", flat=True)
    )
    sys.stdout.write(
        f"  8 writers, one key: by pointer {pointed[0]:,.0f}/s, by flag {flipped[0]:,.0f}/s, put_object {put[0]:,.0f}/s\n"
    )
    return [
        Goal("G7 errors of 8 writers on one key", put[1], 0, "{:.0f}", most=True),
        Goal(
            "G7 gaps in their versions",
            WRITERS * EACH - len({*seqs} & {*range(1, WRITERS * EACH + 1)}),
            0,
            "{:.0f}",
            most=True,
        ),
        Goal("G7 pointer against flipped flags", pointed[0] / flipped[0], 1.5, "{:.2f} x"),
    ]


def _put(files: Files) -> None:
    files.put_object("one", size=1, etag="", metadata=METADATA)


def _vectors() -> list[Goal]:
    """G12, on copies of some objects; the better of three."""
    execute(_VECTORS)
    for table in ("cp_bench_generated", "cp_bench_trigger"):
        execute(f"INSERT INTO {table} ({_COLUMNS}) SELECT {_COLUMNS} FROM {HEADS} LIMIT {ROWS}")  # noqa: S608 - constants
        execute(f"VACUUM (ANALYZE) {table}")
    took: dict[str, list[float]] = {"cp_bench_generated": [], "cp_bench_trigger": []}
    for _ in range(3):
        for table, times in took.items():
            times.append(_seconds(lambda: execute(f"UPDATE {table} SET change_seq = change_seq + 1")))  # noqa: B023, S608
            execute(f"VACUUM {table}")
    generated, trigger = (min(times) for times in took.values())
    sys.stdout.write(
        f"  UPDATE of another column: generated {ROWS / generated:,.0f} rows/s, by trigger {ROWS / trigger:,.0f}\n"
    )
    return [Goal("G12 UPDATE beside the vector against a trigger", trigger / generated, 0.9, "{:.2f} x")]


def _together(call: Callable[[], object], *, flushed: bool = True) -> tuple[float, int]:
    """Calls a second of all writers at once, and how many calls raised. flushed: each waits for the disk at its commit, which
    takes so long that two designs would look alike."""
    barrier = Barrier(WRITERS)

    def work() -> int:
        errors = 0
        try:
            execute(f"SET synchronous_commit = {'on' if flushed else 'off'}")
            barrier.wait()
            for _ in range(EACH):
                try:
                    call()
                except Exception:
                    errors += 1
        finally:
            connection.close()
        return errors

    began = perf_counter()
    with ThreadPoolExecutor(WRITERS) as pool:
        errors = sum(one.result() for one in [pool.submit(work) for _ in range(WRITERS)])
    return WRITERS * EACH / (perf_counter() - began), errors


def _seconds(call: Callable[[], object]) -> float:
    began = perf_counter()
    call()
    return perf_counter() - began
