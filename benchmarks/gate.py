"""gate.call from the token to the fact, with everything on, beside the same two round trips sent by psycopg alone.

Each key counts on three counters: a budget and a rate that the whole organization shares, and a rate of its user's own.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from itertools import count, cycle, islice
from statistics import median
from tempfile import TemporaryFile
from threading import Barrier, Lock, Thread
from time import perf_counter
from typing import Any

import psycopg
from django.db import connection

from auditing.lifecycle import Flight, Start, ending
from auditing.models import InferenceRequest
from benchmarks.report import Goal, show
from catalog.models import AIModel, ModelPrice, Provider
from controlplane import gate
from controlplane.core.ids import now
from controlplane.core.statements import Statement
from policies import limits
from policies.models import LimitBucket, Policy
from tenants.models import APIKey, App, Tenant, User

USERS, THREADS = 64, 8
CALLS, TURNS = 1_000, 5
POLICIES: dict[str, dict[str, Any]] = {
    "model_access": {"allow": ["openai/*"], "deny": ["*-preview"]},
    "token_caps": {"max_input_tokens": 8_000, "max_output_tokens": 2_000, "on_exceed": "clamp"},
    "rate_limit": {"limits": [
        {"metric": "requests", "window": "1d", "limit": 10**9},
        {"metric": "total_tokens", "window": "1d", "limit": 10**12, "per": "user"},
    ]},
    "budget": {"limits": [{"window": "month", "limit": "900000000", "alert_at": [0.8]}]},
    "guardrail": {"guardrails": {"pii": {"stages": ["input"], "action": "block"}}},
    "routing": {"timeout_ms": 60_000, "max_retries": 2},
    "retention": {"max_days": 30},
    "storage_access": {"allow": [{"uri": "s3://team/*", "modes": ["read"]}]},
}  # fmt: skip

Latencies = list[float]


def run() -> bool:
    tokens = _world()
    for token in tokens[:2] * 3:  # the caches, the counters and the prepared statements
        _call(token)
    trips, raw_calls = _trips(tokens[0]), _Raw(tokens)
    works: dict[str, tuple[Callable[[int], None], int]] = {
        "gate.call, 1 thread": (_caller(tokens), 1),
        "the same two trips, psycopg alone, 1 thread": (raw_calls.caller, 1),
        f"gate.call, {THREADS} threads": (_caller(tokens), THREADS),
        f"the same, psycopg alone, {THREADS} threads": (raw_calls.caller, THREADS),
    }
    found: dict[str, list[Latencies]] = {name: [] for name in works}
    for _ in range(TURNS):  # in turns, so that what else runs on the machine meets all of them
        raw_calls.prepare(2 * CALLS + THREADS + 1)
        for name, (work, threads) in works.items():
            found[name].append(_turn(work, threads))
    rates = {name: median(works[name][1] * len(turn) / sum(turn) for turn in turns) for name, turns in found.items()}
    rows: dict[str, float] = {}
    for name in list(found)[:2]:
        taken = sorted(each for turn in found[name] for each in turn)
        rows |= {f"{name}, {label}": taken[len(taken) * at // 100] * 1e3 for label, at in (("p50", 50), ("p99", 99))}
    ours, raw, ours_many, raw_many = rates.values()
    wrong = limits.verify()
    counted = LimitBucket.objects.get(metric="requests").spent
    goals = [
        Goal("round trips of a warm call", trips, 2, "{:.0f}", most=True),
        Goal("counters that are not their reservations", len(wrong), 0, "{:.0f}", most=True),
        Goal("calls counted of those on record", float(counted) / InferenceRequest.objects.count(), 1, "{:.3f}"),
        Goal("gate.call against its two trips raw, 1 thread", ours / raw, 0.5, "{:.2f} x"),
        Goal(f"the same, {THREADS} threads", ours_many / raw_many, 0.5, "{:.2f} x"),
    ]
    first = show("Calls through the gate, all policies, 3 counters, priced", rates, "calls/s", goals)
    return show("How long one takes", rows, "ms", [], form="{:,.2f}") and first


def _world() -> list[str]:
    tenant = Tenant.objects.create(slug="bench-gate", name="Bench", time_zone="Europe/Berlin")
    app = App.objects.create(tenant=tenant, slug="bench", name="Bench")
    model = AIModel.objects.create(
        provider=Provider.objects.create(slug="openai", name="OpenAI"), name="gpt-4o", key="gpt-4o", mode="chat",
        max_input_tokens=128_000, max_output_tokens=16_000,
    )  # fmt: skip
    rates = {"input_cost_per_token": "2.5e-06", "output_cost_per_token": "1e-05"}
    ModelPrice.objects.create(model=model, effective_from=now() - timedelta(days=1), rates=rates)
    for policy_type, config in POLICIES.items():
        Policy.objects.create(tenant=tenant, name=policy_type, policy_type=policy_type, config=config)
    users = [User.objects.create(tenant=tenant, email=f"user-{n}@bench.example", role="viewer") for n in range(USERS)]
    return [APIKey.objects.issue(tenant=tenant, app=app, user=user, name="bench").token for user in users]


def _call(token: str) -> None:
    with gate.call(token, model="gpt-4o", input_tokens=900, max_output_tokens=400) as call:
        call.usage(prompt_tokens=880, completion_tokens=212)


def _trips(token: str) -> int:
    """Round trips of one call, as libpq saw them: the server says when it is ready for the next."""
    connection.ensure_connection()
    _call(token)
    raw = connection.connection.pgconn
    with TemporaryFile() as file:
        raw.trace(file.fileno())
        _call(token)
        raw.untrace()
        file.seek(0)
        return file.read().count(b"\tReadyForQuery\t")


def _caller(tokens: list[str]) -> Callable[[int], None]:
    return lambda n: _call(tokens[n % len(tokens)])


class _Raw:
    """The statements of calls that were worked out before, with psycopg alone; what they said is read and not looked at."""

    def __init__(self, tokens: list[str]) -> None:
        self._keys = [APIKey.objects.verify(token) for token in tokens]
        self._columns = [field.attname for field in InferenceRequest._meta.concrete_fields]
        self._lock = Lock()
        self._ready: list[tuple[tuple[Statement[Any], Statement[Any]], ...]] = []

    def prepare(self, calls: int) -> None:
        """Work out the statements of so many more calls, which is not measured."""
        for key in islice(cycle(self._keys), calls):
            effective = Policy.objects.effective(key.tenant_id, key=key)
            at = now()
            start = Start(
                tenant_id=key.tenant_id, app_id=key.app_id, user_id=key.user_id, api_key_id=key.key_id, provider="openai",
                model="openai/gpt-4o", requested_model="gpt-4o", estimated_cost=Decimal("0.00625"), time_zone="Europe/Berlin",
                metadata={"input_tokens": 900, "max_output_tokens": 400},
            )  # fmt: skip
            flight = Flight.of(start, at)
            most = limits.Amounts(input_tokens=900, output_tokens=400, cost=Decimal("0.00625"))
            asked = limits.ask(effective, "openai/gpt-4o", most, flight.request_id, at=at)
            if_held = Statement("EXISTS (SELECT FROM cp_policies_reservation WHERE id = %s)", [asked.id], bool)
            used = limits.Amounts(input_tokens=880, output_tokens=212, cost=Decimal("0.00432"))
            stored = {
                "status": "completed", "prompt_tokens": 880, "completion_tokens": 212, "cached_tokens": None,
                "cache_write_tokens": None, "reasoning_tokens": None, "other_units": None, "latency_ms": 1, "ttft_ms": None,
                "error_code": "", "error": "", "cost": Decimal("0.00432"), "pricing_status": "priced", "price_id": None,
                "cost_breakdown": None,
            }  # fmt: skip
            self._ready.append((
                (limits.reserving(asked), flight.statement(if_held)),
                (limits.settling(asked.tenant_id, asked.request_id, used, at), ending(flight.id, stored, self._columns)),
            ))  # fmt: skip

    def caller(self, _: int) -> None:
        with self._lock:
            trips = self._ready.pop()
        connection.ensure_connection()
        raw = connection.connection
        for statements in trips:
            with raw.pipeline():
                cursors = [psycopg.Cursor(raw) for _ in statements]
                for cursor, one in zip(cursors, statements, strict=True):
                    cursor.execute(one.query.encode(), one.params, prepare=True)
            for cursor in cursors:
                cursor.fetchall()


def _turn(work: Callable[[int], None], threads: int) -> Latencies:
    """Seconds of each call of all threads, which all make the same number."""
    numbers, barrier = count(), Barrier(threads)
    taken: Latencies = []

    def body() -> None:
        work(next(numbers))  # its connection, and what that prepares
        barrier.wait()
        for _ in range(CALLS // threads):
            began = perf_counter()
            work(next(numbers))
            taken.append(perf_counter() - began)
        connection.close()

    started = [Thread(target=body) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return taken
