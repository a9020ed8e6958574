from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.db import connection, models, transaction
from psycopg.types.json import Jsonb

from auditing import merkle
from auditing.leaves import COLUMNS, leaf, netstring
from auditing.models import AuditLog, AuditSeal, InferenceRequest, UsageSummary
from auditing.sealing import Seal
from controlplane.core.ids import PLATFORM
from tests.factories import AuditLogFactory, AuditSealFactory, InferenceRequestFactory, UsageSummaryFactory

pytestmark = pytest.mark.django_db

MODELS = {"auditlog": AuditLog, "inferencerequest": InferenceRequest, "usagesummary": UsageSummary}
LOGS = list(MODELS)
ERASABLE = {"pii_salt", "ip", "user_agent", "actor_label"}
AT = datetime(2026, 11, 21, 21, 45, 0, 123456, tzinfo=UTC)
SOME = UUID("01a1fe0d-3d4a-7e31-abc7-a2a510cc05b3")
TEXTS = ["", "chat", "Grüße, 5:hallo,", "日本語 🚀", "a'b\"c\\d\n\t", "-,", "ı̇İ\u2028"]
DOCUMENTS = [None, {}, {"b": 1, "a": [1.50, None, True, "é\n🚀"], "": {}}, {"n": 12345678901234567890, "m": 1e-7}]


def made(log, chance):
    """A row of random values, all kinds of columns among them; instants of this month."""
    pick = chance.choice
    at = AT.replace(year=chance.randrange(2020, 2027), month=1) if log == "usagesummary" else AT
    at += timedelta(microseconds=chance.randrange(10**9))
    ids = [None, SOME, UUID(int=chance.getrandbits(128))]
    text, count, cost = (lambda: pick(TEXTS)), (lambda: pick([None, 0, 7, 2**31 - 1])), (lambda: pick(COSTS))
    if log == "auditlog":
        return AuditLogFactory(
            created_at=at, tenant_id=pick(ids[1:]), app_id=pick(ids), branch_id=pick(ids), user_id=pick(ids),
            api_key_id=pick(ids), actor_id=text(), actor_label=text(), actor_role=text(), action=text(),
            resource_type=text(), resource_id=text(), resource_label=text(), before=pick(DOCUMENTS), after=pick(DOCUMENTS),
            details=pick(DOCUMENTS), reason=text(), request_id=pick([None, *TEXTS]), ip=pick([None, "10.0.0.1", "::1"]),
            user_agent=text(), provider=text(), model=text(), prompt_tokens=count(), completion_tokens=count(), cost=cost(),
            latency_ms=count(),
        )  # fmt: skip
    if log == "inferencerequest":
        amount = cost()
        return InferenceRequestFactory(
            created_at=at, booked_at=pick([None, at, AT]), tenant_id=pick(ids[1:]), app_id=pick(ids), branch_id=pick(ids),
            user_id=pick(ids), api_key_id=pick(ids), provider=text(), model=text(), requested_model=pick([None, *TEXTS]),
            prompt_tokens=None, completion_tokens=None, cached_tokens=count(), reasoning_tokens=count(),
            other_units=pick(DOCUMENTS), cost=amount, pricing_status="unpriced" if amount is None else "priced",
            price_id=pick(ids), cost_breakdown=pick(DOCUMENTS), latency_ms=count(), ttft_ms=count(), stream=pick([True, False]),
            error_code=text(), error=text(), time_zone="Europe/Berlin", metadata=pick(DOCUMENTS),
        )  # fmt: skip
    return UsageSummaryFactory(
        month=at.date().replace(day=1), tenant_id=pick(ids[1:]), app_id=pick(ids[1:]), user_id=pick(ids[1:]),
        provider=text(), model=text(), requests=pick([0, -1, 2**63 - 1]), cost=pick([Decimal(-7), Decimal("1e25"), Decimal(0)]),
        latency_max_ms=count(), latency_hist=[chance.randrange(-5, 10**12) for _ in range(24)],
    )  # fmt: skip


COSTS = [None, Decimal(0), Decimal("0.000000000001"), Decimal("999999999999.999999999999"), Decimal("3.10")]


def values(row):
    """The values of a stored row as its leaf takes them: JSON as the server prints it."""
    log = row._meta.model_name
    documents = [field.column for field in row._meta.concrete_fields if isinstance(field, models.JSONField)]
    printed = {}
    if documents:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {', '.join(f'{name}::text' for name in documents)} FROM {row._meta.db_table} WHERE id = %s",
                [row.pk],
            )
            printed = dict(zip(documents, cursor.fetchone(), strict=True))
    stored = type(row).objects.get(pk=row.pk)
    return [printed[name] if name in printed else getattr(stored, name) for name in COLUMNS[log]]


def by_server(row):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT cp_leaf(r) FROM {row._meta.db_table} r WHERE id = %s", [row.pk])
        return bytes(cursor.fetchone()[0])


@pytest.mark.parametrize("log", LOGS)
def test_the_server_and_python_make_the_same_leaf_of_any_row(log):
    chance = random.Random(6)  # noqa: S311 - the same rows every time

    for _ in range(150):
        row = made(log, chance)
        assert by_server(row) == leaf(values(row)), row.__dict__


@pytest.mark.parametrize("log", LOGS)
def test_a_leaf_covers_every_column_but_the_number_of_the_transaction_and_what_may_be_erased(log):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            [MODELS[log]._meta.db_table],
        )
        columns = [name for (name,) in cursor.fetchall()]

    assert list(COLUMNS[log]) == [name for name in columns if name not in ERASABLE | {"xid"}]


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize(
    "setting",
    ["TimeZone TO 'Asia/Kathmandu'", "DateStyle TO 'German, DMY'", "bytea_output TO 'escape'", "search_path TO 'evil'"],
)
def test_a_leaf_depends_on_no_setting_of_the_session(log, setting):
    row = made(log, random.Random(1))  # noqa: S311
    before = by_server(row)
    table = MODELS[log]._meta.db_table

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA evil")
        cursor.execute("CREATE FUNCTION evil.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT '\\x00'::bytea $$")
        cursor.execute("CREATE FUNCTION evil.cp_netstring(text) RETURNS text LANGUAGE sql AS $$ SELECT ''::text $$")
        cursor.execute(f"SET LOCAL {setting}")
        cursor.execute(
            f"SELECT public.cp_leaf(r), public.cp_merkle_root(ARRAY['a', 'b']::bytea[]) FROM public.{table} r"
        )
        [[after, root]] = cursor.fetchall()

    assert bytes(after) == before
    assert bytes(root) == merkle.root([b"a", b"b"])


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("timestamptz 'infinity'", "8:Infinity,"),
        ("timestamptz '9999-12-31 23:59:59.999999Z'", "18:253402300799999999,"),
        ("timestamptz '2286-11-20 17:46:39.999999Z'", "16:9999999999999999,"),
        ("timestamptz '2286-11-20 17:46:40Z'", "17:10000000000000000,"),
        ("timestamptz '2001-09-09 01:46:40Z'", "16:1000000000000000,"),
        ("timestamptz '2001-09-09 01:46:39.999999Z'", "15:999999999999999,"),
        ("timestamptz '1969-12-31 23:59:59.999999Z'", "2:-1,"),
        ("NULL::timestamptz", "-,"),
        ("date 'infinity'", "-,"),
        ("date '9999-12-31'", "10:9999-12-31,"),
        ("date '10000-01-01'", "11:10000-01-01,"),
        ("date '0044-03-15'", "10:0044-03-15,"),
        ("NULL::date", "-,"),
        ("NULL::boolean", "-,"),
        ("NULL::bytea", "-,"),
        ("NULL::uuid", "-,"),
    ],
)
def test_an_instant_at_the_end_of_time_does_not_stop_sealing(value, written):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT cp_netstring({value})")
        assert cursor.fetchone() == (written,)


def test_values_are_written_in_one_way_each():
    assert [
        netstring(value)
        for value in (None, "", "é", True, False, 7, -1, Decimal("-3.1"), SOME, AT, AT.date(), b"\x00\xff", [1, 2])
    ] == [
        b"-,", b"0:,", "2:é,".encode(), b"1:t,", b"1:f,", b"1:7,", b"2:-1,", b"15:-3.100000000000,",
        b"36:01a1fe0d-3d4a-7e31-abc7-a2a510cc05b3,", b"16:1795297500123456,", b"10:2026-11-21,", b"4:00ff,", b"5:{1,2},",
    ]  # fmt: skip


def test_where_a_value_ends_cannot_be_confused():
    assert leaf(["a", "bc"]) != leaf(["ab", "c"]) != leaf(["abc", ""])
    assert leaf([None]) != leaf([""]) != leaf(["-,"])


# --- leaves of fixed rows: a change of the format is a new schema

IDS = {"id": "01a1fe0d-3d4a-7e31-abc7-a2a510cc05b3", "tenant_id": "00000000-0000-7000-8000-00000000000a"}
FIXED = {
    "auditlog": {
        **IDS, "created_at": "2026-11-21T21:45:00.123456Z", "actor_type": "operator", "actor_id": "7", "actor_label": "ada",
        "actor_role": "owner", "action": "update", "resource_type": "cp_tenants_app", "resource_id": "é", "resource_label": "",
        "outcome": "success", "before": {"name": "Chat"}, "after": {"name": "Grüße", "b": [1, None]}, "reason": "because",
        "ip": "10.0.0.1", "user_agent": "curl", "pii_salt": "\\x00", "pii_commit": "\\x01ff", "provider": "", "model": "",
        "cost": 0.25, "schema": 1, "xid": 7,
    },
    "inferencerequest": {
        **IDS, "created_at": "2026-11-21T21:45:00.123456Z", "request_id": "r-1", "provider": "openai", "model": "openai/gpt-4o",
        "status": "completed", "prompt_tokens": 100, "completion_tokens": 20, "cost": 0.001, "pricing_status": "priced",
        "cost_breakdown": {"prompt": "0.001"}, "latency_ms": 800, "stream": True, "error_code": "", "error": "",
        "reason_code": "", "reason": "", "time_zone": "Europe/Berlin", "local_date": "2026-11-21", "source": "gate",
        "metadata": {"team": "search", "a": "🚀"}, "schema": 1, "xid": 7,
    },
    "usagesummary": {
        **IDS, "requests": 2, "completed": 2, "failed": 0, "cancelled": 0, "lost": 0, "unpriced": 0, "estimated": 0,
        "adjustments": 1, "prompt_tokens": 200, "completion_tokens": 40, "cached_tokens": 0, "cache_write_tokens": 0,
        "reasoning_tokens": 0, "cost": -0.5, "estimated_cost": 0, "latency_n": 2, "latency_sum_ms": 1600, "latency_max_ms": 800,
        "latency_hist": [0, 2, 0], "month": "2026-11-01", "provider": "openai", "model": "openai/gpt-4o",
        **dict.fromkeys(["app_id", "branch_id", "api_key_id", "user_id"], str(PLATFORM)),
    },
}  # fmt: skip
GOLDEN = {
    "auditlog": "491b7a227d8800611848a779704506a224eae29515220a305b3a6af8d60f752a",
    "inferencerequest": "8aa64ee7282d37acd8a9c5c2e2659c0b2f4268107900b2ea3c0336646a41e4bd",
    "usagesummary": "9f88f00d602d1969786b9b8313ce4da7607a57cda7fb9d94141b48edfd5cb681",
}


@pytest.mark.parametrize("log", LOGS)
def test_leaves_stay_what_they_are(log):
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT cp_leaf(jsonb_populate_record(NULL::{MODELS[log]._meta.db_table}, %s))", [Jsonb(FIXED[log])]
        )
        assert bytes(cursor.fetchone()[0]).hex() == GOLDEN[log]


SEAL = Seal(
    "rows", "auditlog", SOME, date(2026, 11, 1), 3, PLATFORM, 3, 900, PLATFORM, SOME, 2, b"\x01" * 32, b"\x02" * 32, 1, AT
)  # fmt: skip


def test_the_hash_of_a_seal_stays_what_it_is():
    assert SEAL.hash.hex() == "76577690d1412b8d9ceb65878ec92e044c714604a4b507de752118ba5585453a"


def test_the_server_and_python_make_the_same_hash_of_a_seal():
    names = [field.attname for field in AuditSeal._meta.concrete_fields if field.attname not in {"id", "hash"}]
    row = AuditSealFactory(**{name: getattr(SEAL, name) for name in names})

    with connection.cursor() as cursor:
        cursor.execute("SELECT cp_seal_hash(s) FROM cp_auditing_auditseal s WHERE id = %s", [row.pk])
        assert bytes(cursor.fetchone()[0]) == SEAL.hash
    assert names == list(Seal.__dataclass_fields__)
