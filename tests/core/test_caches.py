from __future__ import annotations

from collections import OrderedDict
from random import Random
from threading import Barrier, Event, Thread
from uuid import UUID

import pytest
from django.db import OperationalError

from controlplane.core.caches import MISSING, CacheUnavailable, Invalidation, RecordCache
from controlplane.core.caches.records import Counter

ACME, GLOBEX = UUID(int=1), UUID(int=2)


class Lease(Invalidation):
    """An invalidation without a thread and a database: a test says what time it is and when the lease ends."""

    def __init__(self):
        self.now = 1000.0
        super().__init__(clock=lambda: self.now)
        self.fresh_until = self.now + 1e9

    def start(self):
        pass


class Shelf:
    """A loader: what is on the shelf, with the number of times that it was looked at."""

    def __init__(self, **records):
        self.records, self.asked = records, []

    def __call__(self, key, ask):
        self.asked.append(key)
        return self.records.get(key)


@pytest.fixture
def lease():
    return Lease()


@pytest.fixture
def shelf():
    return Shelf(**{name: (name, ACME) for name in "abcdefgh"})


@pytest.fixture
def cache(lease, shelf):
    return made(lease, shelf)


def made(lease, loader, **options):
    given = {"size": 3, "ttl": 100, "negative_size": 2, "negative_ttl": 5, "kinds": {"key", "tenant"}}
    return RecordCache(
        "test", loader=loader, invalidation=lease, refs=lambda record: [("key", record[1])], **{**given, **options}
    )


def counts(cache, *names):
    stats = cache.stats()
    return tuple(stats[name] for name in names)


def test_a_record_is_loaded_once(cache, shelf):
    assert cache.get("a") is cache.get("a") is shelf.records["a"]

    assert shelf.asked == ["a"]
    assert counts(cache, "hits", "misses", "loads", "size") == (1, 1, 1, 1)


def test_the_least_recently_used_goes_first(cache, shelf):
    for key in ("a", "b", "c", "a", "d"):
        cache.get(key)
    shelf.asked.clear()

    for key in ("a", "c", "d", "b"):
        cache.get(key)

    assert shelf.asked == ["b"]
    assert counts(cache, "evictions", "size", "capacity") == (2, 3, 3)


def test_a_record_ends_within_a_tenth_of_its_time(cache, shelf, lease):
    cache.get("a")

    lease.now += 89.9
    cache.get("a")
    assert counts(cache, "hits", "expired") == (1, 0)

    lease.now += 20.2
    cache.get("a")
    assert shelf.asked == ["a", "a"]
    assert counts(cache, "hits", "expired", "misses") == (1, 1, 2)


def test_a_record_that_holds_shorter_than_its_time_ends_then(lease, shelf):
    cache = made(lease, shelf, lasts=lambda record: {"a": 7, "b": 1000}[record[0]])
    cache.get("a")
    cache.get("b")

    lease.now += 6.9
    assert cache.cached("a") is shelf.records["a"]
    lease.now += 0.1
    assert cache.cached("a") is MISSING
    assert cache.cached("b") is shelf.records["b"]
    lease.now += 110
    assert cache.cached("b") is MISSING


def test_what_was_concluded_from_records_holds_until_anything_is_forgotten_and_while_there_is_a_lease(cache, lease):
    cache.get("a")
    before = cache.generation()
    cache.get("b")
    assert cache.generation() == before

    fresh_until, lease.fresh_until = lease.fresh_until, lease.now
    assert cache.generation() is None
    lease.fresh_until = fresh_until
    assert cache.generation() == before

    cache.apply([("tenant", ACME)])
    assert cache.generation() not in (None, before)


def test_records_that_came_together_do_not_end_together(lease):
    cache = made(lease, lambda key, ask: (key, ACME), size=300)
    for key in range(300):
        cache.get(key)

    lease.now += 100
    for key in range(300):
        cache.cached(key)

    assert 90 < counts(cache, "hits")[0] < 210


def test_an_unknown_key_is_remembered_apart_and_shortly(cache, shelf, lease):
    assert cache.get("x") is None
    assert cache.get("x") is None
    assert shelf.asked == ["x"]

    lease.now += 5
    assert cache.get("x") is None

    assert shelf.asked == ["x", "x"]
    assert counts(cache, "hits", "misses", "negative_hits") == (0, 2, 1)


def test_a_flood_of_unknown_keys_evicts_nothing_good(cache, shelf):
    for key in ("a", "b", "c"):
        cache.get(key)
    for number in range(1000):
        cache.get(f"unknown {number}")
    shelf.asked.clear()

    for key in ("a", "b", "c"):
        assert cache.get(key)

    assert shelf.asked == []
    assert counts(cache, "evictions", "negative_size", "negative_capacity") == (0, 2, 2)


def test_without_a_lease_everything_is_loaded_and_nothing_kept(cache, shelf, lease):
    cache.get("a")
    cache.get("x")
    lease.fresh_until = lease.now

    cache.get("a")
    cache.get("x")
    cache.get("b")
    lease.fresh_until = lease.now + 1
    cache.get("b")

    assert shelf.asked == ["a", "x", "a", "x", "b", "b"]
    assert counts(cache, "expired") == (0,)


@pytest.mark.parametrize("ask", ["get", "cached"])
def test_who_was_held_up_with_a_record_in_hand_does_not_use_it_under_a_later_lease(cache, shelf, lease, ask):
    cache.get("a")
    lease.fresh_until = lease.now + 5
    read = cache._entry

    def held_up(key):
        entry = read(key)
        lease.now += 60
        lease.apply([("key", ACME)])
        lease.fresh_until = lease.now + 5
        return entry

    cache._entry = held_up
    getattr(cache, ask)("a")

    assert counts(cache, "hits") == (0,)


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        (("key", ACME), {"a", "b"}),
        (("key", GLOBEX), {"c"}),
        (("key", UUID(int=9)), set()),
        (("tenant", ACME), set()),
        (("key", None), {"a", "b", "c"}),
        (("all", None), {"a", "b", "c"}),
        (("policy", ACME), set()),
    ],
)
def test_a_change_evicts_what_depends_on_it_and_no_more(cache, shelf, lease, change, gone):
    shelf.records["c"] = ("c", GLOBEX)
    for key in ("a", "b", "c"):
        cache.get(key)

    lease.apply([change])

    assert {key for key in ("a", "b", "c") if cache.cached(key) is MISSING} == gone
    assert counts(cache, "invalidated") == (len(gone),)


def test_without_refs_any_change_of_its_kinds_empties_it(lease, shelf):
    cache = made(lease, shelf)
    cache.refs = None
    cache.get("a")

    lease.apply([("policy", ACME)])
    assert cache.cached("a")
    lease.apply([("key", UUID(int=9))])

    assert cache.cached("a") is MISSING


@pytest.mark.parametrize(("change", "known"), [(("key", ACME), True), (("policy", ACME), False)])
def test_any_change_of_its_kinds_forgets_what_was_unknown(cache, shelf, lease, change, known):
    cache.get("x")
    shelf.records["x"] = ("x", ACME)

    lease.apply([change])

    assert (cache.get("x") is not None) == known


def test_what_is_cached_can_be_asked_for_without_loading(cache, shelf):
    assert cache.cached("a") is MISSING
    assert (shelf.asked, counts(cache, "hits", "misses")) == ([], (0, 0))

    cache.get("a")
    cache.get("x")

    assert cache.cached("a") == ("a", ACME)
    assert cache.cached("x") is None
    assert counts(cache, "hits", "negative_hits", "misses") == (1, 1, 2)


class Gate:
    """A loader that waits inside until it is let go."""

    def __init__(self):
        self.inside, self.go, self.asked, self.answer = Event(), Event(), 0, ("a", ACME)

    def __call__(self, key, ask):
        self.asked += 1
        answer = self.answer
        self.inside.set()
        assert self.go.wait(30)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def running(count, call):
    outcomes = []

    def run():
        try:
            outcomes.append(call())
        except BaseException as error:
            outcomes.append(error)

    threads = [Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()

    def join():
        for thread in threads:
            thread.join()
        return outcomes

    return join


def until(condition):
    """Wait for a condition that another thread brings about; the deadline is for a test that fails."""
    pause = Event()
    for _ in range(3000):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("it never came about")


def test_sixty_four_threads_on_one_cold_key_are_one_load(lease):
    gate = Gate()
    cache = made(lease, gate)

    join = running(64, lambda: cache.get("a"))
    until(lambda: counts(cache, "waits") == (63,))
    gate.go.set()

    assert join() == [("a", ACME)] * 64
    assert gate.asked == 1
    assert counts(cache, "misses", "loads", "hits") == (64, 1, 0)


def test_who_asks_after_a_change_does_not_join_a_load_from_before_it(lease):
    old, cache = Gate(), None
    cache = made(lease, old)
    first = running(1, lambda: cache.get("a"))
    assert old.inside.wait(30)

    lease.apply([("key", ACME)])
    cache.loader = lambda key, ask: ("new", ACME)
    later = cache.get("a")
    old.go.set()

    assert later == ("new", ACME)
    assert first() == [("a", ACME)]
    assert cache.cached("a") == ("new", ACME)


def test_a_load_that_a_change_overtook_is_not_kept(lease):
    gate = Gate()
    cache = made(lease, gate)
    join = running(1, lambda: cache.get("a"))
    assert gate.inside.wait(30)

    lease.apply([("key", UUID(int=9))])
    gate.go.set()
    join()

    assert cache.cached("a") is MISSING


def test_a_load_that_outlived_the_lease_is_no_answer(lease):
    gate = Gate()
    cache = made(lease, gate)
    join = running(2, lambda: cache.get("a"))
    until(lambda: counts(cache, "waits") == (1,))

    lease.now += 5
    lease.fresh_until = lease.now + 100
    gate.go.set()

    assert [type(outcome) for outcome in join()] == [CacheUnavailable, CacheUnavailable]


@pytest.mark.parametrize("error", [OperationalError("gone"), KeyboardInterrupt()])
def test_a_load_that_failed_is_never_taken_for_an_unknown_key(lease, error):
    gate = Gate()
    gate.answer = error
    cache = made(lease, gate)
    join = running(2, lambda: cache.get("a"))
    until(lambda: counts(cache, "waits") == (1,))

    gate.go.set()

    outcomes = join()
    assert None not in outcomes
    assert any(isinstance(outcome, CacheUnavailable) for outcome in outcomes)
    assert cache.cached("a") is MISSING
    cache.loader = lambda key, ask: ("a", ACME)
    assert cache.get("a")


def test_a_mistake_of_a_loader_is_told_as_it_is(lease):
    def load(key, ask):
        raise ZeroDivisionError

    cache = made(lease, load)

    with pytest.raises(ZeroDivisionError):
        cache.get("a")
    assert counts(cache, "load_errors", "misses") == (0, 1)


def test_more_loads_than_are_allowed_wait_for_their_turn_and_then_give_up(lease, settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "CACHE_MAX_LOADS": 2}
    gate = Gate()
    cache = made(lease, gate)
    first = running(1, lambda: cache.get("a"))
    second = running(1, lambda: cache.get("b"))
    until(lambda: gate.asked == 2)

    with pytest.raises(CacheUnavailable) as caught:
        cache.get("c")
    gate.go.set()

    assert caught.value.http_status == 503
    assert first() + second() == [("a", ACME)] * 2
    assert gate.asked == 2


def test_clearing_forgets_and_the_counts_go_on(cache, shelf):
    cache.get("a")
    cache.get("a")
    cache.get("x")

    cache.clear()

    assert cache.cached("a") is MISSING
    assert counts(cache, "hits", "invalidated", "size", "negative_size") == (1, 1, 0, 0)


def test_the_counts_are_exact_while_eight_threads_call(lease, shelf):
    cache = made(lease, shelf, size=4)
    barrier = Barrier(8)

    def work():
        barrier.wait()
        for number in range(3000):
            cache.get("abcdefxy"[number * 7 % 8])
            if number % 500 == 0:
                cache.stats()

    running(8, work)()

    stats = cache.stats()
    assert stats["hits"] + stats["misses"] + stats["negative_hits"] == 24_000
    assert stats["misses"] == stats["loads"] + stats["waits"]


def test_a_counter_does_not_count_its_readers():
    counter = Counter()

    seen = []
    for _ in range(3):
        counter.step()
        seen += [counter.value(), counter.value()]

    assert seen == [1, 1, 2, 2, 3, 3]


def test_the_hit_rate_is_that_of_an_exact_lru(lease):
    """Zipf 1.3 over 10,000 keys in 1,000 entries, beside a reference on the same trace."""
    weights = [1 / rank**1.3 for rank in range(1, 10_001)]
    trace = Random(13).choices(range(10_000), weights, k=200_000)  # noqa: S311 - the same trace each time
    reference, hits = OrderedDict(), 0
    for key in trace:
        hits += key in reference
        reference[key] = True
        reference.move_to_end(key)
        if len(reference) > 1000:
            reference.popitem(last=False)
    cache = made(lease, lambda key, ask: (key, ACME), size=1000)

    for key in trace:
        cache.get(key)

    rate = counts(cache, "hits")[0] / len(trace)
    assert abs(rate - hits / len(trace)) <= 0.005
    assert rate >= 0.90
