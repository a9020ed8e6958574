"""Models by key and by alias from the cache beside Django's own cache, and models by a text, in a full catalog."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from itertools import cycle, islice
from statistics import median
from threading import Barrier, Thread
from time import perf_counter, thread_time
from typing import Any

from django.core.cache.backends.locmem import LocMemCache
from django.db import connection
from django.db.models import FloatField, OuterRef, Subquery
from django.db.models.functions import Greatest, Length
from django.test.utils import CaptureQueriesContext

from benchmarks.report import Goal, show
from catalog.models import AIModel, ModelAlias
from catalog.pricing import Usage
from catalog.searching import _likeness
from controlplane.core.caches import invalidation
from controlplane.core.ids import now

MODELS = 100
THREADS, PER_THREAD = 8, 100_000
BATCH, BATCHES = 100, 2_000
TEXTS = 100
HIT_US, PER_SECOND, AGAINST_LOCMEM, SEARCH_MS, AGAINST_SCAN = 1.0, 500_000, 10.0, 15.0, 0.5


def run() -> bool:
    results = [look_ups(), search()]
    invalidation.stop()
    return all(results)


def look_ups() -> bool:
    keys = _keys(MODELS)
    models = {model.key: model for model in AIModel.objects.filter(key__in=keys)}
    aliases = [f"bench-alias-{place}" for place in range(MODELS)]
    ModelAlias.objects.bulk_create(
        ModelAlias(alias=alias, model=models[key]) for alias, key in zip(aliases, keys, strict=True)
    )
    theirs = LocMemCache("bench", {"OPTIONS": {"MAX_ENTRIES": 10 * MODELS}})
    for key in keys:
        theirs.set(key, _plain(AIModel.objects.resolve(key)))
    while _loads(keys + aliases):  # the process still hears of the aliases that were just made
        pass
    with CaptureQueriesContext(connection) as asked:
        loads = _loads(keys[:1])
        AIModel.objects.resolve(keys[0]).cost(Usage(prompt_tokens=1, completion_tokens=1), at=now())
    measured = {
        "by key": _per_second(lambda name: AIModel.objects.resolve(name), keys),
        "by alias": _per_second(lambda name: AIModel.objects.resolve(name), aliases),
        "LocMemCache.get": _per_second(theirs.get, keys),
        f"by key, {THREADS} threads": _threads(lambda name: AIModel.objects.resolve(name), keys),
        f"LocMemCache.get, {THREADS} threads": _threads(theirs.get, keys, PER_THREAD // 20),
    }
    by_key, by_alias, peer, threads, peer_threads = measured.values()
    goals = [
        Goal("by key, µs", 1e6 / by_key, HIT_US, "{:.2f}", most=True),
        Goal("by alias, µs", 1e6 / by_alias, HIT_US, "{:.2f}", most=True),
        Goal(f"a second, {THREADS} threads", threads, PER_SECOND, "{:,.0f}"),
        Goal("against LocMemCache", by_key / peer, AGAINST_LOCMEM, "{:.0f} x"),
        Goal(f"against LocMemCache, {THREADS} threads", threads / peer_threads, AGAINST_LOCMEM, "{:.0f} x"),
        Goal("statements of a hit and of its cost", len(asked) + loads, 0, "{:.0f}", most=True),
    ]
    return show(f"Models looked up, {MODELS} names in turn", measured, "a second", goals)


def search() -> bool:
    texts = _texts()
    for text in texts[:10]:
        list(AIModel.objects.search(text))
        list(_scan(text))
    ours, theirs = [], []
    for text in texts:
        began = perf_counter()
        found = list(AIModel.objects.search(text))
        halfway = perf_counter()
        list(_scan(text))
        theirs.append(perf_counter() - halfway)
        ours.append(halfway - began)
        assert len(found) <= 20  # noqa: S101
    measured = {"search": 1e3 * median(ours), "the same order of all, without index": 1e3 * median(theirs)}
    goals = [
        Goal("search, ms", measured["search"], SEARCH_MS, "{:.1f}", most=True),
        Goal("against the scan", median(ours) / median(theirs), AGAINST_SCAN, "{:.2f} x", most=True),
    ]
    return show(f"Search of {AIModel.objects.count():,} models, {TEXTS} texts, median", measured, "ms", goals, "{:.1f}")


def _loads(names: list[str]) -> int:
    """How many of the names are not remembered, until now."""
    before = AIModel.objects.cache.stats()["loads"]
    for name in names:
        AIModel.objects.resolve(name)
    return int(AIModel.objects.cache.stats()["loads"] - before)


def _keys(count: int) -> list[str]:
    keys = list(AIModel.objects.enabled().order_by("key").values_list("key", flat=True))
    return random.Random(7).sample(keys, count)  # noqa: S311 - the same ones every time


def _texts() -> list[str]:
    """What people type: the end of a key, a part of it, one with a letter missing."""
    chance = random.Random(8)  # noqa: S311
    texts = []
    for key in _keys(TEXTS):
        text = key.rpartition("/")[2][:30]
        start = chance.randrange(max(len(text) - 5, 1))
        slip = chance.randrange(len(text))
        texts.append(chance.choice((text, text[start:], text[:slip] + text[slip + 1 :])) or text)
    return texts


def _scan(text: str) -> Iterable[AIModel]:
    """The order of `search`, computed for every model."""
    seen = ModelAlias.objects.filter(tenant=None, model=OuterRef("pk"), enabled=True)
    by_alias = seen.annotate(likeness=_likeness("alias", text.lower())).order_by("-likeness").values("likeness")[:1]
    likeness = Greatest(
        _likeness("key", text.lower()),
        _likeness("display_name", text.lower()),
        Subquery(by_alias, output_field=FloatField()),
    )
    return AIModel.objects.annotate(likeness=likeness).order_by("-likeness", Length("key"), "key")[:20]


def _plain(value: Any) -> Any:
    """A record as dicts and lists, which pickle can carry; what is worked out from it is not carried along."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _per_second(look_up: Callable[[str], object], names: list[str]) -> float:
    """The median of batches, in the time of the processor: nothing is waited for."""
    turn, rates = list(islice(cycle(names), BATCH)), []
    for _ in range(BATCHES):
        began = thread_time()
        for name in turn:
            look_up(name)
        rates.append(BATCH / (thread_time() - began))
    return median(rates)


def _threads(look_up: Callable[[str], object], names: list[str], each: int = PER_THREAD) -> float:
    """Of all threads together, from the moment when all are ready."""
    ready = Barrier(THREADS + 1)

    def work() -> None:
        turn = list(islice(cycle(names), each))
        ready.wait()
        for name in turn:
            look_up(name)

    threads = [Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = perf_counter()
    for thread in threads:
        thread.join()
    return THREADS * each / (perf_counter() - began)
