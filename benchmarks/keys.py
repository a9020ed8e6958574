"""API keys verified: from the cache and from the database, beside two peers as they ship, and how soon a stop is obeyed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from itertools import cycle, islice
from statistics import median
from threading import Barrier, Thread
from time import perf_counter
from typing import Any

import psycopg
from django.db import connection

from benchmarks import keys_peers, keys_stopped
from benchmarks.report import Goal, show
from controlplane.core.ids import now
from controlplane.core.statements import fetch
from tenants import tokens, verification
from tenants.models import APIKey, APIKeySecret, App, Tenant, User

KEYS, HOT = 100_000, 100
THREADS = 8
BATCH, TURNS = 200, 41


def run() -> bool:
    """Each figure is the median of turns that take turns with those it is compared to."""
    with unaudited():
        ours = _issue(KEYS)
    theirs = keys_peers.make(KEYS, User.objects.all())
    with connection.cursor() as cursor:
        # As autovacuum leaves them: else the first to read a row marks it as committed, and writes its page to the log.
        cursor.execute("VACUUM (ANALYZE)")
    return all([_hits(ours, theirs), _misses(ours, theirs), _writes(), keys_stopped.run(ours[0]), _purge(ours)])


@contextmanager
def unaudited() -> Iterator[None]:
    """While rows are made by the hundred thousand, which is not what is measured."""
    tables = ("cp_tenants_user", "cp_tenants_apikey", "cp_tenants_apikeysecret")
    for verb in ("DISABLE", "ENABLE ALWAYS"):
        with connection.cursor() as cursor:
            for table in tables:
                cursor.execute(f"ALTER TABLE {table} {verb} TRIGGER cp_audit")
        if verb == "DISABLE":
            yield


def _issue(count: int) -> list[str]:
    """Keys of one app, each with one secret and a user of its own; returns their tokens."""
    tenant = Tenant.objects.create(slug="bench-keys", name="Bench")
    app = App.objects.create(tenant=tenant, slug="bench", name="Bench")
    made = []
    for start in range(0, count, 10_000):
        users = User.objects.bulk_create(
            User(tenant=tenant, email=f"user-{place}@bench.example", password="!", role="viewer")  # noqa: S106
            for place in range(start, start + 10_000)
        )
        keys = APIKey.objects.bulk_create(
            APIKey(tenant=tenant, app=app, user=user, name="bench", environment="live") for user in users
        )
        fresh = [tokens.new_key("live") for _ in keys]
        APIKeySecret.objects.bulk_create(
            APIKeySecret(tenant=tenant, key=key, kid=new.kid, digest=tokens.sha256(new.token))
            for key, new in zip(keys, fresh, strict=True)
        )
        made += [new.token for new in fresh]
    return made


def _hits(ours: list[str], theirs: keys_peers.Tokens) -> bool:
    hot = ours[:HOT]
    verify = APIKey.objects.verify
    _warm(hot)
    calls: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
        "sha256(token), the floor": (lambda token: sha256(token.encode()).digest(), hot),
        "verify, from the cache": (verify, hot),
        "djangorestframework-api-key, is_valid": (keys_peers.is_valid, theirs.api_keys[:HOT]),
        "django-rest-knox, authenticate_credentials": (keys_peers.authenticate, theirs.knox[:HOT]),
    }
    measured = _in_turns(calls)
    one, many = _threads(verify, hot, 1), _threads(verify, hot, THREADS)
    measured |= {"verify, 1 thread, on and on": one, f"verify, {THREADS} threads, on and on": many}
    floor, hit, api_key, knox = list(measured.values())[:4]
    goals = [
        Goal("a hit in sha256(token)", floor / hit, 5.0, "{:.1f} x", most=True),
        Goal(f"{THREADS} threads against one", many / one, 0.4, "{:.2f} x"),
        Goal("against djangorestframework-api-key", hit / api_key, 150, "{:,.0f} x"),
        Goal("against django-rest-knox", hit / knox, 150, "{:,.0f} x"),
        Goal("keys a second, one thread", one, 400_000, "{:,.0f}"),
        Goal(f"keys a second, {THREADS} threads", many, 300_000, "{:,.0f}"),
    ]
    return show(f"Keys verified, {HOT} in turn, of {KEYS:,}", measured, "a second", goals)


def _misses(ours: list[str], theirs: keys_peers.Tokens) -> bool:
    """Every key in turn: of a hundred thousand, none is still among the thousand that are kept."""
    before = APIKey.objects.cache.stats()["loads"]
    calls: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
        "SELECT 1, prepared": (lambda _: fetch("default", "SELECT 1", []), [0]),
        "the statement of verify, prepared, raw": (_raw(), ours[HOT:]),
        "verify, from the database": (APIKey.objects.verify, ours[HOT:]),
        "djangorestframework-api-key, is_valid": (keys_peers.is_valid, theirs.api_keys),
        "django-rest-knox, authenticate_credentials": (keys_peers.authenticate, theirs.knox),
    }
    measured = _in_turns(calls)
    assert APIKey.objects.cache.stats()["loads"] - before == (TURNS + 1) * BATCH  # noqa: S101 - these were no misses
    floor, raw, miss, api_key, knox = measured.values()
    goals = [
        Goal("a miss in SELECT 1", floor / miss, 8.0, "{:.1f} x", most=True),
        Goal("a miss in the raw statement", raw / miss, 3.0, "{:.1f} x", most=True),
        Goal("against djangorestframework-api-key", miss / api_key, 2.5, "{:.1f} x"),
        Goal("against django-rest-knox", miss / knox, 5.0, "{:.1f} x"),
    ]
    return show(f"Keys verified by a statement, of {KEYS:,}", measured, "a second", goals)


def _raw() -> Callable[[str], object]:
    """The statement of a miss by psycopg alone."""
    query = verification.FIND_ONE.encode()
    connection.ensure_connection()
    cursor = psycopg.Cursor(connection.connection)
    return lambda token: cursor.execute(query, (tokens.sha256(token),), prepare=True).fetchall()


def _writes() -> bool:
    """An UPDATE that the log of changes has to know, with its trigger and without."""
    [id] = APIKey.objects.order_by("pk").values_list("pk", flat=True)[:1]

    def switch(_: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE cp_tenants_apikey SET enabled = NOT enabled WHERE id = %s", [id])

    def triggers(verb: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE cp_tenants_apikey {verb} TRIGGER cp_cache_update")

    with_it, without = [], []
    for _ in range(TURNS):
        with_it.append(_per_second(switch, [0] * 20))
        triggers("DISABLE")
        without.append(_per_second(switch, [0] * 20))
        triggers("ENABLE ALWAYS")
    measured = {"UPDATE of a key": median(with_it), "the same, unnoticed by caches": median(without)}
    goals = [Goal("time with the trigger", median(without) / median(with_it), 2.0, "{:.2f} x", most=True)]
    return show("Keys changed", measured, "a second", goals)


def _purge(ours: list[str]) -> bool:
    """What a caller notices while a hundred thousand secrets that ended long ago are removed."""
    hot = ours[:1]
    ended = now() - timedelta(days=400)
    with unaudited():
        APIKeySecret.objects.exclude(digest=tokens.sha256(hot[0])).update(expires_at=ended)
    _warm(hot)
    idle = _p99(hot[0], lambda: False, calls=20_000)
    purge = Thread(target=_purge_here)
    purge.start()
    busy = _p99(hot[0], lambda: not purge.is_alive())
    purge.join()
    measured = {"p99 of verify, idle": idle, f"p99 while {KEYS:,} secrets are purged": busy}
    goals = [Goal("p99 while purging against idle", busy / idle, 3.0, "{:.1f} x", most=True)]
    return show("Secrets purged", measured, "µs", goals, form="{:,.1f}")


def _purge_here() -> None:
    try:
        APIKey.objects.purge_expired()
    finally:
        connection.close()


def _p99(token: str, ended: Callable[[], bool], calls: int = 0) -> float:
    """The 99th of a hundred calls, in µs."""
    taken: list[float] = []
    verify = APIKey.objects.verify
    while len(taken) < calls if calls else not ended():
        began = perf_counter()
        verify(token)
        taken.append(perf_counter() - began)
    return sorted(taken)[len(taken) * 99 // 100] * 1e6


def _warm(hot: list[str]) -> None:
    """Until each is a hit: the process first hears of what was just written."""
    cache = APIKey.objects.cache
    while True:
        before = cache.stats()["misses"]
        for token in hot:
            APIKey.objects.verify(token)
        if cache.stats()["misses"] == before:
            return


def _in_turns(calls: dict[str, tuple[Callable[[Any], object], list[Any]]]) -> dict[str, float]:
    """Calls a second by name: the median of turns, in which each has its go."""
    queues = {name: cycle(arguments) for name, (_, arguments) in calls.items()}
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(TURNS + 1):
        for name, (call, _) in calls.items():
            rate = _per_second(call, list(islice(queues[name], BATCH)))
            if turn:  # the first one fills what processes keep
                rates[name].append(rate)
    return {name: median(found) for name, found in rates.items()}


def _per_second(call: Callable[[Any], object], arguments: list[Any]) -> float:
    began = perf_counter()
    for argument in arguments:
        call(argument)
    return len(arguments) / (perf_counter() - began)


def _threads(call: Callable[[str], object], arguments: list[str], count: int, total: int = 400_000) -> float:
    """Calls a second of all threads together."""
    barrier = Barrier(count + 1)

    def work() -> None:
        barrier.wait()
        for argument in islice(cycle(arguments), total // count):
            call(argument)
        connection.close()

    threads = [Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = perf_counter()
    for thread in threads:
        thread.join()
    return total / (perf_counter() - began)
