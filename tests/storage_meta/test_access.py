from __future__ import annotations

import pytest
from django.db.models import QuerySet

from controlplane.core.ids import now
from policies.models import Policy
from storage_meta import access, trail
from storage_meta.errors import AccessDenied
from storage_meta.models import StorageAudit, StorageObject
from tests.factories import BucketFactory


@pytest.fixture
def acme_allows(acme):
    """Acme's handle for the bucket docs under policies with these allow and deny entries: (uri, modes)."""

    def handle(allow=(), deny=()):
        config = {
            name: [{"uri": uri, "modes": modes.split()} for uri, modes in entries]
            for name, entries in (("allow", allow), ("deny", deny))
            if entries
        }
        if config:
            Policy.objects.create(tenant=acme, policy_type="storage_access", config=config)
        effective = Policy.objects.effective(acme)
        return StorageObject.objects.for_tenant(acme, effective=effective).bucket("docs")

    return handle


def refused(files, mode, key="", **more):
    with pytest.raises(AccessDenied) as error:
        access.demand(files, mode, key, **more)
    return error.value


def test_a_handle_without_policies_is_trusted(docs, django_assert_num_queries):
    with django_assert_num_queries(0):
        access.demand(docs, "delete", "a//b")
        assert access.allowed(docs, "list", "a//b")


def test_with_policies_nothing_is_allowed_without_a_word(acme_allows):
    error = refused(acme_allows(), "read", "a")

    assert (error.code, error.http_status) == ("access_denied", 403)
    assert error.decision.reason == "storage_default_deny"
    assert error.message == error.decision.message


@pytest.mark.parametrize("mode", ["list", "read", "write", "delete"])
def test_each_mode_is_decided_by_itself(acme_allows, mode):
    files = acme_allows([("s3://docs/*", mode)])

    for other in access.MODES:
        assert access.allowed(files, other, "a") is (other == mode)
        if other != mode:
            assert refused(files, other, "a").decision.reason == "storage_not_in_allowlist"
    access.demand(files, mode, "a")


def test_a_deny_wins_and_says_by_whose_word(acme_allows):
    files = acme_allows([("s3://docs/*", "read")], [("s3://docs/secret/*", "read")])

    decision = refused(files, "read", "secret/a").decision

    assert (decision.reason, decision.pattern) == ("storage_denied", "s3://docs/secret/*")
    assert access.allowed(files, "read", "secretary")


@pytest.mark.parametrize("key", ["a//b", "/a", "a/../b", "./a", "100%", "a%2fb", "a\\b", "a\nb", "..", "a//"])
def test_what_policies_call_not_canonical_is_refused(acme_allows, key):
    files = acme_allows([("s3://docs/*", "list read write delete")])

    assert refused(files, "read", key).decision.reason == "uri_not_canonical"
    assert not access.allowed(files, "list", key)


@pytest.mark.parametrize("prefix", ["", "a", "a/", "caf\u00e9/", "a b/c"])
def test_a_prefix_is_asked_for_as_it_is(acme_allows, prefix):
    files = acme_allows([("s3://docs/*", "list")])

    access.demand(files, "list", prefix)
    assert refused(files, "list", prefix, bucket="other").decision.request["uri"] == f"s3://other/{prefix}"


def test_another_bucket_is_asked_for_where_a_call_is_about_two(acme_allows):
    files = acme_allows([("s3://docs/*", "read")])

    assert refused(files, "read", "a", bucket="other").decision.request["uri"] == "s3://other/a"
    assert not access.allowed(files, "read", "a", bucket="other")


def test_a_call_about_all_buckets_needs_each_of_them(acme, globex, acme_allows):
    for name in ("docs", "logs"):
        BucketFactory(tenant=acme, name=name)
    BucketFactory(tenant=globex, name="theirs")
    files = acme_allows([("s3://docs/*", "list")])
    everything = StorageObject.objects.for_tenant(acme, effective=files.effective)

    assert refused(everything, "list").decision.request["uri"] == "s3://logs/"
    Policy.objects.all().delete()
    access.demand(acme_allows([("s3://docs/*", "list"), ("s3://logs/*", "list")]), "list")


def test_a_refusal_leaves_a_row_that_says_why(acme, acme_allows):
    files = acme_allows([("s3://docs/*", "read")], [("s3://docs/secret/*", "read")])

    with pytest.raises(AccessDenied), trail.asked(files, "s3:GetObject", "READ", "secret/a"):
        access.demand(files, "read", "secret/a")

    row = StorageAudit.objects.get(tenant_id=acme.pk)
    assert (row.success, row.error_code, row.object_key, row.bucket) == (False, "access_denied", "secret/a", "docs")
    assert row.metadata == {
        "reason": "storage_denied",
        "policy": str(Policy.objects.get().pk),
        "pattern": "s3://docs/secret/*",
        "mode": "read",
    }


def test_a_policy_that_cannot_be_read_refuses_all(acme, acme_allows):
    files = acme_allows([("s3://docs/*", "read")])
    QuerySet(Policy).update(config={"allow": "s3://docs/*"})

    broken = StorageObject.objects.for_tenant(acme, effective=Policy.objects.effective(acme, at=now())).bucket("docs")

    assert access.allowed(files, "read", "a")
    assert refused(broken, "read", "a").decision.reason == "policy_invalid"


TOLD = {"hook_name": "elsewhere", "event_type": "s3:ObjectCreated:Put", "object_key": "a", "success": True}


def test_the_log_of_hooks_is_written_by_whom_policies_let_write_the_key(acme, acme_allows):
    BucketFactory(tenant=acme, name="docs")
    files = acme_allows([("s3://docs/a", "write")])

    assert files.log_hook_execution(**TOLD).object_key == "a"
    with pytest.raises(AccessDenied):
        files.log_hook_execution(**TOLD | {"object_key": "b"})
    row = StorageAudit.objects.for_tenant(acme).get()
    assert (row.action, row.object_key, row.success) == ("cp:LogHookExecution", "b", False)
    with pytest.raises(AccessDenied):
        files.get_hook_statistics()


def test_the_log_of_hooks_is_summed_up_for_whom_policies_let_list(acme, acme_allows):
    BucketFactory(tenant=acme, name="docs")
    files = acme_allows([("s3://docs/**", "list")])

    assert files.get_hook_statistics() == []
    with pytest.raises(AccessDenied):
        files.log_hook_execution(**TOLD)
