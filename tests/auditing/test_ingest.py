from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditing.directory import OpenDirectory, TenantFacts
from auditing.errors import AuditUnavailable
from auditing.models import DeadLetter, InferenceRequest
from controlplane.core.ids import now, uuid7, uuid7_of
from tenants import tokens
from tests.factories import TenantFactory
from tests.races import together

requests = InferenceRequest.objects
PRESENT = now().replace(microsecond=0)


@pytest.fixture
def row(acme):
    def make(request_id="r-1", **fields):
        return {
            "request_id": request_id, "created_at": PRESENT - timedelta(hours=1), "tenant_id": acme.pk,
            "provider": "openai", "model": "openai/gpt-4o", "prompt_tokens": 100, "completion_tokens": 20,
            "cost": Decimal("0.01"), **fields,
        }  # fmt: skip

    return make


def counts(result):
    assert result.read == result.inserted + result.duplicates + result.rejected
    return result.inserted, result.duplicates, result.rejected


def test_a_row_becomes_a_fact(acme, row):
    app, user, key, price = (uuid7() for _ in range(4))
    given = row(
        app_id=app, user_id=str(user), api_key_id=key, price_id=price, requested_model="gpt-4o", status="failed",
        cached_tokens=10, cache_write_tokens=5, reasoning_tokens=3, other_units={"images": 1}, cost_breakdown={"input": "0.01"},
        latency_ms=5, ttft_ms=1, stream=True, error_code="timeout", error="too late", metadata={"trace": "t"},
    )  # fmt: skip

    assert counts(requests.ingest([given])) == (1, 0, 0)

    fact = requests.order_by("id").get()
    for name, value in given.items():
        assert getattr(fact, name) == (user if name == "user_id" else value), name
    assert fact.pk == uuid7_of(given["created_at"], acme.pk.bytes + b"\x00" + b"r-1")
    assert (fact.pricing_status, fact.source, fact.time_zone) == ("priced", "ingest", "Europe/Berlin")


def test_what_a_row_does_not_say_is_unknown(acme, row):
    bare = {name: row()[name] for name in ("request_id", "created_at", "tenant_id", "provider", "model")}

    assert counts(requests.ingest([bare])) == (1, 0, 0)

    fact = requests.order_by("id").get()
    assert (fact.status, fact.cost, fact.pricing_status, fact.prompt_tokens) == ("completed", None, "unpriced", None)


def test_a_time_of_another_zone_is_the_same_instant(row):
    at = (PRESENT - timedelta(hours=1)).astimezone(timezone(timedelta(hours=-7)))

    assert counts(requests.ingest([row(), row(created_at=at)])) == (1, 1, 0)


# --- every rejection

OLD = PRESENT - timedelta(days=36)
REJECTED = [
    ("missing_field", "request_id", {"request_id": None}),
    ("missing_field", "request_id", {"request_id": ""}),
    ("missing_field", "created_at", {"created_at": None}),
    ("missing_field", "tenant_id", {"tenant_id": None}),
    ("missing_field", "provider", {"provider": ""}),
    ("missing_field", "model", {"model": None}),
    ("unknown_field", "colour", {"colour": "red"}),
    ("unknown_field", "id", {"id": uuid7()}),
    ("unknown_field", "a�b", {"a\x00b": 1}),
    ("unknown_field", "�", {"\ud800": 1}),
    ("unknown_field", "5", {5: 1}),
    ("wrong_type", "request_id", {"request_id": 5}),
    ("wrong_type", "tenant_id", {"tenant_id": "no id"}),
    ("wrong_type", "tenant_id", {"tenant_id": 5}),
    ("wrong_type", "tenant_id", {"tenant_id": ["x"]}),
    ("wrong_type", "app_id", {"app_id": "no id"}),
    ("wrong_type", "prompt_tokens", {"prompt_tokens": True}),
    ("wrong_type", "prompt_tokens", {"prompt_tokens": 1.0}),
    ("wrong_type", "prompt_tokens", {"prompt_tokens": "100"}),
    ("wrong_type", "cost", {"cost": 0.01}),
    ("wrong_type", "cost", {"cost": "0.01"}),
    ("wrong_type", "cost", {"cost": True}),
    ("wrong_type", "created_at", {"created_at": "2026-01-01"}),
    ("wrong_type", "created_at", {"created_at": PRESENT.date()}),
    ("wrong_type", "stream", {"stream": "yes"}),
    ("wrong_type", "stream", {"stream": 1}),
    ("wrong_type", "metadata", {"metadata": [1]}),
    ("wrong_type", "metadata", {"metadata": {"a": object()}}),
    ("wrong_type", "error", {"error": {"a": 1}}),
    ("out_of_range", "prompt_tokens", {"prompt_tokens": 2**31}),
    ("out_of_range", "cost", {"cost": Decimal(10) ** 12}),
    ("out_of_range", "created_at", {"created_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))}),
    ("negative", "prompt_tokens", {"prompt_tokens": -1}),
    ("negative", "latency_ms", {"latency_ms": -1}),
    ("negative", "cost", {"cost": Decimal("-0.01")}),
    ("not_a_number", "cost", {"cost": Decimal("NaN")}),
    ("not_a_number", "cost", {"cost": Decimal("sNaN")}),
    ("not_a_number", "cost", {"cost": Decimal("-Infinity")}),
    ("not_a_number", "metadata", {"metadata": {"a": float("nan")}}),
    ("not_a_number", "metadata", {"metadata": {"a": Decimal("sNaN")}}),
    ("parts_exceed_total", "prompt_tokens", {"cached_tokens": 101}),
    ("parts_exceed_total", "prompt_tokens", {"cached_tokens": 60, "cache_write_tokens": 41}),
    ("parts_exceed_total", "completion_tokens", {"reasoning_tokens": 21}),
    ("invalid_status", "status", {"status": "pending"}),
    ("invalid_status", "status", {"status": ""}),
    ("invalid_status", "status", {"status": ["completed"]}),
    ("unknown_tenant", "tenant_id", {"tenant_id": uuid7()}),
    ("naive_datetime", "created_at", {"created_at": PRESENT.replace(tzinfo=None)}),
    ("created_at_in_future", "created_at", {"created_at": PRESENT + timedelta(minutes=20)}),
    ("created_at_too_old", "created_at", {"created_at": OLD}),
    ("nul_character", "model", {"model": "a\x00"}),
    ("nul_character", "metadata", {"metadata": {"a": ["\x00"]}}),
    ("invalid_utf8", "request_id", {"request_id": "a\udcff"}),
    ("invalid_utf8", "metadata", {"metadata": {"\ud800": 1}}),
    ("too_large", "request_id", {"request_id": "x" * 201}),
    ("too_large", "model", {"model": "x" * 266}),
    ("too_large", "error", {"error": "x" * 2001}),
    ("too_large", "metadata", {"metadata": {"a": "é" * 2048}}),
    ("too_large", "cost_breakdown", {"cost_breakdown": {"a": "x" * 512}}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "field", "fields"), REJECTED, ids=[f"{code}-{n}" for n, (code, _, _) in enumerate(REJECTED)]
)
def test_a_row_that_cannot_be_is_refused_by_code_and_the_others_are_written(row, code, field, fields):
    result = requests.ingest([row("before"), row() | fields, row("after")])

    assert counts(result) == (2, 0, 1)
    [rejection] = result.rejections
    assert (rejection.row, rejection.code, rejection.field.encode("utf-8", "replace")) == (
        2, code, str(next(iter(fields)) if code == "unknown_field" else field).encode("utf-8", "replace"),
    )  # fmt: skip
    letter = DeadLetter.objects.get()
    assert (letter.row_number, letter.code, letter.field, letter.source) == (2, code, field, "ingest")
    assert letter.payload_bytes == len(letter.payload)
    assert set(requests.values_list("request_id", flat=True)) == {"before", "after"}


def test_a_refused_row_is_kept_whole_without_secrets(acme, row):
    token = tokens.new_key("live").token
    requests.ingest([row(metadata={"note": token}, error=f"Bearer {token}", status=f"bad {token}")])

    letter = DeadLetter.objects.get()
    payload = json.loads(bytes(letter.payload))
    assert (letter.tenant_id, letter.request_id) == (acme.pk, "r-1")
    assert (payload["provider"], payload["prompt_tokens"], payload["cost"]) == ("openai", 100, "0.01")
    assert token[22:] not in bytes(letter.payload).decode() + letter.message


def test_what_the_numbers_of_a_file_are_in_metadata_is_kept(row):
    requests.ingest([row(metadata={"n": Decimal("0.5"), "whole": Decimal("3"), "deep": [Decimal("1e2")]})])

    assert requests.order_by("id").get().metadata == {"n": 0.5, "whole": 3, "deep": [100]}


def test_history_goes_back_to_2020_if_it_is_said(row):
    ancient, before = (
        row("a", created_at=datetime(2020, 1, 1, tzinfo=UTC)),
        row("b", created_at=datetime(2019, 12, 31, 23, 59, tzinfo=UTC)),
    )

    result = requests.ingest([ancient, before], historical=True)

    assert counts(result) == (1, 0, 1)
    assert result.rejections[0].code == "created_at_too_old"


def test_only_the_first_thousand_rejections_are_told_and_all_are_counted_and_kept(row):
    result = requests.ingest((row(str(n), prompt_tokens=-1) for n in range(1005)), batch_size=400)

    assert counts(result) == (0, 0, 1005)
    assert [rejection.row for rejection in result.rejections] == list(range(1, 1001))
    assert DeadLetter.objects.count() == 1005


# --- duplicates


def test_the_same_row_twice_is_one_fact_wherever_it_comes_again(row):
    assert counts(requests.ingest([row(), row(), row("r-2"), row()])) == (2, 2, 0)
    assert counts(requests.ingest([row()])) == (0, 1, 0)
    assert requests.order_by("id").count() == 2


@pytest.mark.parametrize(
    "fields",
    [{"model": "openai/other"}, {"status": "failed"}, {"prompt_tokens": 99}, {"completion_tokens": None}, {"cost": None},
     {"cost": Decimal("0.02")}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("batch_size", [1, 10])
def test_another_row_of_the_same_request_is_refused_and_the_first_stays(row, fields, batch_size):
    result = requests.ingest([row(), row(**fields), row()], batch_size=batch_size)

    assert counts(result) == (1, 1, 1)
    assert (result.rejections[0].row, result.rejections[0].code) == (2, "conflicting_duplicate")
    assert DeadLetter.objects.get().code == "conflicting_duplicate"
    assert requests.order_by("id").get().cost == Decimal("0.01")


def test_what_differs_in_passing_is_the_same_request(row):
    assert counts(requests.ingest([row(), row(latency_ms=5, metadata={"try": 2}, cost=Decimal("0.0100"))])) == (1, 1, 0)


def test_a_retry_at_another_time_is_the_same_request(row):
    later = PRESENT - timedelta(minutes=1)

    assert counts(requests.ingest([row(), row(created_at=later)])) == (1, 1, 0)
    assert counts(requests.ingest([row(created_at=later - timedelta(minutes=5))])) == (0, 1, 0)


def test_the_same_request_id_of_two_tenants_is_two(row):
    globex = TenantFactory(slug="globex")

    assert counts(requests.ingest([row(), row(tenant_id=globex.pk)])) == (2, 0, 0)


def test_importing_a_file_again_keeps_its_refused_rows_once(row):
    rows = [row(), row("bad", prompt_tokens=-1)]
    for expected in ((1, 0, 1), (0, 1, 1)):
        assert counts(requests.ingest(rows, origin="usage.csv")) == expected

    assert DeadLetter.objects.get().source == "usage.csv"


# --- the border of months

MARCH = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize("first_is_earlier", [True, False])
def test_a_retry_over_a_months_border_is_the_same_request(row, batch_size, first_is_earlier):
    pair = [row(created_at=MARCH - timedelta(seconds=1)), row(created_at=MARCH + timedelta(seconds=1))]

    result = requests.ingest(pair if first_is_earlier else pair[::-1], historical=True, batch_size=batch_size)

    assert counts(result) == (1, 1, 0)


@pytest.mark.parametrize("batch_size", [1, 10])
def test_another_call_by_the_same_id_over_the_border_is_refused(row, batch_size):
    pair = [row(created_at=MARCH - timedelta(hours=1)), row(created_at=MARCH, prompt_tokens=5)]

    result = requests.ingest(pair, historical=True, batch_size=batch_size)

    assert counts(result) == (1, 0, 1)
    assert result.rejections[0].code == "conflicting_duplicate"


@pytest.mark.parametrize("batch_size", [1, 10])
def test_the_same_id_long_after_is_another_request(row, batch_size):
    pair = [row(created_at=MARCH - timedelta(days=10)), row(created_at=MARCH + timedelta(minutes=1))]
    far = [row("x", created_at=MARCH - timedelta(days=40)), row("x", created_at=MARCH + timedelta(days=40))]

    assert counts(requests.ingest([*pair, *far], historical=True, batch_size=batch_size)) == (4, 0, 0)


def test_the_first_and_last_moment_of_a_month_are_in_it(row):
    edges = [
        row("first", created_at=MARCH),
        row("last", created_at=datetime(2026, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ]

    assert counts(requests.ingest(edges, historical=True)) == (2, 0, 0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cp_auditing_inferencerequest_202603")
        assert cursor.fetchone() == (2,)


@pytest.mark.django_db(transaction=True)
def test_two_imports_at_once_over_the_border_make_one_fact(row):
    pair = [row(created_at=MARCH - timedelta(seconds=1)), row(created_at=MARCH + timedelta(seconds=1))]
    requests.ingest([row("x", created_at=MARCH), row("y", created_at=MARCH - timedelta(days=1))], historical=True)

    outcomes = together(*(lambda one=one: requests.ingest([one], historical=True) for one in pair))

    assert sorted(counts(outcome) for outcome in outcomes) == [(0, 1, 0), (1, 0, 0)]
    assert requests.filter(request_id="r-1").order_by("id").count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_same_file_twice_at_once_is_written_once(row):
    rows = [row(str(n)) for n in range(200)]

    outcomes = together(*(lambda: requests.ingest(rows, batch_size=50) for _ in range(2)))

    assert sum(outcome.inserted for outcome in outcomes) == 200
    assert sum(outcome.duplicates for outcome in outcomes) == 200
    assert requests.order_by("id").count() == 200


# --- what only the database refuses


@pytest.fixture
def picky_database(db):
    """A database with a rule of its own: no model may be called "refused"."""
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE cp_auditing_inferencerequest ADD CONSTRAINT not_refused CHECK (model <> 'refused') NOT VALID"
        )


@pytest.mark.parametrize("bad", [{0}, {6}, {3}, {0, 6}, {2, 3}, set(range(7)), set()], ids=str)
def test_a_row_that_only_the_database_refuses_is_found_by_halving(picky_database, row, bad):
    rows = [row(str(n), model="refused" if n in bad else "openai/gpt-4o") for n in range(7)]

    result = requests.ingest(rows)

    assert counts(result) == (7 - len(bad), 0, len(bad))
    assert [(rejection.row, rejection.code) for rejection in result.rejections] == [
        (n + 1, "database_refused") for n in sorted(bad)
    ]
    assert all("23514" in letter.message for letter in DeadLetter.objects.all())
    assert set(requests.values_list("request_id", flat=True)) == {str(n) for n in range(7) if n not in bad}


def test_duplicates_beside_a_refused_row_are_still_told_apart(picky_database, row):
    rows = [row("a"), row("a"), row("b", model="refused"), row("a", prompt_tokens=1), row("c")]

    result = requests.ingest(rows)

    assert counts(result) == (2, 1, 2)
    assert [(r.row, r.code) for r in result.rejections] == [(3, "database_refused"), (4, "conflicting_duplicate")]


def test_a_number_that_json_spells_out_over_its_size_is_refused_by_the_database(row):
    result = requests.ingest([row("a"), row("b", metadata={"n": [1e300] * 20}), row("c")])

    assert counts(result) == (2, 0, 1)
    assert result.rejections[0].code == "database_refused"


def stored():
    columns = [field.attname for field in InferenceRequest._meta.concrete_fields if field.attname != "xid"]
    return {row[0]: row for row in requests.values_list(*columns)}


AWKWARD = [
    {}, {"request_id": "tab\there, new\nline, back\\slash, \\N, \r"}, {"model": "日本/é"}, {"status": "failed", "cost": None},
    {"error": "a\tb\\N\r\n", "error_code": "\\."}, {"metadata": {"tab\t": "\\ \" é", "n": [1.5, True, None]}},
    {"cost": Decimal("1E-12"), "cost_breakdown": {"input": "0.5", "\"": "\\"}}, {"cost": None, "price_id": uuid7()},
    {"cost": 7}, {"prompt_tokens": None}, {"stream": True}, {"requested_model": "openai/gpt-4o"}, {"requested_model": "g"},
    {"app_id": str(uuid7())}, {"created_at": PRESENT.astimezone(timezone(timedelta(hours=-7)))}, {"provider": "\\."},
]  # fmt: skip


def test_rows_are_the_same_whether_the_log_takes_them_at_once_or_beside_known_ones(row):
    rows = [{**row(f"r-{n}"), **fields} for n, fields in enumerate(AWKWARD)]
    with transaction.atomic():
        assert counts(requests.ingest(rows)) == (len(rows), 0, 0)
        at_once = stored()
        transaction.set_rollback(True)

    with transaction.atomic():
        assert counts(requests.ingest([*rows, rows[0]])) == (len(rows), 1, 0)
        beside = stored()
        transaction.set_rollback(True)
    for one in rows:  # nothing to be written once, nothing to share a statement with
        requests.ingest([one])

    assert at_once == beside == stored()
    assert {given["request_id"] for given in rows} == set(requests.values_list("request_id", flat=True))


def test_only_where_rows_are_known_are_batches_looked_through(row):
    known = [row(str(n)) for n in range(10)]
    requests.ingest(known)

    with CaptureQueriesContext(connection) as queries:
        result = requests.ingest([*known, *(row(str(n)) for n in range(10, 40))], batch_size=10)

    assert counts(result) == (30, 10, 0)
    assert sum("CREATE TEMPORARY" in query["sql"] for query in queries) == 2  # and of the one after them


# --- batches


def test_progress_is_told_by_rows_read(row):
    told = []

    requests.ingest((row(str(n)) for n in range(7)), batch_size=3, progress=told.append)

    assert told == [3, 6, 7]


def test_no_more_than_a_batch_is_taken_from_the_source(row):
    taken = []

    def source():
        for n in range(10):
            taken.append(n)
            yield row(str(n))

    requests.ingest(source(), batch_size=4, progress=lambda read: held.append(len(taken) - read))

    assert held == [0, 0, 0]


held: list[int] = []


def test_nothing_is_nothing(db):
    assert counts(requests.ingest([])) == (0, 0, 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("in_copy", [False, True], ids=["between batches", "while copying"])
def test_a_lost_connection_is_told_with_the_result_so_far_and_running_again_completes(row, other_connection, in_copy):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    if in_copy:
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE FUNCTION cp_unplug() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.request_id = '15' "
                "THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NEW; END $$; "
                "CREATE TRIGGER cp_unplug BEFORE INSERT ON cp_auditing_inferencerequest FOR EACH ROW EXECUTE FUNCTION cp_unplug()"
            )

    def source():
        for n in range(30):
            if n == 15 and not in_copy:
                other_connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            yield row(str(n))

    try:
        with pytest.raises(AuditUnavailable) as caught:
            requests.ingest(source(), batch_size=10)
    finally:
        other_connection.execute("DROP FUNCTION IF EXISTS cp_unplug CASCADE")

    assert caught.value.code == "audit_unavailable"
    assert counts(caught.value.result) == (10, 0, 0)
    assert requests.order_by("id").count() == 10
    assert counts(requests.ingest((row(str(n)) for n in range(30)), batch_size=10)) == (20, 10, 0)
    assert requests.order_by("id").count() == 30


def test_a_source_that_fails_keeps_whole_batches_only(row):
    def source():
        for n in range(5):
            yield row(str(n))
        raise RuntimeError("the file ended")

    with pytest.raises(RuntimeError), transaction.atomic():
        requests.ingest(source(), batch_size=2)

    assert requests.order_by("id").count() == 0  # inside the caller's transaction; on their own, batches stay


def test_the_ingest_of_a_batch_takes_few_statements(row, django_assert_max_num_queries):
    rows = [row(str(n)) for n in range(500)]

    with django_assert_max_num_queries(14):
        requests.ingest(rows)


# --- totals always add up

noise = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2**33), st.text(max_size=5), st.floats(), st.decimals(), st.binary(max_size=3),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.text(max_size=3) | st.floats(), max_size=2),
    st.datetimes(), st.datetimes(timezones=st.timezones()), st.uuids(),
)  # fmt: skip
FIELD_NAMES = [
    "request_id", "created_at", "tenant_id", "app_id", "provider", "model", "requested_model", "status", "prompt_tokens",
    "completion_tokens", "cached_tokens", "reasoning_tokens", "other_units", "cost", "cost_breakdown", "latency_ms",
    "stream", "error", "metadata", "extra",
]  # fmt: skip
changes = st.dictionaries(st.sampled_from(FIELD_NAMES), noise, max_size=2)


@pytest.mark.django_db
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), changes), max_size=12), st.integers(1, 5))
def test_whatever_comes_every_row_is_accounted_for(acme, row, plan, batch_size):
    with transaction.atomic():
        before = requests.order_by("id").count()
        result = requests.ingest([{**row(f"r-{n}"), **spoilt} for n, spoilt in plan], batch_size=batch_size)

        assert result.read == len(plan)
        assert result.inserted == requests.order_by("id").count() - before
        assert len(result.rejections) == result.rejected
        assert DeadLetter.objects.count() <= result.rejected
        transaction.set_rollback(True)


def test_a_tenant_whose_time_zone_nobody_knows_is_named(settings, acme, row):
    class Directory(OpenDirectory):
        def tenants(self, ids):
            return {id: TenantFacts(id, time_zone="Mars/Phobos") for id in ids}

    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "AUDIT_DIRECTORY": Directory()}

    result = requests.ingest([row()])

    assert counts(result) == (0, 0, 1)
    [why] = result.rejections
    assert (why.code, why.field) == ("unknown_time_zone", "tenant_id")
