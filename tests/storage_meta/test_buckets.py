from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from auditing.models import AuditLog
from storage_meta import buckets
from storage_meta.errors import BucketNotEmpty, NoSuchBucket
from storage_meta.models import Bucket, StorageHook, StorageObject

pytestmark = pytest.mark.django_db


def run(*arguments):
    """stdout of a command, without the last line's end."""
    out = StringIO()
    call_command("storage_bucket", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue().rstrip("\n")


def refused(*arguments):
    """(exit code, sentence) of a command that refuses; it must be one line."""
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value.returncode, str(caught.value)


def test_a_bucket_is_made_with_its_rules_and_the_audit_log_names_the_command(acme):
    said = run("make", "docs", "--tenant", "acme", "--versioning", "enabled", "--expire-days", "30")

    made = Bucket.objects.get()
    assert (made.tenant, made.name, made.versioning, made.expire_days) == (acme, "docs", "enabled", 30)
    assert (made.audit_reads, made.noncurrent_days) == ("data", None)
    assert said == "Made the bucket docs of acme."
    assert AuditLog.objects.for_object(made).get().actor_id == "storage_bucket"


def test_rules_are_changed_one_by_one_and_never_takes_a_limit_away(acme):
    Bucket.objects.create(tenant=acme, name="docs", expire_days=30, audit_days=400)

    row = json.loads(run("change", "docs", "--tenant", "acme", "--expire-days", "never", "--json"))

    assert (row["name"], row["expire_days"], row["audit_days"], row["versioning"]) == ("docs", None, 400, "unversioned")
    assert Bucket.objects.get().expire_days is None


def test_a_bucket_that_was_versioned_is_suspended_and_not_unversioned(acme):
    Bucket.objects.create(tenant=acme, name="docs", versioning="enabled")

    code, said = refused("change", "docs", "--tenant", "acme", "--versioning", "unversioned")
    run("change", "docs", "--tenant", "acme", "--versioning", "suspended")

    assert (code, said) == (
        1,
        "versioning: A bucket that was versioned keeps its versions. Suspend versioning instead.",
    )
    assert Bucket.objects.get().versioning == "suspended"


def test_buckets_are_listed_by_name_and_page(acme, globex):
    for name in ("videos", "docs", "mail"):
        Bucket.objects.create(tenant=acme, name=name)
    Bucket.objects.create(tenant=globex, name="secrets")

    first = json.loads(run("list", "--tenant", "acme", "--json", "--limit", "2"))
    second = json.loads(run("list", "--tenant", "acme", "--json", "--after", first["next"]))

    assert [row["name"] for row in first["rows"] + second["rows"]] == ["docs", "mail", "videos"]
    assert second["next"] is None


def test_an_empty_bucket_is_removed(acme):
    Bucket.objects.create(tenant=acme, name="docs")

    assert run("remove", "docs", "--tenant", "acme") == "Removed the bucket docs of acme."
    assert not Bucket.objects.exists()


def test_a_bucket_with_objects_is_not_removed(docs):
    docs.put_object("a.txt", b"a")
    docs.delete_object("a.txt")

    with pytest.raises(BucketNotEmpty):
        buckets.remove(docs)

    assert Bucket.objects.filter(name="docs").exists()


def test_a_bucket_that_hooks_are_told_of_is_not_removed(acme):
    bucket = Bucket.objects.create(tenant=acme, name="docs")
    StorageHook.objects.create(
        tenant=acme, name="hook", bucket=bucket, url="https://example.com/", event_types=["s3:*"], secrets="whsec_eA=="
    )

    code, said = refused("remove", "docs", "--tenant", "acme")

    assert code == 1
    assert "Hooks are told" in said


@pytest.mark.parametrize("action", ["change", "remove"])
def test_the_bucket_of_another_tenant_is_not_there(acme, globex, action):
    Bucket.objects.create(tenant=globex, name="docs")

    code, said = refused(action, "docs", "--tenant", "acme", *(["--storage", ""] if action == "change" else []))

    assert (code, "no bucket 'docs'" in said) == (2, True)
    assert Bucket.objects.filter(tenant=globex).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("make", "Docs", "--tenant", "acme"),
        ("make", "d\x00cs", "--tenant", "acme"),
        ("make", "d\udcffcs", "--tenant", "acme"),
        ("make", "docs\n", "--tenant", "acme"),
        ("make", "", "--tenant", "acme"),
        ("make", "x" * 64, "--tenant", "acme"),
        ("make", "docs", "--tenant", "acme", "--storage", "nowhere"),
        ("make", "docs", "--tenant", "acme", "--storage", "\x00"),
        ("make", "docs", "--tenant", "acme", "--versioning", "perhaps"),
        ("make", "docs", "--tenant", "acme", "--expire-days", "0"),
        ("make", "docs", "--tenant", "acme", "--expire-days", "-1"),
        ("make", "docs", "--tenant", "acme", "--expire-days", "2147483648"),
        ("make", "docs", "--tenant", "acme", "--expire-days", "soon"),
        ("make", "mail", "--tenant", "acme"),
        ("make", "docs", "--tenant", "nobody"),
        ("make", "docs", "--tenant", "\x00"),
        ("change", "mail", "--tenant", "acme"),
        ("change", "d\x00cs", "--tenant", "acme", "--storage", ""),
        ("change", "d\udcffcs", "--tenant", "acme", "--storage", ""),
        ("remove", "d\x00cs", "--tenant", "acme"),
        ("list", "--tenant", "acme", "--after", "\x00"),
        ("list", "--tenant", "acme", "--limit", "0"),
    ],
)
def test_garbage_is_refused_with_one_sentence_and_changes_nothing(acme, arguments):
    Bucket.objects.create(tenant=acme, name="mail")

    code, _ = refused(*arguments)

    assert code in (1, 2)
    assert [bucket.name for bucket in Bucket.objects.all()] == ["mail"]


def test_a_bucket_refuses_in_the_database_what_plain_orm_would_write(acme):
    with pytest.raises(ValidationError, match=r"no alias"):
        Bucket(tenant=acme, name="docs", storage="nowhere").full_clean()


def test_removing_a_bucket_twice_finds_it_gone(acme):
    Bucket.objects.create(tenant=acme, name="docs")
    files = StorageObject.objects.for_tenant(acme).bucket("docs")

    buckets.remove(files)

    with pytest.raises(NoSuchBucket):
        buckets.remove(files)
