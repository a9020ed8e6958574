from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from auditing.models import AuditLog
from controlplane.core import duties, partitions
from controlplane.core.ids import PLATFORM, now, uuid7_at
from policies.models import Policy
from storage_meta import cleaning
from storage_meta.errors import AccessDenied, InvalidArgument, NoSuchBucket
from storage_meta.models import Bucket, StorageAudit, StorageObject, StorageVersion
from tenants.scope import tenant_scope
from tests.factories import BucketFactory, StorageAuditFactory, StorageObjectFactory, StorageVersionFactory
from tests.races import together

pytestmark = pytest.mark.usefixtures("past_months_are_removed")

LOG = cleaning.LOG


@pytest.fixture
def logged(acme):
    """Write rows of the access log so many days ago."""

    def log(*days, tenant=acme, **columns):
        made = []
        for ago in days:
            at = now() - timedelta(days=ago)
            if partitions.month_of(at) not in partitions.existing_months(LOG):
                partitions.ensure(LOG, now(), months=[partitions.month_of(at)])
            made.append(StorageAuditFactory(created_at=at, tenant_id=tenant.pk, **columns).pk)
        return made

    return log


def left(tenant=None):
    rows = StorageAudit.objects.all() if tenant is None else StorageAudit.objects.for_tenant(tenant)
    return set(rows.values_list("id", flat=True))


def events():
    return list(AuditLog.objects.filter(action="storage.log_cleaned").order_by("id"))


def test_exactly_the_rows_older_than_the_cut_off_go(docs, logged):
    old, young = logged(400, 366, 365.01), logged(364.99, 30, 0)

    assert docs.cleanup_old_audits(dry_run=True) == 3
    assert left() == {*old, *young}
    assert docs.cleanup_old_audits() == 3
    assert left() == set(young)
    assert docs.cleanup_old_audits() == 0


def test_rows_of_others_and_of_other_buckets_stay(acme, globex, docs, logged):
    mine, elsewhere = logged(400), logged(400, bucket="other")
    theirs = logged(400, tenant=globex)

    assert docs.cleanup_old_audits() == len(mine)
    assert left() == {*elsewhere, *theirs}
    assert StorageObject.objects.for_tenant(acme).cleanup_old_audits() == 1
    assert left() == set(theirs)


def test_a_bucket_may_keep_its_rows_longer_or_shorter(acme, docs, logged):
    BucketFactory(tenant=acme, name="long", audit_days=500)
    BucketFactory(tenant=acme, name="short", audit_days=10)
    stays = [*logged(499, 11, bucket="long"), *logged(9, bucket="short"), *logged(360), *logged(360, bucket="gone")]
    logged(501, bucket="long")
    logged(11, 400, bucket="short")
    logged(370)
    logged(370, bucket="gone")

    assert StorageObject.objects.for_tenant(acme).cleanup_old_audits(days=365) == 5
    assert left() == set(stays)


@pytest.mark.parametrize("held", [{"legal_hold": True}, {"retain_until": "later"}])
def test_the_rows_of_a_key_with_a_held_version_stay(acme, docs, logged, held):
    if "retain_until" in held:
        held = {"retain_until": now() + timedelta(days=1)}
    head = StorageObjectFactory(bucket=Bucket.objects.get(name="docs"), object_key="held")
    StorageVersionFactory(object=head)
    StorageVersion.objects.filter(object=head, seq=1).update(**held)
    same_key_elsewhere = BucketFactory(tenant=acme, name="other")
    StorageObjectFactory(bucket=same_key_elsewhere, object_key="held")
    stays = logged(400, 500, object_key="held")
    logged(400, object_key="free")
    logged(400, object_key="held", bucket="other")

    assert StorageObject.objects.for_tenant(acme).cleanup_old_audits() == 2
    assert left() == set(stays)

    StorageVersion.objects.filter(object=head).update(legal_hold=False, retain_until=now() - timedelta(seconds=1))
    assert docs.cleanup_old_audits() == 2


def test_months_from_which_nothing_stays_are_dropped_and_of_others_rows_are_deleted(acme, globex, logged):
    BucketFactory(tenant=globex, name="long", audit_days=5000)
    gone = [datetime(2021, 2, 3, tzinfo=UTC), datetime(2021, 2, 28, tzinfo=UTC)]
    partly = [datetime(2021, 4, 3, tzinfo=UTC), datetime(2021, 4, 4, tzinfo=UTC)]
    for tenant, bucket, times in ((acme, "docs", gone + partly), (globex, "docs", gone), (globex, "long", partly[:1])):
        files = StorageObject.objects.for_tenant(tenant).bucket(bucket)
        for at in times:
            files.log_audit("s3:PutObject", created_at=at)
    told = []

    done = cleaning.clean(now(), days=365, told=told.append)

    assert done.rows == 6
    assert done.by_tenant == {acme.pk: 4, globex.pk: 2}
    assert [f"{month:%Y-%m}" for month in done.months] == ["2021-02"]
    assert told == ["2021-02: dropped, 4 rows", "2021-04: deleted 2 rows"]
    dropped, deleted = events()
    assert (dropped.tenant_id, dropped.details["tenants"], deleted.tenant_id) == (PLATFORM, 2, acme.pk)
    assert dropped.details["by_tenant"] == {str(acme.pk): 2, str(globex.pk): 2}
    assert done.months[0] not in partitions.existing_months(LOG)
    assert [row.bucket for row in StorageAudit.objects.for_tenant(globex)] == ["long"]


def test_a_month_with_a_held_key_is_not_dropped(docs, acme):
    head = StorageObjectFactory(bucket=Bucket.objects.get(name="docs"), object_key="held")
    StorageVersion.objects.filter(object=head).update(legal_hold=True)
    for key in ("held", "free"):
        docs.log_audit("s3:PutObject", object_key=key, created_at=datetime(2021, 2, 3, tzinfo=UTC))

    done = cleaning.clean(now(), days=365)

    assert (done.rows, done.months) == (1, [])
    assert [row.object_key for row in StorageAudit.objects.all()] == ["held"]


def test_a_month_that_was_dropped_can_be_made_again(docs):
    at = datetime(2021, 2, 3, tzinfo=UTC)
    docs.log_audit("s3:PutObject", created_at=at)
    cleaning.clean(now(), days=365)

    docs.log_audit("s3:PutObject", created_at=at)

    assert cleaning.clean(now(), days=365).rows == 1


def test_no_number_of_days_removes_the_months_that_are_written_to(docs):
    docs.log_audit("s3:PutObject")

    assert cleaning.clean(now() + timedelta(seconds=1), days=0).rows == 1
    docs.log_audit("s3:PutObject")


def test_each_step_leaves_a_row_in_the_sealed_log(docs, acme, globex, logged):
    logged(400, 401)
    logged(400, tenant=globex)

    StorageObject.objects.for_tenant(acme, actor="janitor").bucket("docs").cleanup_old_audits(days=100)
    cleaning.clean(now(), days=300, by="nightly")

    first, second = events()
    assert (first.tenant_id, first.actor_id, first.details["rows"]) == (acme.pk, "janitor", 2)
    assert (first.details["how"], first.details["days"], first.details["bucket"]) == ("deleted", 100, "docs")
    assert (second.tenant_id, second.actor_id, second.details["rows"]) == (globex.pk, "nightly", 1)
    assert second.details["how"] == "dropped"


def test_rows_go_by_batches_past_those_that_stay(docs, logged, monkeypatch):
    monkeypatch.setattr(cleaning, "BATCH", 3)
    head = StorageObjectFactory(bucket=Bucket.objects.get(name="docs"), object_key="held")
    StorageVersion.objects.filter(object=head).update(legal_hold=True)
    start = now() - timedelta(days=400)
    StorageAudit.objects.bulk_create(
        StorageAuditFactory.build(
            created_at=(at := start + timedelta(seconds=n)),
            id=uuid7_at(at),
            tenant_id=docs.tenant_id,
            object_key="held" if n % 2 else "free",
        )
        for n in range(20)
        if partitions.ensure(LOG, now(), months=[partitions.month_of(start)]) or True
    )

    assert docs.cleanup_old_audits() == 10
    assert {row.object_key for row in StorageAudit.objects.all()} == {"held"}
    assert [event.details["rows"] for event in events()] == [3, 3, 3, 1]


@pytest.mark.parametrize("days", [-1, None, "365", 1.5, True, 36_501, 10**30])
def test_days_that_are_none_are_refused(docs, days):
    with pytest.raises(InvalidArgument, match="days"):
        docs.cleanup_old_audits(days=days)
    with pytest.raises(InvalidArgument, match="dry_run"):
        docs.cleanup_old_audits(dry_run="yes")


def test_of_a_bucket_that_is_not_there_nothing_is_cleaned(docs):
    with pytest.raises(NoSuchBucket):
        docs.bucket("none").cleanup_old_audits()


def test_policies_are_asked_whether_the_bucket_may_be_cleaned(acme, docs, logged):
    logged(400)
    Policy.objects.create(
        tenant=acme,
        policy_type="storage_access",
        config={"allow": [{"uri": "s3://docs/*", "modes": ["list", "read", "write"]}]},
    )
    files = StorageObject.objects.for_tenant(acme, effective=Policy.objects.effective(acme)).bucket("docs")

    with pytest.raises(AccessDenied):
        files.cleanup_old_audits()
    assert StorageAudit.objects.filter(action="cp:CleanupAudits", success=False).count() == 1


@pytest.mark.django_db(transaction=True)
def test_it_works_inside_a_transaction_and_the_scope_of_the_tenant_and_in_no_other(docs, globex, logged):
    logged(400)
    with transaction.atomic():
        assert docs.cleanup_old_audits() == 1
        transaction.set_rollback(True)
    assert left() == set()

    logged(400)
    with tenant_scope(globex), pytest.raises(AccessDenied, match="another tenant"):
        docs.cleanup_old_audits()
    with tenant_scope(docs.tenant):
        assert docs.cleanup_old_audits() == 1
    assert not StorageAudit.objects.filter(action="s3:PutObject").exists()


@pytest.mark.django_db(transaction=True)
def test_two_at_once_share_the_work(docs, logged, monkeypatch):
    monkeypatch.setattr(cleaning, "BATCH", 5)
    logged(*[400 + n / 1000 for n in range(40)])
    stays = logged(1)

    counts = together(docs.cleanup_old_audits, docs.cleanup_old_audits, lambda: cleaning.clean(now(), days=365).rows)

    assert sum(counts) == 40
    assert sum(event.details["rows"] for event in events()) == 40
    assert left() == set(stays)


@pytest.mark.django_db(transaction=True)
def test_a_month_that_is_in_use_loses_its_rows_one_by_one(docs, logged, other_connection, monkeypatch):
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "20ms")
    logged(400)
    month = partitions.month_of(now() - timedelta(days=400))
    with other_connection.transaction():
        other_connection.execute(f"SELECT count(*) FROM {LOG.table}")
        done = cleaning.clean(now(), days=300)

    assert (done.rows, done.months) == (1, [])
    assert month in partitions.existing_months(LOG)
    assert cleaning.clean(now(), days=300).months == [month]


@pytest.mark.django_db(transaction=True)
def test_what_was_removed_before_an_interruption_stays_removed(docs, logged, monkeypatch):
    monkeypatch.setattr(cleaning, "BATCH", 2)
    logged(400, 400, 400, 400, 400)
    told = []

    def interrupted(text):
        told.append(text)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cleaning.clean(now(), days=365, tenant_id=docs.tenant_id, told=interrupted)

    assert len(left()) == 3
    assert [event.details["rows"] for event in events()] == [2]
    assert docs.cleanup_old_audits() == 3


@pytest.mark.django_db(transaction=True)
def test_the_door_is_closed_again_after_a_run(docs, logged):
    logged(400)
    docs.cleanup_old_audits()

    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(current_setting('cp.retention_before', true), '')")
        assert cursor.fetchone() == ("",)


def test_the_worker_removes_each_day_what_is_older_than_audit_days_of_its_bucket(acme, globex, logged, monkeypatch):
    monkeypatch.setattr(cleaning, "BATCH", 2)
    monkeypatch.setattr(cleaning, "BATCHES", 2)
    BucketFactory(tenant=acme, name="short", audit_days=10)
    BucketFactory(tenant=globex, name="short", audit_days=1000)
    BucketFactory(tenant=acme, name="free")
    logged(*[11] * 5, bucket="short")
    stays = [
        *logged(9, bucket="short"),
        *logged(400, bucket="free"),
        *logged(400, bucket="gone"),
        *logged(400, bucket=""),
    ]
    stays += logged(400, tenant=globex, bucket="short")
    [duty] = [duty for duty in duties.registered() if duty.name == "storage_log"]

    assert duty.every_s == 86_400
    assert duty.run(now()) is True
    assert len(left()) == len(stays) + 1
    assert duty.run(now()) is False
    assert left() == set(stays)
    assert {row.actor_label or row.actor_id for row in events()} == {"lifecycle"}
