from __future__ import annotations

import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest
from django.db import Error as DatabaseError
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditing import rollups
from auditing.errors import AuditingError
from auditing.models import InferenceRequest, IngestWatermark, UsageDay, UsageHour, UsageSummary, UsageZone
from controlplane.core import duties
from controlplane.core.ids import NIL, now, uuid7, uuid7_of
from tenants.scope import tenant_scope
from tests.auditing.counting import TABLES, check_rolled_up, rows_of, watermark
from tests.factories import InferenceRequestFactory
from tests.races import others_have_ended, together

pytestmark = pytest.mark.django_db(transaction=True)
requests = InferenceRequest.objects
BEGIN = now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
HOUR = timedelta(hours=1)


def roll_up():
    others_have_ended()
    while rollups.run(now()):
        pass


def request(tenant, at=BEGIN, zone="UTC", **values):
    local = at.astimezone(ZoneInfo(zone)).date()
    return InferenceRequestFactory.build(
        tenant_id=tenant, created_at=at, time_zone=zone, local_date=values.pop("local_date", local), **values
    )


def test_what_is_committed_is_rolled_up_once(acme):
    InferenceRequestFactory.create_batch(3, tenant_id=acme.pk, created_at=BEGIN)

    roll_up()
    assert check_rolled_up(acme.pk) == 3
    roll_up()
    assert check_rolled_up(acme.pk) == 3
    InferenceRequestFactory(tenant_id=acme.pk, created_at=BEGIN)
    roll_up()

    assert check_rolled_up(acme.pk) == 4
    assert UsageSummary.objects.get(tenant_id=acme.pk).requests == 4


def test_an_id_is_that_of_the_period_and_the_dimensions(acme):
    app, user = uuid7(), uuid7()
    InferenceRequestFactory(tenant_id=acme.pk, created_at=BEGIN + HOUR * 5, app_id=app, user_id=user, model="größe/ü")

    roll_up()

    names = b"openai\x00" + "größe/ü".encode()
    subjects = app.bytes + NIL.bytes + NIL.bytes
    assert UsageHour.objects.get().pk == uuid7_of(BEGIN + HOUR * 5, acme.pk.bytes + names)
    assert UsageDay.objects.get().pk == uuid7_of(BEGIN, acme.pk.bytes + subjects + names)
    assert UsageSummary.objects.get().pk == uuid7_of(BEGIN, acme.pk.bytes + subjects + user.bytes + names)


def test_days_and_months_are_the_tenants_and_hours_are_utc(acme):
    last = BEGIN + timedelta(days=31)
    late = last.replace(day=1) - timedelta(minutes=30)  # in India the month after has begun
    request(acme.pk, late, "Asia/Kolkata").save()

    roll_up()

    [hour], [day], [month] = UsageHour.objects.all(), UsageDay.objects.all(), UsageSummary.objects.all()
    assert (hour.hour, day.day, month.month) == (
        late - timedelta(minutes=30),
        last.date().replace(day=1),
        last.date().replace(day=1),
    )
    assert [(zone.time_zone, zone.first_on, zone.last_on) for zone in UsageZone.objects.all()] == [
        ("Asia/Kolkata", day.day, day.day)
    ]


def test_a_row_that_is_booked_later_counts_then(acme):
    booked = BEGIN + timedelta(days=3, hours=7, minutes=1)
    request(acme.pk, BEGIN, booked_at=booked, local_date=booked.date()).save()

    roll_up()

    assert check_rolled_up(acme.pk) == 1
    assert UsageHour.objects.get().hour == booked.replace(minute=0)


def test_the_month_of_an_old_hour_is_made(acme):
    from_2023 = datetime(2023, 5, 17, 12, tzinfo=UTC)
    usage = {
        "created_at": from_2023, "tenant_id": acme.pk, "provider": "azure", "model": "azure/gpt-4", "status": "completed",
        "request_id": "old", "prompt_tokens": 1, "completion_tokens": 1,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS cp_auditing_usagehour_202305")
        cursor.execute(
            "SELECT cp_partition_add('cp_auditing_inferencerequest', '2023-05-01', '{request_id, tenant_id}')"
        )
    assert requests.ingest([usage], historical=True).inserted == 1

    roll_up()

    assert check_rolled_up(acme.pk) == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('cp_auditing_usagehour_202305') IS NOT NULL")
        assert cursor.fetchone() == (True,)


def test_a_run_takes_so_many_rows_and_says_that_more_wait(acme, monkeypatch):
    monkeypatch.setattr(rollups, "ROWS", 4)
    roll_up()
    for _ in range(5):
        InferenceRequestFactory.create(tenant_id=acme.pk, created_at=BEGIN)
    InferenceRequest.objects.bulk_create(request(acme.pk) for _ in range(9))  # one transaction, larger than a run
    InferenceRequestFactory.create(tenant_id=acme.pk, created_at=BEGIN)
    others_have_ended()

    steps = []
    while rollups.run(now()):
        steps.append(check_rolled_up(acme.pk))

    assert steps == [4, 5, 14]
    assert check_rolled_up(acme.pk) == 15


def test_a_transaction_that_is_open_holds_what_came_after_it_and_nothing_is_missed(acme, other_connection):
    roll_up()
    with other_connection.transaction():
        other_connection.execute(*insert(request(acme.pk)))
        InferenceRequestFactory(tenant_id=acme.pk, created_at=BEGIN)
        roll_up()
        assert check_rolled_up(acme.pk) == 0
        assert requests.metrics(acme, BEGIN, BEGIN + HOUR).total_requests == 1

    roll_up()

    assert check_rolled_up(acme.pk) == 2


def insert(row):
    names = [field.column for field in InferenceRequest._meta.concrete_fields if field.name != "xid"]
    values = [getattr(row, name) for name in names]
    marks = ", ".join(["%s"] * len(names))
    return f"INSERT INTO cp_auditing_inferencerequest ({', '.join(names)}) VALUES ({marks})", values


def test_two_roll_ups_at_once_add_each_row_once(acme):
    for _ in range(20):
        InferenceRequestFactory(tenant_id=acme.pk, created_at=BEGIN)

    outcomes = together(*[roll_up] * 4)

    assert outcomes == [None] * 4
    assert check_rolled_up(acme.pk) == 20


class Killed(Exception):
    pass


def crash_at(number):
    """The backend of the roll-up is terminated before its statement of that number; True if it got so far."""
    count = 0

    def kill(execute, sql, params, many, context):
        nonlocal count
        count += 1
        if count == number:
            with psycopg.connect(**connection.get_connection_params(), autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])
        return execute(sql, params, many, context)

    try:
        with connection.execute_wrapper(kill):
            rollups.run(now())
    except DatabaseError:
        return True
    finally:
        connection.close()
    return False


def test_a_roll_up_that_is_killed_between_any_two_statements_adds_nothing(acme):
    roll_up()
    for _ in range(3):
        InferenceRequestFactory(tenant_id=acme.pk, created_at=BEGIN)
    before = watermark()
    others_have_ended()

    number = 1
    while crash_at(number):
        assert watermark() == before
        assert check_rolled_up(acme.pk) == 0
        number += 1

    assert number > 5
    assert check_rolled_up(acme.pk) == 3


def test_another_cluster_stops_the_roll_up(acme):
    roll_up()
    IngestWatermark.objects.update(system_identifier=1)

    with pytest.raises(Exception, match="restored from a dump") as caught:
        rollups.run(now())

    assert caught.value.code == "cluster_changed"


def test_a_tenant_sees_its_own_sums_alone(acme, globex):
    for tenant in (acme, globex):
        InferenceRequestFactory(tenant_id=tenant.pk, created_at=BEGIN)
    roll_up()

    with tenant_scope(acme):
        for model in (*TABLES, UsageZone):
            assert {row.tenant_id for row in model.objects.all()} == {acme.pk}
        assert [mark.name for mark in IngestWatermark.objects.all()] == ["rollup"]
        assert requests.metrics(acme, BEGIN, BEGIN + 24 * HOUR).total_requests == 1
        assert requests.metrics(globex, BEGIN, BEGIN + 24 * HOUR).total_requests == 0
        assert len(requests.totals(None, BEGIN, BEGIN + 24 * HOUR, by=("tenant",))) == 1


def test_the_roll_up_is_a_duty():
    [duty] = [duty for duty in duties.registered() if duty.name == "usage_rollup"]

    assert (duty.every_s, duty.run) == (5, rollups.run)


# --- whatever happens, and in whatever order

TENANTS = [uuid7(), uuid7()]
ZONES = ["UTC", "Asia/Kolkata", "America/New_York"]
places = st.integers(0, 11)
steps = st.one_of(
    st.tuples(st.just("finish"), st.sampled_from(["complete", "fail", "cancel", "nothing"]), places),
    st.tuples(st.just("ingest"), st.lists(places, min_size=1, max_size=6), st.booleans()),
    st.tuples(st.just("adjust"), places, st.sampled_from(["credit", "manual", "priced", "late_completion"])),
    st.tuples(st.just("lose"), places, st.booleans()),
    st.tuples(st.just("open"), st.lists(places, min_size=1, max_size=3), st.integers(0, 2)),
    st.tuples(st.just("close"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("roll up"), st.integers(1, 9), st.just(None)),
    st.tuples(st.just("crash"), st.integers(1, 9), st.just(None)),
)


class World:
    """A tenant of each example of its own, some transactions left open, and what was done so far."""

    def __init__(self):
        self.tenants = [uuid7(), uuid7()]
        self.serial = 0
        self.open = {}

    def row(self, place, **values):
        self.serial += 1
        at = BEGIN - timedelta(days=40) + timedelta(hours=31, minutes=7, microseconds=1) * place
        unpriced = place % 4 == 3
        return request(
            self.tenants[place % 2], at, ZONES[place % 3], request_id=f"{self.serial}", status="completed",
            app_id=UUID(int=7) if place % 2 else None, user_id=UUID(int=place % 3 + 1), model=f"m/{place % 2}",
            cost=None if unpriced else Decimal(place * self.serial) / 7**5, latency_ms=1 << place * 3 if place < 11 else None,
            pricing_status="unpriced" if unpriced else "estimated" if place % 5 == 4 else "priced", **values,
        )  # fmt: skip

    def finish(self, how, place):
        id = requests.start(
            tenant=self.tenants[place % 2], provider="openai", model=f"m/{place % 2}", time_zone=ZONES[place % 3]
        )
        if how == "complete":
            requests.complete(id, usage=SimpleNamespace(prompt_tokens=place, completion_tokens=3), latency_ms=place)
        elif how == "fail":
            requests.fail(id, error="away")
        elif how == "cancel":
            requests.cancel(id)

    def ingest(self, places, again):
        rows = [
            {
                "created_at": row.created_at, "tenant_id": row.tenant_id, "provider": row.provider, "model": row.model,
                "status": row.status, "request_id": row.request_id, "prompt_tokens": 5, "completion_tokens": 1,
            }
            for row in map(self.row, places)
        ]  # fmt: skip
        for _ in range(1 + again):
            requests.ingest(rows, historical=True)

    def adjust(self, place, code):
        found = rows_of(self.tenants)
        if found:
            with suppress(AuditingError):
                requests.adjust(
                    found[place % len(found)].pk, reason_code=code, reason="x", cost=Decimal("-1E-12"), key=str(place)
                )

    def lose(self, place, found):
        row = self.row(place)
        row.status, row.latency_ms = "lost", None
        row.save()
        if found:
            usage = SimpleNamespace(prompt_tokens=200, completion_tokens=30)
            cost = SimpleNamespace(total=Decimal("0.5"), status="priced", price_id=None, breakdown=None)
            requests.complete(row.pk, usage=usage, latency_ms=17, cost=cost)

    def open_(self, places, number):
        if number not in self.open:
            self.open[number] = psycopg.connect(**connection.get_connection_params())
        for place in places:
            self.open[number].execute(*insert(self.row(place)))

    def close(self, number, commit):
        opened = self.open.pop(number, None)
        if opened is not None:
            (opened.commit if commit else opened.rollback)()
            opened.close()

    def do(self, what, *how):
        if what == "roll up":
            rollups.run(now())
        elif what == "crash":
            crash_at(how[0])
        else:
            getattr(self, {"open": "open_"}.get(what, what))(*how)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(steps, min_size=3, max_size=14))
def test_roll_ups_are_what_the_requests_add_up_to_whatever_happened(everything):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT cp_partition_add('cp_auditing_inferencerequest', (%s::date - m * interval '1 month')::date, "
            "'{request_id, tenant_id}') FROM generate_series(1, 2) m",
            [BEGIN.date()],
        )
    world = World()
    try:
        roll_up()
        for what, *how in everything:
            world.do(what, *how)
            check_rolled_up(*world.tenants)
    finally:
        for number in list(world.open):
            world.close(number, commit=True)

    roll_up()

    assert check_rolled_up(*world.tenants) == len(rows_of(world.tenants))


def test_nothing_is_missed_or_doubled_while_six_write(acme):
    done = threading.Event()

    def write(seed):
        def run():
            for n in range(40):
                with transaction.atomic():
                    InferenceRequest.objects.bulk_create(
                        request(acme.pk, BEGIN + HOUR * (seed + n % 3)) for _ in range(n % 5 + 1)
                    )
                    if (n + seed) % 4 == 0:
                        transaction.set_rollback(True)

        return run

    def roll():
        while not done.is_set():
            rollups.run(now())

    def writers():
        try:
            return together(*(write(seed) for seed in range(6)))
        finally:
            done.set()

    written, rolled = together(writers, roll)
    assert (written, rolled) == ([None] * 6, None)
    roll_up()

    assert check_rolled_up(acme.pk) == len(rows_of([acme.pk])) > 400
