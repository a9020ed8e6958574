from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    connection,
    transaction,
)
from django.test import RequestFactory

from auditing.context import Actor, audit_context
from storage_meta import trail
from storage_meta.errors import (
    AccessDenied,
    InvalidArgument,
    NoSuchKey,
    StorageError,
    StorageUnavailable,
    TenantRequired,
)
from storage_meta.models import StorageAudit, StorageObject
from tenants.models import Tenant
from tenants.scope import tenant_scope
from tests.factories import UserFactory

SECRET = "sk-" + "a1" * 12


def write(files, rows, action="s3:PutObject", record_type="CREATE"):
    with connection.cursor() as cursor:
        trail.write(cursor, files, action, record_type, rows)


def of(files):
    return list(StorageAudit.objects.for_tenant(files.tenant).order_by("id"))


def ended(files, error, key="a", **more):
    with (
        pytest.raises((StorageError, DatabaseError)) as raised,
        trail.asked(files, "s3:GetObject", "READ", key, **more),
    ):
        raise error
    return raised.value


@pytest.mark.parametrize("tenant", [None, "acme", 7, Tenant(slug="new")])
def test_a_handle_needs_a_stored_tenant(db, tenant):
    with pytest.raises(TenantRequired, match="tenant"):
        StorageObject.objects.for_tenant(tenant)


def test_a_handle_takes_neither_policies_of_another_tenant_nor_a_request_that_is_none(acme, globex):
    class Theirs:
        tenant_id = globex.pk

    with pytest.raises(InvalidArgument, match="another tenant"):
        StorageObject.objects.for_tenant(acme, effective=Theirs())
    with pytest.raises(InvalidArgument, match="request"):
        StorageObject.objects.for_tenant(acme, request="GET /")


def test_a_row_says_who_asked_by_the_handle(acme, docs):
    user = UserFactory(tenant=acme)
    request = RequestFactory().get("/", headers={"User-Agent": "curl/8"}, REMOTE_ADDR="203.0.113.7")
    request.user, request.request_id = user, "r-1"
    files = StorageObject.objects.for_tenant(acme, request=request).bucket("docs")

    write(files, [{"object_key": "a", "version_id": "null", "size": 3, "etag": "e", "sequencer": "0" * 16}])

    [row] = of(files)
    assert (row.actor_type, row.actor_id, row.actor_name) == ("user", str(user.pk), user.get_username())
    assert (row.source_ip, row.user_agent, row.request_id) == ("203.0.113.7", "curl/8", "r-1")
    assert (row.action, row.record_type, row.bucket, row.object_key) == ("s3:PutObject", "CREATE", "docs", "a")
    assert (row.version_id, row.size, row.etag, row.sequencer, row.success) == ("null", 3, "e", "0" * 16, True)


def test_a_stranger_is_anonymous_and_a_named_actor_wins_over_the_request(acme):
    request = RequestFactory().get("/")
    request.user = AnonymousUser()

    assert StorageObject.objects.for_tenant(acme, request=request).actor == Actor("anonymous")
    assert StorageObject.objects.for_tenant(acme, actor="job", request=request).actor == Actor("system", "job", "job")


def test_without_actor_and_request_the_open_context_says_who(docs):
    with audit_context(
        actor=Actor("command", "storage_put", "ann"), request_id="r-2", ip="2001:db8::1", user_agent="x"
    ):
        write(docs, [{"object_key": "a"}])
    write(docs, [{"object_key": "b"}])

    told, untold = of(docs)
    assert (told.actor_type, told.actor_id, told.actor_name) == ("command", "storage_put", "ann")
    assert (told.source_ip, told.user_agent, told.request_id) == ("2001:db8::1", "x", "r-2")
    assert (untold.actor_type, untold.actor_id, untold.source_ip) == ("system", "", None)


def test_many_rows_are_one_statement_in_their_order(docs, django_assert_num_queries):
    keys = [f"k{n:04}" for n in range(5000)]

    with django_assert_num_queries(1):
        write(docs, [{"object_key": key, "size": 2**40, "metadata": {"n": 1}, "bucket": "other"} for key in keys])

    rows = of(docs)
    assert [row.object_key for row in rows] == keys
    assert {row.created_at for row in rows} == {rows[0].created_at}
    assert (rows[0].bucket, rows[0].size, rows[0].metadata) == ("other", 2**40, {"n": 1})


def test_nothing_done_is_no_row(docs, django_assert_num_queries):
    with django_assert_num_queries(0):
        write(docs, [])


def test_texts_lose_secrets_but_a_key_is_kept_byte_for_byte(acme):
    files = StorageObject.objects.for_tenant(acme, actor=Actor("user", "1", SECRET)).bucket("docs")
    key = f"caf\u00e9/{SECRET}/\x01 .. "

    write(files, [{"object_key": key, "metadata": {"password": "x", "note": SECRET}, "error_message": SECRET}])

    [row] = of(files)
    assert row.object_key == key
    assert SECRET not in row.actor_name + row.error_message + str(row.metadata)
    assert row.metadata["password"] == "[redacted]"


@pytest.mark.parametrize("key", ["a\x00b", "\ud800", "k" * 5000, "\U0001f600" * 1024, 7, None, b"a", ["a"]])
def test_what_no_key_can_be_is_recorded_as_far_as_it_goes(docs, key):
    ended(docs, InvalidArgument(message="No key."), key)

    [row] = of(docs)
    assert len(row.object_key.encode()) <= 1024
    assert (row.success, row.error_code, row.error_message) == (False, "invalid_argument", "No key.")


def test_no_name_of_a_bucket_or_a_version_is_too_odd_to_be_recorded(acme):
    files = StorageObject.objects.for_tenant(acme).bucket("b\x00" * 300)

    ended(files, InvalidArgument(message="x" * 10_000), "a", version_id="\udfff" * 5000)

    [row] = of(files)
    assert (len(row.bucket), len(row.version_id), len(row.error_message)) == (63, 1024, 4096)


def test_a_failure_is_recorded_once_by_the_innermost(docs):
    with pytest.raises(NoSuchKey), trail.asked(docs, "s3:CopyObject", "CREATE", "new"):
        with trail.asked(docs, "s3:GetObject", "READ", "old"):
            raise NoSuchKey("Nothing is stored under this key.")

    [row] = of(docs)
    assert (row.action, row.record_type, row.object_key, row.success) == ("s3:GetObject", "READ", "old", False)


def test_a_refusal_says_by_whose_word(docs):
    class Decision:
        reason, by, pattern, request = "storage_denied", docs.tenant_id, "s3://docs/*", {"mode": "read"}

    ended(docs, AccessDenied("No.", decision=Decision()))

    [row] = of(docs)
    assert row.error_code == "access_denied"
    assert row.metadata == {
        "reason": "storage_denied",
        "policy": str(docs.tenant_id),
        "pattern": "s3://docs/*",
        "mode": "read",
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("x"), InvalidArgument),
        (IntegrityError("x"), StorageUnavailable),
        (OperationalError("x"), StorageUnavailable),
    ],
)
def test_what_the_database_refuses_leaves_as_an_error_of_ours_and_is_recorded(docs, error, code):
    found = ended(docs, error)

    assert type(found) is code
    assert found.__cause__ is error
    assert [row.error_code for row in of(docs)] == [code.code]


def test_a_mistake_of_the_code_is_told_as_it_is(docs):
    mistake = ProgrammingError("no such column")

    assert ended(docs, mistake) is mistake
    assert of(docs) == []


@pytest.mark.django_db(transaction=True)
def test_no_rollback_erases_a_failure_and_none_keeps_a_change(docs):
    with pytest.raises(NoSuchKey), transaction.atomic():
        write(docs, [{"object_key": "done"}])
        with trail.asked(docs, "s3:GetObject", "READ", "gone"):
            raise NoSuchKey("Nothing is stored under this key.")

    assert [(row.object_key, row.success) for row in of(docs)] == [("gone", False)]


@pytest.mark.django_db(transaction=True)
def test_both_work_inside_the_scope_of_the_tenant(docs, globex):
    with tenant_scope(docs.tenant):
        write(docs, [{"object_key": "one"}])
        write(docs, [{"object_key": "two"}, {"object_key": "three"}])
        ended(docs, NoSuchKey("Nothing is stored under this key."), "gone")
        assert len(of(docs)) == 4

    with tenant_scope(globex):
        assert of(docs) == []
        theirs = StorageObject.objects.for_tenant(docs.tenant)
        with pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
            write(theirs, [{"object_key": "forged"}])


@pytest.mark.django_db(transaction=True)
def test_a_failure_that_cannot_be_recorded_still_leaves_as_it_is(docs, caplog):
    class Broken(type(docs)):
        @property
        def tenant_id(self):
            return "\x00"

    files = Broken(tenant=docs.tenant)

    assert isinstance(ended(files, NoSuchKey("Gone.")), NoSuchKey)
    assert "could not be recorded" in caplog.text
