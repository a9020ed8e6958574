"""storage_rm and storage_restore: their sentences, exit codes, and what they refuse."""

from __future__ import annotations

import json
from functools import partial
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from storage_meta.errors import NoSuchKey
from storage_meta.models import Bucket, StorageAudit, StorageObject, StorageVersion
from tests.races import together

pytestmark = pytest.mark.django_db

HERE = ("--tenant", "acme", "--bucket", "docs")


def run(*arguments):
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=StringIO())
    return out.getvalue().rstrip("\n")


def refused(*arguments):
    """(exit code, sentence) of a command that refuses; it must be one line."""
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value.returncode, str(caught.value)


def test_what_is_removed_gets_a_marker_that_restoring_takes_away(docs):
    docs.put_object("a.txt", b"one")
    second = docs.put_object("a.txt", b"two").version_id

    said = run("storage_rm", "a.txt", *HERE)

    assert said.startswith("Deleted a.txt: a delete marker, ")
    assert StorageAudit.objects.for_tenant(docs.tenant).get(action="s3:DeleteObject").actor_id == "storage_rm"
    assert json.loads(run("storage_restore", "a.txt", *HERE, "--json"))["version_id"] == second
    assert docs.head_object("a.txt").size == 3


def test_an_old_version_is_restored_as_a_new_one(docs):
    first = docs.put_object("a.txt", b"first").version_id
    docs.put_object("a.txt", b"second")

    said = run("storage_restore", "a.txt", *HERE, "--version-id", first)

    assert said.startswith("Restored a.txt: version ")
    assert said.endswith(", 5 bytes.")
    assert StorageVersion.objects.count() == 3


def test_one_version_is_removed_for_good_and_a_held_one_stays(docs):
    first, second = (docs.put_object("a.txt", body).version_id for body in (b"one", b"two"))
    docs.put_object_legal_hold("a.txt", True, second, reason="a test")

    row = json.loads(run("storage_rm", "a.txt", *HERE, "--version-id", first, "--json"))
    code, said = refused("storage_rm", "a.txt", *HERE, "--version-id", second)

    assert (row["version_id"], row["existed"], row["delete_marker"]) == (first, True, False)
    assert (code, "held" in said or "hold" in said) == (1, True)
    assert [one.version_id for one in StorageVersion.objects.all()] == [second]


def test_a_dry_run_says_what_is_there_and_leaves_it(docs):
    docs.put_object("a.txt", b"one")

    assert run("storage_rm", "a.txt", *HERE, "--dry-run") == "Would delete a.txt of 3 bytes."
    assert docs.head_object("a.txt").size == 3
    assert refused("storage_rm", "b.txt", *HERE, "--dry-run")[0] == 2


def test_what_is_not_there_is_removed_without_an_error_where_nothing_is_versioned(plain):
    plain.put_object("a.txt", b"one")

    assert run("storage_rm", "a.txt", "--tenant", "acme", "--bucket", "plain") == "Deleted a.txt."
    assert run("storage_rm", "a.txt", "--tenant", "acme", "--bucket", "plain") == "There was no a.txt."
    assert refused("storage_restore", "a.txt", "--tenant", "acme", "--bucket", "plain")[0] == 2


@pytest.mark.parametrize("command", ["storage_rm", "storage_restore"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("", *HERE),
        ("a\x00b", *HERE),
        ("a\udcff", *HERE),
        ("x" * 1025, *HERE),
        ("a.txt", "--tenant", "acme", "--bucket", "nowhere"),
        ("a.txt", "--tenant", "acme", "--bucket", "\udcff"),
        ("a.txt", "--tenant", "nobody", "--bucket", "docs"),
        ("a.txt", "--tenant", "globex", "--bucket", "docs"),
        ("a.txt", *HERE, "--version-id", "a\x00"),
        ("a.txt", *HERE, "--version-id", ""),
        ("a.txt", *HERE, "--version-id", "x" * 2000),
    ],
)
def test_garbage_is_refused_with_one_sentence_and_changes_nothing(docs, globex, command, arguments):
    docs.put_object("a.txt", b"one")

    code, _ = refused(command, *arguments)

    assert code in (1, 2)
    assert docs.head_object("a.txt").size == 3
    assert StorageVersion.objects.count() == 1


@pytest.mark.parametrize("command", ["storage_rm", "storage_restore"])
def test_with_the_version_of_another_tenant_nothing_of_it_comes(docs, globex, command):
    docs.put_object("a.txt", b"one")
    Bucket.objects.create(tenant=globex, name="docs", versioning="enabled")
    theirs = StorageObject.objects.for_tenant(globex).bucket("docs")
    their_version = theirs.put_object("a.txt", b"theirs").version_id

    if command == "storage_rm":  # as in S3, what is not there is removed already
        assert run(command, "a.txt", *HERE, "--version-id", their_version) == f"a.txt had no version {their_version}."
    else:
        assert refused(command, "a.txt", *HERE, "--version-id", their_version)[0] == 2
    assert docs.head_object("a.txt").size == 3
    assert theirs.head_object("a.txt").size == 6


@pytest.mark.django_db(transaction=True)
def test_two_that_remove_and_restore_at_once_tell_one_story(docs):
    docs.put_object("a.txt", b"one")

    outcomes = together(
        *[partial(run, "storage_rm", "a.txt", *HERE), partial(run, "storage_restore", "a.txt", *HERE)] * 2
    )

    assert [one for one in outcomes if isinstance(one, Exception)] == []
    head = StorageObject.objects.get()
    assert head.is_delete_marker == StorageVersion.objects.newest_first().first().is_delete_marker
    if head.is_delete_marker:
        with pytest.raises(NoSuchKey):
            docs.head_object("a.txt")
