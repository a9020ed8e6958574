"""Events recorded in the caller's transaction, beside it, and durably beside it, against raw statements of the same rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any
from uuid import uuid4

import psycopg
from django.db import connection, transaction
from psycopg.types.json import Jsonb

from auditing import events
from auditing.models import AuditLog
from auditing.testing import empty
from auditing.writer import writer
from benchmarks.report import Goal, show

ROWS, THREADS = 40_000, 16
TENANT = uuid4()
TOLD: dict[str, Any] = {
    "tenant": TENANT, "actor": "bench", "resource": ("cp_policies_policy", uuid4()), "outcome": "denied",
    "details": {"code": "model_not_allowed", "times": 3}, "reason": "No policy allows the model.", "model": "openai/gpt-5",
}  # fmt: skip
_COLUMNS = ", ".join(events.COLUMNS)
_INSERT = f"INSERT INTO cp_auditing_auditlog ({_COLUMNS}) VALUES ({', '.join(['%s'] * len(events.COLUMNS))})"  # noqa: S608


def run() -> bool:
    writer.put(events.event("bench.first"), durable=True)
    record, insert = _in_transaction()
    p50, p99, drained, copied = _beside()
    rates = {
        "record_durable, 64 threads, one connection": _together(64, 300, _durable),
        "raw INSERT and commit, 16 connections": _together(16, 400, _committing),
        "record_durable, one thread": _together(1, 1500, _durable),
        "raw INSERT and commit, one connection": _together(1, 1500, _committing),
    }
    many, connections, one, alone = rates.values()
    writer.drain()
    _empty()
    goals = [
        Goal("record against a raw prepared INSERT", record / insert, 2.0, "{:.2f} x", most=True),
        Goal("record_async, 16 threads, p50 in µs", p50 * 1e6, 5.0, "{:.1f}", most=True),
        Goal("record_async, 16 threads, p99 in ms", p99 * 1e3, 1.0, "{:.2f}", most=True),
        Goal("drained against raw COPY", drained / copied, 0.6, "{:.2f} x"),
        Goal("record_durable, 64 threads, rows per second", many, 10_000, "{:,.0f}"),
        Goal("the same against 16 connections", many / connections, 1.3, "{:.2f} x"),
        Goal("record_durable, one thread: time of raw INSERTs", alone / one, 4.0, "{:.2f} x", most=True),
    ]
    told = {"record_async, drained": drained, "raw COPY of the same rows": copied, **rates}
    told |= {"record, in an open transaction": 1 / record, "raw prepared INSERT, in an open transaction": 1 / insert}
    return show("Events recorded", told, "rows/s", goals)


def _in_transaction(rows: int = 3000) -> tuple[float, float]:
    """Seconds of a row: by `record`, and by a raw prepared INSERT; the least of some rounds of each, in turn."""
    ours, raw = [], []
    for _ in range(3):
        with transaction.atomic():
            ours.append(_timed(rows, lambda: AuditLog.objects.record("bench.record", **TOLD)))
        given = [_raw_row() for _ in range(rows)]
        with transaction.atomic():
            cursor = psycopg.Cursor(connection.connection)
            remaining = iter(given)
            raw.append(_timed(rows, lambda: cursor.execute(_INSERT, next(remaining), prepare=True)))  # noqa: B023
        _empty()
    return min(ours), min(raw)


def _beside() -> tuple[float, float, float, float]:
    """Of record_async: median and 99th percentile in seconds, rows per second that drain; rows per second of a raw COPY."""
    seen: list[list[float]] = [[] for _ in range(THREADS)]

    def work(place: int) -> None:
        note = seen[place].append
        for _ in range(ROWS // THREADS):
            began = perf_counter()
            AuditLog.objects.record_async("bench.async", **TOLD)
            note(perf_counter() - began)

    _threads(THREADS, work)
    began, waiting = perf_counter(), writer.stats().queued
    writer.drain(60)
    drained = waiting / (perf_counter() - began)
    _empty()
    rows = [_raw_row() for _ in range(waiting)]
    began = perf_counter()
    with connection.cursor() as cursor, cursor.copy(f"COPY cp_auditing_auditlog ({_COLUMNS}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    copied = waiting / (perf_counter() - began)
    _empty()
    times = sorted(time for some in seen for time in some)
    return times[len(times) // 2], times[len(times) * 99 // 100], drained, copied


def _durable(place: int, rows: int) -> None:
    for _ in range(rows):
        AuditLog.objects.record_durable("bench.durable", **TOLD)


def _committing(place: int, rows: int) -> None:
    parameters = connection.get_connection_params()
    del parameters["cursor_factory"]
    with psycopg.connect(**parameters, autocommit=True) as own:
        cursor, ready = own.cursor(), [_raw_row() for _ in range(rows)]
        _started.wait()
        for row in ready:
            cursor.execute(_INSERT, row, prepare=True)


_started = threading.Barrier(1)


def _together(threads: int, rows: int, work: Callable[[int, int], None]) -> float:
    """Rows per second of so many threads at once; connecting and making ready is not counted."""
    global _started
    _started = threading.Barrier(threads + 1)
    raw = work is _committing

    def one(place: int) -> None:
        if not raw:
            _started.wait()
        work(place, rows)

    started = [threading.Thread(target=one, args=(place,)) for place in range(threads)]
    for thread in started:
        thread.start()
    _started.wait()
    began = perf_counter()
    for thread in started:
        thread.join()
    return threads * rows / (perf_counter() - began)


def _threads(count: int, work: Callable[[int], None]) -> None:
    started = [threading.Thread(target=work, args=(place,)) for place in range(count)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def _timed(times: int, work: Callable[[], object]) -> float:
    began = perf_counter()
    for _ in range(times):
        work()
    return (perf_counter() - began) / times


def _raw_row() -> list[Any]:
    columns = events.stored(events.event("bench.raw", **TOLD))
    return [Jsonb(value) if isinstance(value, dict) else value for value in columns.values()]


def _empty() -> None:
    empty("cp_auditing_auditlog")
