"""Whoever the policies refuse learns nothing of what is refused: not that it is there, nor its key, its size, its number."""

from __future__ import annotations

import base64
import zlib

import pytest

from controlplane.core.ids import now
from policies.models import Policy
from storage_meta.errors import AccessDenied, InvalidArgument
from storage_meta.models import HookExecution, StorageAudit, StorageObject
from tests.factories import BucketFactory


@pytest.fixture
def under(acme, docs):
    """A handle for acme's bucket docs, where everything is allowed but what is under secret/."""
    for key in ("open/a", "secret/payroll", "zebra"):
        docs.put_object(key, size=10, etag=key)

    def handle(*denied, allow="s3://docs/*", modes=("list", "read", "write", "delete")):
        entries = {"allow": [{"uri": allow, "modes": list(modes)}]}
        if denied:
            entries["deny"] = [{"uri": uri, "modes": list(modes)} for uri in denied]
        Policy.objects.create(tenant=acme, policy_type="storage_access", config=entries)
        return StorageObject.objects.for_tenant(acme, effective=Policy.objects.effective(acme, at=now())).bucket("docs")

    return handle


CALLS = {
    "put": lambda files: files.put_object("a", b"x"),
    "put without bytes": lambda files: files.put_object("a", size=1, etag="e"),
    "bulk": lambda files: files.bulk_put([{"key": "a", "size": 1, "etag": "e"}]),
    "version": lambda files: files.record_version("a", "v", size=1, etag="e"),
    "record": lambda files: files.record_object("a", 1, "text/plain", "e"),
    "head": lambda files: files.head_object("a"),
    "get": lambda files: files.get_object("a"),
    "delete": lambda files: files.delete_object("a"),
    "delete a version": lambda files: files.delete_object("a", "null"),
    "delete many": lambda files: files.delete_objects(["a"]),
    "delete none": lambda files: files.delete_objects([]),
    "restore": lambda files: files.restore_object("a"),
    "copy": lambda files: files.copy_object("a", "b"),
    "copy to it": lambda files: files.bucket("docs").copy_object("zebra", "b", bucket=files.bucket_name),
    "tag": lambda files: files.put_object_tagging("a", {}),
    "hold": lambda files: files.put_object_legal_hold("a", True),
    "retain": lambda files: files.put_object_retention("a", None),
    "list": lambda files: files.list_objects_v2(),
    "list versions": lambda files: files.list_object_versions(),
    "list, the older way": lambda files: files.list_objects(),
    "search": lambda files: files.search_objects("a"),
    "count": lambda files: files.count(),
    "statistics": lambda files: files.statistics(),
    "clean up": lambda files: files.cleanup_old_audits(dry_run=True),
    "log": lambda files: files.log_audit("s3:GetObject", "a"),
    "logs": lambda files: files.get_audit_logs(),
    "log a delivery": lambda files: files.log_hook_execution(
        hook_name="h", event_type="s3:ObjectCreated:Put", object_key="a", success=True
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_bucket_that_is_refused_and_one_that_is_not_there_look_alike(acme, under, call):
    BucketFactory(tenant=acme, name="vault")
    files = under()

    refusals = []
    for name in ("vault", "nowhere"):
        with pytest.raises(AccessDenied) as caught:
            call(files.bucket(name))
        refusals.append((caught.value.code, caught.value.message))

    assert refusals[0] == refusals[1]
    codes = StorageAudit.objects.for_tenant(acme).filter(success=False).values_list("bucket", "error_code")
    assert sorted(codes) == [("nowhere", "access_denied"), ("vault", "access_denied")]


SUMS = {
    "statistics": lambda files: files.statistics(),
    "the older statistics": lambda files: files.get_statistics(),
    "count": lambda files: files.count(),
    "count of a word": lambda files: files.count("payroll"),
    "statistics of hooks": lambda files: files.get_hook_statistics(),
    "clean up": lambda files: files.cleanup_old_audits(dry_run=True),
}


@pytest.mark.parametrize("call", SUMS.values(), ids=SUMS.keys())
@pytest.mark.parametrize("denied", ["s3://docs/secret/*", "s3://docs/secret/payroll", "s3://*payroll", "s3://docs*/x"])
def test_a_sum_is_refused_where_one_key_of_it_is(under, denied, call):
    with pytest.raises(AccessDenied):
        call(under(denied))


@pytest.mark.parametrize("call", SUMS.values(), ids=SUMS.keys())
def test_a_sum_is_refused_where_not_every_key_is_allowed(under, call):
    with pytest.raises(AccessDenied):
        call(under(allow="s3://docs/*a"))


@pytest.mark.parametrize("call", SUMS.values(), ids=SUMS.keys())
def test_a_sum_is_told_where_every_key_is_allowed(under, call):
    assert call(under("s3://docs2/*", "s3://doc", "s3://other*")) is not None


def test_statistics_of_hooks_are_of_all_buckets_and_need_each_of_them(acme, under):
    BucketFactory(tenant=acme, name="vault")

    with pytest.raises(AccessDenied):
        under().get_hook_statistics()


def test_a_delivery_is_not_logged_against_the_policies(acme, under):
    files = under("s3://docs/secret/*")

    with pytest.raises(AccessDenied):
        files.log_hook_execution(hook_name="h", event_type="t", object_key="secret/payroll", success=True)
    assert not HookExecution.objects.filter(tenant=acme).exists()


def readable(token):
    """What somebody may read of a token without its key."""
    found = [token]
    for part in token.replace(".", ":").split(":"):
        try:
            raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
            found.append(raw.decode(errors="replace"))
            found.append(zlib.decompress(raw).decode(errors="replace"))
        except (ValueError, zlib.error):
            continue
    return " ".join(found)


def test_no_token_tells_a_key_that_is_refused(under):
    files = under("s3://docs/secret/*")

    pages = [
        files.list_objects_v2(max_keys=2),
        files.search_objects(None, limit=1),
        files.search_objects(None, limit=2),
        files.search_objects("open | secret | zebra", limit=2),
    ]

    for page in pages:
        assert page.is_truncated
        assert "payroll" not in readable(page.next_continuation_token)
    assert [
        one.object_key for one in files.list_objects_v2("", "", 2, None, pages[0].next_continuation_token).contents
    ] == ["zebra"]


def test_no_marker_of_versions_tells_a_key_that_is_refused(under):
    files = under("s3://docs/secret/*")

    page = files.list_object_versions(max_keys=2)

    assert [one.object.object_key for one in page.versions] == ["open/a"]
    assert "payroll" not in readable(page.next_key_marker)
    assert page.next_version_id_marker is None
    behind = files.list_object_versions("", page.next_key_marker, page.next_version_id_marker)
    assert ([one.object.object_key for one in behind.versions], behind.is_truncated) == (["zebra"], False)


def test_a_sealed_marker_is_of_its_own_list(under):
    files = under("s3://docs/secret/*")
    marker = files.list_object_versions(max_keys=2).next_key_marker

    found = files.list_object_versions("s", marker)  # a text like others, which no key here is above

    assert found.versions == []


def test_the_marker_of_a_version_that_is_refused_tells_no_id(docs, under):
    docs.record_version("secret/payroll", "abroad-7", size=1, etag="e")
    files = under("s3://docs/secret/*")

    there = files.list_object_versions("", "secret/payroll", "abroad-7")
    nowhere = files.list_object_versions("", "secret/payroll", "abroad-8")

    assert [one.object.object_key for one in there.versions] == ["zebra"]
    assert [one.object.object_key for one in nowhere.versions] == ["zebra"]
    with pytest.raises(InvalidArgument):
        docs.list_object_versions("", "secret/payroll", "abroad-8")


def test_the_older_list_is_recorded_as_the_others_are(acme, docs, under):
    bucket = docs.the_bucket()
    bucket.audit_reads = "all"
    bucket.save()

    docs.list_objects("open/")

    row = StorageAudit.objects.for_tenant(acme).get(action="s3:ListBucket")
    assert (row.object_key, row.success, row.record_type) == ("open/", True, "READ")
