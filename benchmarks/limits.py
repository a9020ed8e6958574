"""Limits held: three counters, of which all callers share one, beside the same SQL sent by hand; and a limit that runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from statistics import median
from threading import Barrier, Thread
from time import perf_counter
from typing import Any

import psycopg
from django.db import connection

from benchmarks.report import Goal, show
from controlplane.core.ids import now, uuid7
from policies import limits
from policies.counting import Amounts
from policies.models import LimitBucket, Policy, Reservation
from policies.resolution import EffectivePolicy
from tenants.models import App, Tenant, User

THREADS, CALLS, TURNS = 8, 400, 15
ATTEMPTS, GRANTED = 3_200, 1_000
MODEL = "openai/gpt-4o"
COST = Amounts(input_tokens=900, output_tokens=100, cost=Decimal("0.0001"))
NAMES = count()

Reserve = Callable[[EffectivePolicy], bool]


def run() -> bool:
    return all([_beside_raw(), _until_it_is_spent()])


def _callers(slug: str, limit: str) -> list[EffectivePolicy]:
    """An app and a user for each thread, with a budget each, and one of the organization that all share."""
    tenant = Tenant.objects.create(slug=slug, name=slug)
    apps = [App.objects.create(tenant=tenant, slug=f"app-{n}", name=f"App {n}") for n in range(THREADS)]
    for per, window, most in (("scope", "total", limit), ("app", "month", "100000"), ("user", "day", "100000")):
        config = {"limits": [{"per": per, "window": window, "limit": most}]}
        Policy.objects.create(tenant=tenant, policy_type="budget", config=config)
    users = [User.objects.create_user(f"user-{n}@{slug}.example", tenant=tenant) for n in range(THREADS)]
    return [
        Policy.objects.effective(tenant, app=app, user=user, at=now()) for app, user in zip(apps, users, strict=True)
    ]


def _beside_raw() -> bool:
    callers = _callers("bench-limits", "100000")
    for caller in callers:
        _ours(caller)  # opens the windows
    rates: dict[str, list[float]] = {}
    for turn in range(TURNS + 1):
        for threads in (1, THREADS):
            for name, workers in (("by hand", _raw), ("reserve", _django)):
                rate = _per_second(workers, callers[:threads], CALLS // threads)
                if turn:  # the first one warms
                    rates.setdefault(f"{name}, {threads} thread{'s' * (threads > 1)}", []).append(rate)
    measured = {name: median(found) for name, found in rates.items()}
    goals = [
        Goal("reserve against the same SQL, 1 thread", *_share(measured, "1 thread")),
        Goal("reserve against the same SQL, 8 threads", *_share(measured, f"{THREADS} threads")),
        Goal("counters that are not what reservations say", len(limits.verify()), 0, "{:.0f}", most=True),
    ]
    return show("Reservations of three counters, one of them shared", measured, "a second", goals)


def _share(measured: dict[str, float], threads: str) -> tuple[float, float, str]:
    return measured[f"reserve, {threads}"] / measured[f"by hand, {threads}"], 0.6, "{:.2f}"


def _until_it_is_spent() -> bool:
    callers = _callers("bench-budget", str(GRANTED * COST.cost) if COST.cost else "0")
    tenant = callers[0].tenant_id
    for caller in callers:
        limits.open_windows("default", limits.ask(caller, MODEL, COST, "windows", at=now()))
    rate = _per_second(_django, callers, ATTEMPTS // THREADS)
    granted = Reservation.objects.filter(tenant_id=tenant)
    partial = granted.exclude(bucket_ids__len=3).count()
    held = {
        per: sum(LimitBucket.objects.filter(tenant_id=tenant, owner_kind=per).values_list("reserved", flat=True))
        for per in ("scope:1", "per:app", "per:user")
    }
    goals = [
        Goal("granted too many or too few", abs(granted.count() - GRANTED), 0, "{:.0f}", most=True),
        Goal("held in part", partial, 0, "{:.0f}", most=True),
        Goal("levels whose sums differ", len({*held.values()}) - 1, 0, "{:.0f}", most=True),
    ]
    title = f"{ATTEMPTS:,} attempts by {THREADS} threads on a budget for {GRANTED:,}"
    return show(title, {"attempts": rate}, "a second", goals)


@contextmanager
def _django() -> Iterator[Reserve]:
    try:
        yield _ours
    finally:
        connection.close()


def _ours(caller: EffectivePolicy) -> bool:
    return bool(limits.reserve(caller, MODEL, COST, f"ours-{next(NAMES)}", at=now()))


@contextmanager
def _raw() -> Iterator[Reserve]:
    """The same statement, prepared, with parameters that are ready but for the names of the reservation."""
    settings = connection.get_connection_params()
    del settings["cursor_factory"]
    with psycopg.connect(**{**settings, "prepare_threshold": 0}, autocommit=True) as raw, psycopg.Cursor(raw) as cursor:
        ready: dict[int, Any] = {}

        def reserve(caller: EffectivePolicy) -> bool:
            if id(caller) not in ready:
                asked = limits.ask(caller, MODEL, COST, "raw", at=now())
                query, params = limits.reserving(asked).query, [*limits.reserving(asked).params]
                places = [[n for n, one in enumerate(params) if one is value] for value in (asked.id, asked.request_id)]
                ready[id(caller)] = (query.encode(), params, *places)
            query, params, ids, names = ready[id(caller)]
            new, name = uuid7(), f"raw-{next(NAMES)}"
            for place in ids:
                params[place] = new
            for place in names:
                params[place] = name
            return bool(cursor.execute(query, params).fetchall())

        yield reserve


def _per_second(workers: Callable[[], Any], callers: list[EffectivePolicy], calls: int) -> float:
    """Calls a second of all threads together, each with a caller and a connection of its own."""
    barrier = Barrier(len(callers) + 1)

    def work(caller: EffectivePolicy) -> None:
        with workers() as reserve:
            reserve(caller)  # connects, and prepares
            barrier.wait()
            for _ in range(calls):
                reserve(caller)

    threads = [Thread(target=work, args=[caller]) for caller in callers]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = perf_counter()
    for thread in threads:
        thread.join()
    return len(callers) * calls / (perf_counter() - began)
