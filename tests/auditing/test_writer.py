from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connection, transaction

from auditing import events
from auditing.context import audit_context
from auditing.errors import AckTimeout, AuditUnavailable, InvalidRow
from auditing.models import AuditLog, DeadLetter, InferenceRequest
from auditing.writer import Writer, writer
from benchmarks.auditing_away import away
from controlplane.core.ids import now, uuid7_of
from tests.relay import Relay

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "sk-" + "a1" * 20


@pytest.fixture
def make_writer(tmp_path):
    made = []

    def make(folder=tmp_path / "spool", **limits):
        made.append(Writer(lambda: folder, **limits))
        return made[-1]

    yield make
    for each in made:
        each.stop(2)


@pytest.fixture
def relay(tmp_path_factory, settings):
    """The way of every writer to the database in this test."""
    found = Relay(tmp_path_factory.mktemp("r"))
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "DATABASE_DIRECT_URL": found.url}
    yield found
    found.cut()


@pytest.fixture
def call(acme):
    def make(request_id="r-1", **fields):
        return {
            "request_id": request_id, "created_at": now() - timedelta(minutes=1), "tenant_id": acme.pk, "provider": "openai",
            "model": "openai/gpt-4o", "prompt_tokens": 100, "completion_tokens": 20, "cost": Decimal("0.01"), **fields,
        }  # fmt: skip

    return make


def event(action="demo.done", **told):
    return events.event(action, **told)


def actions():
    return sorted(AuditLog.objects.filter(action__contains=".").values_list("action", flat=True))


def balanced(one):
    found = one.stats()
    assert found.accepted == found.committed + found.duplicates + found.dead + found.queued + found.spooled
    return found


def test_an_event_is_written_beside_the_callers_transaction(acme):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        soon = AuditLog.objects.record_async("demo.soon", tenant=acme)
        sure = AuditLog.objects.record_durable("demo.sure", tenant=acme)
        raise ZeroDivisionError

    assert AuditLog.objects.get(pk=sure).action == "demo.sure"
    assert writer.drain()
    assert AuditLog.objects.get(pk=soon).action == "demo.soon"


def test_a_durable_event_is_committed_when_its_call_returns(other_connection):
    id = AuditLog.objects.record_durable("demo.sure")

    assert other_connection.execute("SELECT action FROM cp_auditing_auditlog WHERE id = %s", [id]).fetchone() == (
        "demo.sure",
    )


@pytest.mark.parametrize("way", ["record", "record_async", "record_durable"])
def test_the_three_ways_write_the_same_row(acme, acme_app, way):
    told = {
        "app": acme_app.pk, "branch": uuid4(), "user": str(uuid4()), "api_key": None, "resource": acme,
        "outcome": "denied", "request_id": "r\x00-1", "provider": "openai", "model": "gpt",
        "details": {"password": "x", "note": f"Bearer {TOKEN}", "deep": [{"n": 1.5, 2: Decimal(3), "who": uuid4()}], "ok": True},
    }  # fmt: skip
    with audit_context(
        actor="portal", reason=f"because {TOKEN}", tenant=acme, ip="10.0.0.1", user_agent="Mozilla\ud800"
    ):
        getattr(AuditLog.objects, way)("demo.done", **told)
    writer.drain()

    row = AuditLog.objects.get(action="demo.done")

    expected = events.stored(event(**told, tenant=acme, actor="portal"))
    same = {
        "app_id",
        "branch_id",
        "user_id",
        "api_key_id",
        "tenant_id",
        "resource_type",
        "resource_id",
        "resource_label",
    }
    same |= {"outcome", "request_id", "provider", "model", "details", "actor_type", "actor_id", "actor_label"}
    assert {name: getattr(row, name) for name in same} == {name: expected[name] for name in same}
    assert (row.reason, row.ip, row.user_agent) == ("because [redacted]", "10.0.0.1", "Mozilla�")
    assert row.details["password"] == "[redacted]"
    assert TOKEN not in str(row.__dict__)
    assert abs(row.created_at - now()) < timedelta(minutes=1)
    assert row.pk.int >> 80 == int(row.created_at.timestamp() * 1000)


CALLED = {
    "before": {"name": "old", "password": "x"}, "after": {"name": "new\x00"}, "ip": "10.0.0.7", "user_agent": f"curl {TOKEN}",
    "provider": "openai", "model": "gpt-4o", "prompt_tokens": 1200, "completion_tokens": 0, "cost": Decimal("0.001234567891"),
    "latency_ms": 850,
}  # fmt: skip


@pytest.mark.parametrize(("way", "times"), [("record", 1), ("record_async", 20), ("record_durable", 1)])
def test_a_call_of_a_model_says_its_tokens_cost_and_latency_in_columns(way, times):
    with audit_context(actor="portal", ip="10.0.0.1", user_agent="Mozilla"):
        for _ in range(times):
            getattr(AuditLog.objects, way)("llm.called", **CALLED)
    writer.drain()

    kept = CALLED | {"before": {"name": "old", "password": "[redacted]"}, "after": {"name": "new\ufffd"}}
    kept |= {"user_agent": "curl [redacted]"}
    assert list(AuditLog.objects.filter(action="llm.called").values(*CALLED)) == [kept] * times


@pytest.mark.parametrize(
    "told",
    [
        {"prompt_tokens": -1},
        {"completion_tokens": True},
        {"latency_ms": 2**31},
        {"cost": 0.5},
        {"cost": Decimal("NaN")},
        {"cost": Decimal("-1")},
        {"ip": "10.0.0"},
    ],
)
def test_a_measure_that_is_none_is_said_at_the_call(told):
    for way in (AuditLog.objects.record, AuditLog.objects.record_async):
        with pytest.raises(InvalidRow, match=next(iter(told))):
            way("llm.called", **told)
    assert writer.stats().accepted == 0


def test_what_the_caller_changes_after_the_call_changes_nothing():
    details = {"names": ["a"]}
    with audit_context(actor="portal"):
        AuditLog.objects.record_async("demo.done", details=details)
        details["names"].append("b")
    writer.drain()

    row = AuditLog.objects.get(action="demo.done")
    assert (row.details, row.actor_id) == ({"names": ["a"]}, "portal")


def test_content_never_makes_an_event_fail():
    itself: dict = {}
    itself["me"] = itself
    for details in (
        itself,
        {f"n{n}": "y" * 30_000 for n in range(100)},
        {"b": b"\x00\xff", "s": {1, 2}},
        {"n": float("nan")},
    ):
        AuditLog.objects.record_async("demo.odd", details=details, resource=("t", "\ud800\x00"))
    writer.drain()

    assert AuditLog.objects.filter(action="demo.odd").count() == 4
    assert DeadLetter.objects.count() == 0
    assert AuditLog.objects.filter(details__has_key="$unreadable").count() == 1
    assert AuditLog.objects.get(details__has_key="$bytes").details["$bytes"] > 400_000


def test_an_id_that_is_none_is_said_at_the_call():
    with pytest.raises(ValueError, match="badly formed"):
        AuditLog.objects.record_async("demo.done", tenant="acme")
    assert writer.stats().accepted == 0


def test_a_finished_call_is_validated_priced_and_written_once(acme, call):
    given = call(metadata={"token": "x"}, api_key_id=uuid4())

    id = InferenceRequest.objects.record_async(given)
    assert InferenceRequest.objects.record_durable(given) == id

    fact = InferenceRequest.objects.get()
    assert fact.pk == id == uuid7_of(given["created_at"], acme.pk.bytes + b"\x00r-1")
    assert (fact.cost, fact.pricing_status, fact.source, fact.time_zone) == (
        given["cost"],
        "priced",
        "ingest",
        "Europe/Berlin",
    )
    assert fact.metadata == {"token": "[redacted]"}
    assert balanced(writer).duplicates == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cost": 0.5}, "a Decimal is needed"),
        ({"prompt_tokens": -1}, "cannot be negative"),
        ({"colour": "red"}, "no field 'colour'"),
        ({"tenant_id": UUID(int=7)}, "No tenant has the id"),
        ({"model": None}, "model is missing"),
    ],
)
def test_a_call_that_is_refused_is_kept_aside_and_its_caller_told(call, fields, message):
    with pytest.raises(InvalidRow, match=message):
        InferenceRequest.objects.record_durable(call(**fields))

    letter = DeadLetter.objects.get()
    assert (letter.source, letter.request_id) == ("writer", "r-1")
    assert balanced(writer).dead == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "NoneType"),
        ([1], "list"),
        ({}, "created_at is missing"),
        ({"created_at": "today"}, "a datetime is needed"),
        ({"created_at": now().replace(year=1900), "tenant_id": uuid4(), "request_id": "r"}, "no column takes"),
        ({"created_at": now(), "tenant_id": None, "request_id": "r"}, "need a value"),
        ({"created_at": now(), "tenant_id": uuid4(), "request_id": "r\x00"}, "NUL"),
        ({"created_at": now(), "tenant_id": uuid4(), "request_id": "r", "model": object()}, "object is no value"),
        ({"created_at": now(), "tenant_id": uuid4(), "request_id": "r", "error": "x" * 2_000_000}, "are the most"),
    ],
)
def test_a_call_without_an_id_or_of_what_no_column_takes_is_refused_at_once(given, message):
    with pytest.raises(InvalidRow, match=message):
        InferenceRequest.objects.record_async(given)
    assert writer.stats().accepted == 0


def test_a_poison_row_becomes_a_dead_letter_and_the_others_are_written(make_writer):
    one = make_writer()
    rows = [event(f"demo.n{n}") for n in range(40)]
    rows[13] = event("demo.poison", outcome="none")
    rows[29] = event("demo." + "x" * 200)
    for row in rows:
        one.put(row)

    assert one.drain()

    assert len(actions()) == 38
    assert set(DeadLetter.objects.values_list("code", flat=True)) == {"database_refused"}
    assert {letter.message[:49] for letter in DeadLetter.objects.all()} == {
        "The database refused the row (SQLSTATE 23514): ne"[:49], "The database refused the row (SQLSTATE 22001): va"[:49],
    }  # fmt: skip
    assert balanced(one).dead == 2


def test_a_row_too_long_for_an_index_is_poison_and_not_waited_for(make_writer):
    one = make_writer()
    incompressible = "".join(uuid4().hex for _ in range(120))

    with pytest.raises(InvalidRow, match="54000"):
        one.put(event("demo.long", resource=("table", incompressible)), durable=True)
    one.put(event("demo.next"), durable=True)

    assert actions() == ["demo.next"]


def test_a_row_without_partition_gets_one(make_writer):
    one = make_writer()
    month = f"{now():%Y%m}"
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE cp_auditing_auditlog DETACH PARTITION cp_auditing_auditlog_{month}")

    id = one.put(event("demo.done"), durable=True)

    assert AuditLog.objects.filter(pk=id).exists()


def test_a_row_of_a_month_that_no_log_takes_is_kept_aside(make_writer):
    one = make_writer()
    told = event("demo.old")
    old = (1 << 76 | told[0] & (1 << 76) - 1, 1_000_000, *told[2:])

    with pytest.raises(InvalidRow, match="no partition"):
        one.put(old, durable=True)
    assert DeadLetter.objects.count() == 1


def test_the_same_row_twice_is_stored_once(make_writer):
    one, told = make_writer(), event("demo.done")
    for _ in range(3):
        one.put(told, durable=True)

    assert actions() == ["demo.done"]
    assert (balanced(one).committed, one.stats().duplicates) == (1, 2)


def test_durable_calls_share_commits(make_writer):
    one = make_writer()
    one.put(event("demo.first"), durable=True)
    threads = [threading.Thread(target=one.put, args=(event(f"demo.n{n}"), True, 30.0)) for n in range(64)]
    with connection.cursor() as cursor, transaction.atomic():
        cursor.execute(
            "LOCK TABLE cp_auditing_auditlog IN SHARE MODE"
        )  # the first flush waits, and so do all behind it
        for thread in threads:
            thread.start()
        while one.stats().queued < 64:
            pass
    for thread in threads:
        thread.join()

    assert balanced(one).committed == 65
    assert AuditLog.objects.values("xid").distinct().count() <= 1 + 1 + 2


def test_while_the_database_is_away_rows_wait_on_disk_and_are_written_once_it_is_back(make_writer, relay, tmp_path):
    one = make_writer()
    one.put(event("demo.before"), durable=True)
    relay.cut()
    for n in range(300):
        one.put(event(f"demo.n{n:03}", reason=TOKEN))
    while one.stats().spooled < 300:
        pass

    found = balanced(one)
    assert (found.queued, found.committed, found.away) == (0, 1, True)
    assert found.oldest_age_s > 0
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    [file] = (tmp_path / "spool").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"demo.n299" in file.read_bytes()
    assert TOKEN.encode() not in file.read_bytes()

    relay.mend()

    assert one.drain(30)
    assert actions() == ["demo.before", *(f"demo.n{n:03}" for n in range(300))]
    found = balanced(one)
    assert (found.committed, found.replayed, found.spooled, found.away) == (301, 300, 0, False)
    assert list((tmp_path / "spool").iterdir()) == []


def test_calls_wait_on_disk_as_they_were_told(make_writer, relay, call, tmp_path):
    one = make_writer()
    relay.cut()
    given = call(metadata={"secret": "s3cr3t", "n": 1}, cost=Decimal("0.10"))
    one.put(given)
    one.put(call("r-2", cost=1.5))
    while one.stats().spooled < 2:
        pass
    [file] = (tmp_path / "spool").iterdir()
    assert b"s3cr3t" not in file.read_bytes()
    relay.mend()

    assert one.drain(30)

    fact = InferenceRequest.objects.get()
    assert (fact.created_at, fact.cost, fact.metadata) == (
        given["created_at"],
        given["cost"],
        {"secret": "[redacted]", "n": 1},
    )
    assert DeadLetter.objects.get().code == "wrong_type"
    assert balanced(one).dead == 1


def test_a_durable_call_that_is_not_confirmed_in_time_says_so_and_is_written_later(make_writer, relay):
    one = make_writer()
    relay.cut()

    with pytest.raises(AckTimeout) as caught:
        one.put(event("demo.late"), durable=True, timeout=0.4)
    assert (caught.value.code, caught.value.http_status) == ("ack_timeout", 503)
    relay.mend()

    assert one.drain(30)
    assert AuditLog.objects.get(action="demo.late").pk == caught.value.id


def test_a_durable_call_is_confirmed_out_of_the_spool(make_writer, relay):
    one = make_writer()
    relay.cut()
    confirmed = []
    thread = threading.Thread(target=lambda: confirmed.append(one.put(event("demo.sure"), durable=True, timeout=30)))
    thread.start()
    while one.stats().spooled < 1:
        pass
    relay.mend()
    thread.join()

    assert AuditLog.objects.filter(action="demo.sure").values_list("pk", flat=True).get() == confirmed[0]


def test_where_the_queue_is_full_the_caller_spools(make_writer, relay):
    one = make_writer(most=20, patience=0.01)
    one.put(event("demo.first"), durable=True)
    relay.freeze()
    for n in range(50):
        one.put(event(f"demo.n{n}"))

    found = balanced(one)
    assert (found.queued, found.spooled) == (20, 30)
    relay.thaw()

    assert one.drain(30)
    assert len(actions()) == 51
    assert balanced(one).duplicates == 0


@pytest.mark.parametrize(("limits", "says"), [({"folder": None}, "STATE_DIR"), ({"cap": 1000}, "1000 bytes")])
def test_where_nothing_takes_a_row_the_caller_is_told(make_writer, relay, limits, says):
    one = make_writer(most=5, patience=0.01, **limits)
    one.put(event("demo.first"), durable=True)
    relay.freeze()
    kept = 0
    with pytest.raises(AuditUnavailable, match=says) as caught:
        for _ in range(10):
            one.put(event("demo.more"))
            kept += 1

    assert (caught.value.code, caught.value.http_status) == ("audit_unavailable", 503)
    assert balanced(one).accepted == 1 + kept
    relay.thaw()
    assert one.drain(30)
    assert len(actions()) == 1 + kept


def test_the_queue_is_bounded_in_bytes_too(make_writer, relay):
    one = make_writer(folder=None, size=20_000, patience=0.01)
    one.put(event("demo.first"), durable=True)
    relay.freeze()
    with pytest.raises(AuditUnavailable):
        for _ in range(10):
            one.put(event("demo.big", details={"x": "y" * 4000}))

    assert balanced(one).queue_bytes <= 20_000
    relay.thaw()


def test_the_files_of_an_ended_process_are_taken_over_and_those_of_a_living_one_left(make_writer, relay):
    relay.cut()
    dead, living, last = make_writer(), make_writer(), make_writer()
    for n in range(5):
        dead.put(event(f"demo.dead{n}"))
        living.put(event(f"demo.living{n}"))
    while dead.stats().spooled < 5 or living.stats().spooled < 5:
        pass
    thread = dead._thread
    dead.stop(0)
    thread.join(30)
    relay.mend()

    last.put(event("demo.last"), durable=True, timeout=30)
    assert last.drain(30)
    assert living.drain(30)

    assert len(actions()) == 11
    counts = [balanced(each) for each in (last, living)]
    assert sum(each.committed for each in counts) == 11
    assert sum(each.replayed for each in counts) == 10
    assert sum(each.duplicates for each in counts) == 0


def test_it_reconnects_by_itself_where_its_connection_was_cut(make_writer, other_connection):
    one = make_writer()
    for n in range(3):
        one.put(event(f"demo.n{n}"), durable=True)
        other_connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'controlplane writer' AND datname = current_database()"
        )

    assert actions() == ["demo.n0", "demo.n1", "demo.n2"]


def test_it_confirms_what_is_on_disk_whatever_the_logins_default(make_writer, other_connection):
    [(name, user)] = other_connection.execute("SELECT current_database(), current_user").fetchall()
    other_connection.execute(f'ALTER ROLE {user} IN DATABASE "{name}" SET synchronous_commit = off')
    try:
        one = make_writer()
        one.put(event("demo.done"), durable=True)
        with psycopg.connect(**connection.get_connection_params()) as usual:
            assert usual.execute("SHOW synchronous_commit").fetchone() == ("off",)
        assert one._own.connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    finally:
        other_connection.execute(f'ALTER ROLE {user} IN DATABASE "{name}" RESET synchronous_commit')


def test_on_an_event_loop_it_holds_nothing_up(make_writer, relay, acme, call):
    one = make_writer(most=20, patience=0.2)
    one.put(event("demo.first"), durable=True)
    relay.freeze()

    async def run():
        beats = 0

        async def beat():
            nonlocal beats
            while True:
                await asyncio.sleep(0.001)
                beats += 1

        beating = asyncio.create_task(beat())
        await asyncio.gather(*(one.aput(event(f"demo.n{n}")) for n in range(30)))
        with pytest.raises(AckTimeout):
            await one.aput(event("demo.late"), durable=True, timeout=0.05)
        relay.thaw()
        id = await one.aput(event("demo.sure"), durable=True, timeout=30)
        with pytest.raises(InvalidRow):
            await one.aput(event("demo.poison", outcome="none"), durable=True, timeout=30)
        beating.cancel()
        return beats, id

    beats, id = asyncio.run(run())

    assert beats > 50
    assert one.drain(30)
    assert AuditLog.objects.get(pk=id).action == "demo.sure"
    assert len(actions()) == 33


def test_the_managers_have_awaits(call):
    async def run():
        return [
            await AuditLog.objects.arecord_async("demo.soon"),
            await AuditLog.objects.arecord_durable("demo.sure", timeout=30),
            await InferenceRequest.objects.arecord_async(call("r-1")),
            await InferenceRequest.objects.arecord_durable(call("r-2"), timeout=30),
        ]

    ids = asyncio.run(run())
    assert writer.drain()

    assert set(AuditLog.objects.filter(action__startswith="demo.").values_list("pk", flat=True)) == set(ids[:2])
    assert set(InferenceRequest.objects.values_list("pk", flat=True)) == set(ids[2:])


def test_the_counters_add_up_under_load(make_writer, relay, call):
    one, stop, sums = make_writer(most=200, patience=0.005), threading.Event(), []

    def watch():
        while not stop.is_set():
            sums.append(balanced(one))

    def work(place):
        for n in range(150):
            one.put(event(f"demo.n{place}x{n}"))
            one.put(call(f"r-{place}-{n // 2}"))
            if n % 50 == 7:
                one.put(event("demo.poison", outcome="none"))

    watcher = threading.Thread(target=watch)
    workers = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in (watcher, *workers):
        thread.start()
    relay.cut()
    while one.stats().accepted < 500:
        pass
    relay.mend()
    for thread in workers:
        thread.join()
    assert one.drain(60)
    stop.set()
    watcher.join()

    found = balanced(one)
    assert found.accepted == 8 * (150 + 150 + 3)
    assert (found.queued, found.spooled, found.dead) == (0, 0, 8 * 3)
    assert AuditLog.objects.filter(action__startswith="demo.n").count() == 8 * 150
    assert InferenceRequest.objects.count() == 8 * 75
    assert found.committed >= 8 * 225
    assert len(sums) > 10


def test_at_the_end_what_a_silent_server_does_not_take_is_spooled(make_writer, relay, tmp_path):
    one, last = make_writer(), make_writer()
    one.put(event("demo.first"), durable=True)
    relay.freeze()
    for n in range(20):
        one.put(event(f"demo.n{n}"))

    one.close(0.2)

    assert one.stats().spooled == 20
    relay.thaw()
    one.stop(5)
    last.put(event("demo.last"), durable=True)
    assert last.drain(30)
    assert len(actions()) == 22


def test_the_end_without_a_spool_says_what_is_lost(make_writer, relay, caplog):
    one = make_writer(folder=None)
    relay.cut()
    for n in range(20):
        one.put(event(f"demo.n{n}"))

    one.close(0.2)

    assert "20 rows of the logs are lost" in caplog.text
    assert (balanced(one).lost, one.stats().dead) == (20, 20)


def test_a_damaged_file_of_the_spool_is_counted_and_the_rest_delivered(make_writer, relay, tmp_path):
    one = make_writer()
    relay.cut()
    for n in range(20):
        one.put(event(f"demo.n{n}"))
    while one.stats().spooled < 20:
        pass
    [file] = (tmp_path / "spool").iterdir()
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)
    relay.mend()

    assert one.drain(30)
    assert len(actions()) == 19
    found = balanced(one)
    assert (found.committed, found.lost, found.spooled, found.damaged) == (19, 1, 0, 1)


@pytest.mark.parametrize("timeout", [-1, 0, float("inf")])
def test_any_number_of_seconds_may_be_waited(make_writer, timeout):
    one = make_writer()
    try:
        one.put(event("demo.done"), durable=True, timeout=timeout)
    except AckTimeout:
        assert timeout <= 0
    assert one.drain(30)
    assert actions() == ["demo.done"]


@pytest.mark.parametrize("timeout", [None, "soon", float("nan")])
def test_a_time_that_is_none_is_refused_before_the_row_is_taken(make_writer, timeout):
    one = make_writer()
    with pytest.raises((TypeError, ValueError)):
        one.put(event("demo.done"), durable=True, timeout=timeout)
    assert one.stats().accepted == 0


def test_a_server_that_never_answers_is_given_up_and_nothing_is_lost(make_writer, relay):
    one = make_writer(silent=0.1)
    one.put(event("demo.first"), durable=True)
    relay.freeze()
    with pytest.raises(AckTimeout):
        one.put(event("demo.late"), durable=True, timeout=0.3)
    while not one.stats().away:
        pass
    relay.thaw()

    assert one.drain(30)
    assert actions() == ["demo.first", "demo.late"]


@pytest.mark.slow
def test_a_database_away_for_twenty_seconds_costs_little_memory_and_no_row(tmp_path_factory):
    found = away(20, tmp_path_factory.mktemp("a"))

    assert found.rows >= 15_000
    assert (found.stored, found.doubled) == (found.rows, 0)
    assert found.grown_mib <= 96
