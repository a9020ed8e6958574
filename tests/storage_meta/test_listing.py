from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
from django.core import signing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.core.ids import uuid7
from policies.models import Policy
from storage_meta.errors import AccessDenied, InvalidArgument, NoSuchBucket
from storage_meta.keys import upper_bound
from storage_meta.models import Bucket, StorageAudit, StorageObject, StorageVersion
from tenants.scope import tenant_scope
from tests.factories import StorageObjectFactory, StorageVersionFactory
from tests.storage_meta.keyspace import HIGHEST, KEYS, pages

pytestmark = pytest.mark.django_db


@pytest.fixture
def shelf(docs):
    """Acme's bucket docs with a small tree, some of it deleted."""
    bucket = docs.the_bucket()
    for key in ("a", "a/", "a/1", "a/2", "b/x/1", "c"):
        StorageObjectFactory(bucket=bucket, object_key=key)
    for key in ("0/gone", "a/gone", "gone"):
        StorageObjectFactory(bucket=bucket, object_key=key, is_delete_marker=True, size=0)
    return docs


@pytest.fixture
def history(docs):
    """Three keys in docs: three versions of a, one of b under a marker, one of c."""
    bucket = docs.the_bucket()
    heads = {key: StorageObjectFactory(bucket=bucket, object_key=key) for key in ("a", "b", "c")}
    StorageVersionFactory(object=heads["a"], size=4)
    StorageVersionFactory(object=heads["a"], size=5)
    StorageVersionFactory(object=heads["b"], is_delete_marker=True, size=0)
    return docs


def shown(page):
    return [entry if isinstance(entry, str) else entry.object_key for entry in page.entries]


def test_keys_and_common_prefixes_come_in_one_order_and_markers_not_at_all(shelf):
    page = shelf.list_objects_v2(delimiter="/")

    assert shown(page) == ["a", "a/", "b/", "c"]
    assert [head.object_key for head in page.contents] == ["a", "c"]
    assert page.common_prefixes == ["a/", "b/"]
    assert (page.key_count, page.max_keys, page.is_truncated, page.next_continuation_token) == (4, 1000, False, None)


def test_a_key_equal_to_the_prefix_is_content(shelf):
    assert shown(shelf.list_objects_v2("a/", "/")) == ["a/", "a/1", "a/2"]
    assert shown(shelf.list_objects_v2("b/", "/")) == ["b/x/"]


def test_a_listed_head_is_whole(shelf, django_assert_num_queries):
    bucket = shelf.the_bucket()
    stored = StorageObjectFactory(bucket=bucket, object_key="b/y", metadata={"pages": 7, "ä": [None]}, tags={"k": "v"})

    [head] = shelf.list_objects_v2("b/y").contents

    with django_assert_num_queries(0):
        for field in StorageObject._meta.concrete_fields:
            if field.attname != "search_vector":
                assert getattr(head, field.attname) == getattr(stored, field.attname), field.attname
    assert head == stored
    assert head.current_version.version_id == stored.current_version_id.hex


def test_max_keys_is_cut_to_1000_and_0_is_an_empty_page(shelf):
    assert shelf.list_objects_v2(max_keys=5000).max_keys == 1000
    for page in (shelf.list_objects_v2(max_keys=0), shelf.list_object_versions(max_keys=0)):
        assert not page.is_truncated
    assert shelf.list_objects_v2(max_keys=0).entries == []
    assert shelf.list_object_versions(max_keys=0).versions == []


def test_start_after_counts_keys_and_a_token_replaces_it(shelf):
    assert shown(shelf.list_objects_v2(start_after="a/1")) == ["a/2", "b/x/1", "c"]
    # as keys count, not entries, the rest of a group still shows
    assert shown(shelf.list_objects_v2(start_after="a/1", delimiter="/")) == ["a/", "b/", "c"]
    assert shown(shelf.list_objects_v2(start_after="a/2", delimiter="/")) == ["b/", "c"]

    token = shelf.list_objects_v2(max_keys=1).next_continuation_token

    assert shown(shelf.list_objects_v2(start_after="b", continuation_token=token, max_keys=2)) == ["a/", "a/1"]


def test_a_page_goes_on_behind_its_last_entry_whatever_changed_meanwhile(shelf):
    page = shelf.list_objects_v2(delimiter="/", max_keys=2)
    bucket = shelf.the_bucket()
    for key in ("a.new", "a/zzz", "a0", "b/0"):
        StorageObjectFactory(bucket=bucket, object_key=key)
    for head in StorageObject.objects.filter(object_key__in=["a", "a/"]):
        StorageVersionFactory(object=head, is_delete_marker=True, size=0)

    page = shelf.list_objects_v2(delimiter="/", continuation_token=page.next_continuation_token)

    assert shown(page) == ["a0", "b/", "c"]


def test_a_token_is_of_one_question_in_one_bucket(shelf, plain, globex):
    token = shelf.list_objects_v2("a", max_keys=1).next_continuation_token
    Bucket.objects.create(tenant=globex, name="docs")
    theirs = StorageObject.objects.for_tenant(globex).bucket("docs")

    for handle, asked in (
        (shelf, {"prefix": "b"}),
        (shelf, {"prefix": "a", "delimiter": "/"}),
        (plain, {"prefix": "a"}),
        (theirs, {"prefix": "a"}),
    ):
        with pytest.raises(InvalidArgument):
            handle.list_objects_v2(**asked, continuation_token=token)
    assert shown(shelf.list_objects_v2("a", max_keys=1, continuation_token=token)) == ["a/"]


@pytest.mark.parametrize(
    "token",
    ["", "x", "a:b:c", "\udcff:x", "\0", 7, b"x", pytest.param(signing.dumps(["x", ["key", "a"]]), id="signed")],
)
def test_garbage_is_no_token(shelf, token):
    with pytest.raises(InvalidArgument):
        shelf.list_objects_v2(continuation_token=token)


@pytest.mark.parametrize("garbage", ["\0", "a\0b", "\ud800", "a\udfffb", "x" * 5000, 7, None, b"a", ["a"]])
def test_arguments_that_are_no_text_are_refused(shelf, garbage):
    calls = [
        lambda: shelf.list_objects_v2(prefix=garbage),
        lambda: shelf.list_objects_v2(delimiter=garbage),
        lambda: shelf.list_object_versions(prefix=garbage),
    ]
    if garbage is not None:
        calls += [
            lambda: shelf.list_objects_v2(start_after=garbage),
            lambda: shelf.list_object_versions(key_marker=garbage),
            lambda: shelf.list_object_versions(key_marker="a", version_id_marker=garbage),
        ]
    for call in calls:
        with pytest.raises(InvalidArgument):
            call()


@pytest.mark.parametrize("garbage", [-1, -(10**30), 1.5, "7", None, True])
def test_a_page_size_is_a_whole_number_from_0(shelf, garbage):
    for listed in (shelf.list_objects_v2, shelf.list_object_versions):
        with pytest.raises(InvalidArgument, match="max_keys"):
            listed(max_keys=garbage)


def test_a_list_wants_a_bucket_that_is_there(acme):
    files = StorageObject.objects.for_tenant(acme)

    for call in (files.list_objects_v2, files.list_object_versions):
        with pytest.raises(InvalidArgument):
            call()
    for call in (files.bucket("none").list_objects_v2, files.bucket("none").list_object_versions):
        with pytest.raises(NoSuchBucket):
            call()


ANYTHING = st.one_of(
    st.text(),
    st.text(alphabet=["a", "/", "%", "_", "\\", "\0", "\x01", "\ud7ff", "\udfff", "\ue000", HIGHEST], max_size=8),
    st.none(),
    st.integers(),
    st.binary(max_size=4),
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING)
def test_no_argument_raises_anything_but_an_error_of_ours(shelf, prefix, delimiter, max_keys, marker, token):
    calls = [
        lambda: shelf.list_objects_v2(prefix, delimiter, max_keys, marker, token),
        lambda: shelf.list_objects_v2(prefix, delimiter, 3, marker),
        lambda: shelf.list_object_versions(prefix, marker, token, max_keys),
        lambda: shelf.list_object_versions("", marker, token, 3),
    ]
    for call in calls:
        with suppress(InvalidArgument):
            call()


@pytest.mark.parametrize(
    "prefix", ["", "a", HIGHEST, f"a{HIGHEST}", "\ud7ff", "\ue000", f"\ud7ff{HIGHEST}", "x" * 1024]
)
def test_the_range_of_a_prefix_holds_all_that_begins_with_it(prefix):
    bound = upper_bound(prefix)

    for key in KEYS:
        assert key.startswith(prefix) == (key >= prefix and (bound is None or key < bound))


def test_versions_come_by_key_and_newest_first_with_markers_and_their_heads(history, django_assert_num_queries):
    page = history.list_object_versions()

    with django_assert_num_queries(0):
        told = [
            (one.object.object_key, one.seq, one.is_latest, one.is_delete_marker, one.size) for one in page.versions
        ]
    assert told == [
        ("a", 3, True, False, 5),
        ("a", 2, False, False, 4),
        ("a", 1, False, False, 3),
        ("b", 2, True, True, 0),
        ("b", 1, False, False, 3),
        ("c", 1, True, False, 3),
    ]
    assert (page.is_truncated, page.next_key_marker, page.next_version_id_marker) == (False, None, None)


def test_a_listed_version_is_whole(history):
    stored = {version.pk: version for version in StorageVersion.objects.all()}

    for listed in history.list_object_versions().versions:
        for field in StorageVersion._meta.concrete_fields:
            assert getattr(listed, field.attname) == getattr(stored[listed.pk], field.attname)
        assert listed.object.size == stored[listed.pk].object.size  # read when it is asked for


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_pages_of_versions_go_on_strictly_behind_their_markers(history, size):
    key = version_id = None
    walked, more = [], True
    while more:
        page = history.list_object_versions("", key, version_id, size)
        assert len(page.versions) == size or not page.is_truncated
        walked += [(one.object.object_key, one.seq) for one in page.versions]
        more, key, version_id = page.is_truncated, page.next_key_marker, page.next_version_id_marker

    assert walked == [("a", 3), ("a", 2), ("a", 1), ("b", 2), ("b", 1), ("c", 1)]


def versions_after(handle, key_marker, version_id_marker=None, prefix=""):
    found = handle.list_object_versions(prefix, key_marker, version_id_marker).versions
    return [(one.object.object_key, one.seq) for one in found]


def test_a_key_marker_alone_means_behind_all_its_versions(history):
    assert versions_after(history, "a") == [("b", 2), ("b", 1), ("c", 1)]
    assert versions_after(history, "aa") == [("b", 2), ("b", 1), ("c", 1)]
    assert versions_after(history, "", prefix="b") == [("b", 2), ("b", 1)]
    assert versions_after(history, "c", prefix="b") == []


def test_a_version_marker_is_null_or_our_id_or_one_made_elsewhere(history):
    head = StorageObject.objects.get(object_key="a")
    theirs = StorageVersionFactory(object=head, external_id="their/4")
    ours = StorageVersionFactory(object=head)
    null = StorageVersionFactory(object=head, null_version=True)
    behind = [("a", 3), ("a", 2), ("a", 1), ("b", 2), ("b", 1), ("c", 1)]

    assert versions_after(history, "a", "null") == [("a", 5), ("a", 4), *behind]
    assert versions_after(history, "a", ours.version_id) == [("a", 4), *behind]
    assert versions_after(history, "a", theirs.version_id) == behind
    assert versions_after(history, "a", "their/4") == behind
    # the id of what is called null is no name of it
    assert versions_after(history, "a", null.id.hex) == [("a", 6), ("a", 5), ("a", 4), *behind]


def test_a_version_that_went_since_it_was_the_marker_loses_nobody_anything(history):
    everything = [("a", 3), ("a", 2), ("a", 1), ("b", 2), ("b", 1), ("c", 1)]

    assert versions_after(history, "a", uuid7().hex) == everything
    assert versions_after(history, "a", "null") == everything
    assert versions_after(history, "aa", uuid7().hex) == everything[3:]
    with pytest.raises(InvalidArgument, match="version_id_marker"):
        history.list_object_versions(key_marker="a", version_id_marker="no id")
    with pytest.raises(InvalidArgument, match="version_id_marker"):
        history.list_object_versions(version_id_marker=uuid7().hex)


def test_lists_hold_in_the_scope_of_the_tenant_and_show_nothing_in_that_of_another(shelf, acme, globex):
    with tenant_scope(acme):
        assert shown(shelf.list_objects_v2(delimiter="/")) == ["a", "a/", "b/", "c"]
        assert len(shelf.list_object_versions().versions) == 9
    with tenant_scope(globex), pytest.raises(NoSuchBucket):
        shelf.list_objects_v2()


def test_random_keys_are_listed_as_the_rules_say(docs):
    random = Random(9)  # noqa: S311
    bucket = docs.the_bucket()
    keys = {"".join(random.choices(f"a/{HIGHEST}\ud7ff\ue000", k=random.randint(1, 6))) for _ in range(60)}
    for key in keys:
        StorageObjectFactory(bucket=bucket, object_key=key)

    for delimiter in ("", "/", f"/{HIGHEST}", HIGHEST, "\ud7ff"):
        walked = pages(docs, "", delimiter, 7)
        listed = [one for found, groups, _ in walked for one in (*found, *groups)]
        assert len(listed) == len(set(listed))
        assert {key for key in keys if not delimiter or delimiter not in key} == {
            one for found, _, _ in walked for one in found
        }


@pytest.fixture
def allowed(acme):
    """Acme's bucket docs under a policy that allows and denies lists of these addresses."""

    def handle(allow, *deny):
        config = {"allow": [{"uri": uri, "modes": ["list"]} for uri in allow]}
        if deny:
            config["deny"] = [{"uri": uri, "modes": ["list"]} for uri in deny]
        Policy.objects.create(tenant=acme, policy_type="storage_access", config=config)
        return StorageObject.objects.for_tenant(acme, effective=Policy.objects.effective(acme)).bucket("docs")

    return handle


def test_a_list_of_a_prefix_that_the_policies_refuse_is_refused_and_recorded(shelf, allowed):
    files = allowed(["s3://docs/a/*"])

    assert shown(files.list_objects_v2("a/", "/")) == ["a/", "a/1", "a/2"]
    for call in (files.list_objects_v2, lambda: files.list_objects_v2("b/"), files.list_object_versions):
        with pytest.raises(AccessDenied) as caught:
            call()
        assert caught.value.decision.request["mode"] == "list"
    refused = StorageAudit.objects.for_tenant(shelf.tenant).filter(success=False)
    assert sorted(refused.values_list("action", "object_key", "error_code")) == [
        ("s3:ListBucket", "", "access_denied"),
        ("s3:ListBucket", "b/", "access_denied"),
        ("s3:ListBucketVersions", "", "access_denied"),
    ]


def test_entries_that_the_policies_refuse_are_left_out_and_the_token_goes_on(shelf, allowed):
    files = allowed(["s3://docs/*"], "s3://docs/a*")

    page = files.list_objects_v2(delimiter="/", max_keys=2)
    assert (shown(page), page.key_count, page.is_truncated) == ([], 0, True)
    page = files.list_objects_v2(delimiter="/", max_keys=2, continuation_token=page.next_continuation_token)
    assert (shown(page), page.is_truncated) == (["b/", "c"], False)


def test_versions_of_keys_that_the_policies_refuse_are_left_out_and_the_markers_go_on(history, allowed):
    files = allowed(["s3://docs/*"], "s3://docs/a", "s3://docs/c")

    page = files.list_object_versions(max_keys=3)
    assert (page.versions, page.is_truncated, page.next_version_id_marker) == ([], True, None)
    page = files.list_object_versions("", page.next_key_marker, page.next_version_id_marker)
    assert [one.object.object_key for one in page.versions] == ["b", "b"]


def test_a_token_carries_no_rights(shelf, allowed):
    token = shelf.list_objects_v2("a", max_keys=1).next_continuation_token

    with pytest.raises(AccessDenied):
        allowed(["s3://docs/b*"]).list_objects_v2("a", continuation_token=token)


def test_lists_are_recorded_where_the_bucket_says_so(shelf):
    recorded = StorageAudit.objects.for_tenant(shelf.tenant)

    shelf.list_objects_v2("a/")
    assert not recorded.exists()

    Bucket.objects.filter(name="docs").update(audit_reads="all")
    shelf.list_objects_v2("a/")
    shelf.list_object_versions("b/")
    assert sorted(recorded.values_list("action", "record_type", "bucket", "object_key", "success")) == [
        ("s3:ListBucket", "READ", "docs", "a/", True),
        ("s3:ListBucketVersions", "READ", "docs", "b/", True),
    ]
