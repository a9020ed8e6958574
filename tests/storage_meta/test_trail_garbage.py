from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.core.ids import now
from policies.models import Policy
from storage_meta.errors import AccessDenied, InvalidArgument, KeyTooLong, StorageError
from storage_meta.models import StorageAudit, StorageObject

TEXT = st.text(st.characters(codec=None), max_size=40)  # half characters and NUL too
ANYTHING = st.one_of(
    TEXT,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), st.floats()), max_size=3),
)
COLUMNS = [
    field.name for field in StorageAudit._meta.fields if field.name not in ("id", "tenant_id", "action", "created_at")
]
ASKS = ["object_key", "action", "record_type", "version_id", "actor_id", "user_id", "request_id", "success", "since", "until",
        "limit", "continuation_token"]  # fmt: skip
in_one_transaction = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def outcome(call):
    try:
        return call()
    except StorageError as error:
        return error


@in_one_transaction
@given(
    action=ANYTHING,
    created_at=ANYTHING,
    fields=st.dictionaries(st.sampled_from([*COLUMNS, "actor", "user_id", "none"]), ANYTHING, max_size=4),
)
def test_nothing_makes_the_log_raise_an_untyped_error(docs, action, created_at, fields):
    made = outcome(lambda: docs.log_audit(action, created_at=created_at, **fields))

    assert made.recorded if isinstance(made, StorageError) else StorageAudit.objects.filter(pk=made).exists()


@in_one_transaction
@given(asked=st.dictionaries(st.sampled_from(ASKS), ANYTHING, max_size=3))
def test_nothing_makes_a_page_of_it_raise_an_untyped_error(docs, asked):
    page = outcome(lambda: docs.get_audit_logs(**asked))

    assert page.recorded if isinstance(page, StorageError) else len(page.rows) <= 1000


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"size": -1}, "size"),
        ({"size": 2**63}, "size"),
        ({"bytes_sent": "3"}, "bytes_sent"),
        ({"success": 1}, "success"),
        ({"source_ip": "localhost"}, "source_ip"),
        ({"etag": 5}, "etag"),
        ({"record_type": "WRITE"}, "record_type is one of CREATE"),
        ({"colour": "red"}, "has no 'colour'"),
        ({"created_at": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"created_at": date(2026, 1, 1)}, "time zone"),
        ({"created_at": datetime(2019, 12, 31, 23, 59, 59, tzinfo=UTC)}, "2020-01"),
        ({"created_at": datetime(9999, 12, 31, tzinfo=UTC)}, "check the date"),
    ],
)
def test_a_field_that_is_none_is_named(docs, fields, told):
    with pytest.raises(InvalidArgument, match=told):
        docs.log_audit("s3:PutObject", **fields)


def test_a_row_is_at_most_3_months_ahead(docs):
    with pytest.raises(InvalidArgument, match="created_at"):
        docs.log_audit("s3:PutObject", created_at=now() + timedelta(days=124))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"limit": 0}, "limit is a whole number from 1"),
        ({"limit": 1001}, "1,000"),
        ({"limit": True}, "limit"),
        ({"success": "yes"}, "success"),
        ({"since": "today"}, "since"),
        ({"record_type": "x"}, "record_type"),
        ({"continuation_token": "x"}, "token"),
        ({"object_key": "\x00"}, "key"),
        ({"actor_id": 7}, "actor_id"),
    ],
)
def test_a_filter_that_is_none_is_named(docs, asked, told):
    with pytest.raises(InvalidArgument, match=told):
        docs.get_audit_logs(**asked)


def test_no_key_is_longer_than_keys_are(docs):
    with pytest.raises(KeyTooLong):
        docs.get_audit_logs(object_key="x" * 1025)


def test_a_token_is_of_its_question_bucket_and_tenant(docs, acme, globex):
    for _ in range(2):
        docs.log_audit("s3:PutObject")
    token = docs.get_audit_logs(limit=1).next_continuation_token

    assert docs.get_audit_logs(limit=1, continuation_token=token).rows
    for files, asked in (
        (docs, {"action": "s3:PutObject"}),
        (docs.bucket("other"), {}),
        (StorageObject.objects.for_tenant(acme), {}),
        (StorageObject.objects.for_tenant(globex).bucket("docs"), {}),
    ):
        with pytest.raises(InvalidArgument, match="token"):
            files.get_audit_logs(continuation_token=token, **asked)


def test_under_policies_rows_about_what_may_not_be_listed_are_left_out(acme, docs):
    for key in ("open/1", "secret/2", "open/3"):
        docs.log_audit("s3:PutObject", object_key=key)
    allow = [{"uri": "s3://docs/*", "modes": ["list"]}]
    deny = [{"uri": "s3://docs/secret/*", "modes": ["list"]}]
    Policy.objects.create(tenant=acme, policy_type="storage_access", config={"allow": allow, "deny": deny})
    files = StorageObject.objects.for_tenant(acme, effective=Policy.objects.effective(acme)).bucket("docs")

    page = files.get_audit_logs(limit=2)
    assert [row.object_key for row in page.rows] == ["open/3"]
    rest = files.get_audit_logs(limit=2, continuation_token=page.next_continuation_token)
    assert [row.object_key for row in rest.rows] == ["open/1"]
    with pytest.raises(AccessDenied):
        files.get_audit_logs(object_key="secret/2")
    with pytest.raises(AccessDenied):
        files.log_audit("s3:PutObject", object_key="open/1")
