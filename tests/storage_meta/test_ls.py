from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from storage_meta.models import Bucket
from tests.factories import StorageObjectFactory, StorageVersionFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def shelf(docs):
    bucket = docs.the_bucket()
    for key in ("a", "a/1", "a/2", "b\x1b[2J\n", "c"):
        StorageObjectFactory(bucket=bucket, object_key=key, size=1234)
    StorageVersionFactory(object=StorageObjectFactory(bucket=bucket, object_key="d"), is_delete_marker=True, size=0)
    return docs


def run(*arguments):
    """stdout and stderr of the command."""
    out, err = StringIO(), StringIO()
    call_command("storage_ls", *arguments, "--tenant", "acme", "--bucket", "docs", stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def rows(*arguments):
    return json.loads(run(*arguments, "--json")[0])


def refused(*arguments):
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value.returncode, str(caught.value)


def test_storage_ls_writes_a_line_for_each_key_and_nothing_that_a_terminal_obeys(shelf):
    out, err = run()

    assert [line.split()[-1] for line in out.splitlines()] == ["a", "a/1", "a/2", r"b\x1b[2J\n", "c"]
    assert "1,234" in out
    assert err == ""


def test_storage_ls_folds_at_a_delimiter(shelf):
    told = rows("--delimiter", "/")

    assert [row.get("key", row.get("prefix")) for row in told["rows"]] == ["a", "a/", "b\x1b[2J\n", "c"]
    assert told["rows"][1] == {"prefix": "a/"}
    assert told["next"] is None
    assert [row["key"] for row in rows("a/", "--delimiter", "/")["rows"]] == ["a/1", "a/2"]
    assert [row["key"] for row in rows("--prefix", "a/")["rows"]] == ["a/1", "a/2"]


def test_storage_ls_goes_on_behind_a_page(shelf):
    found, after = [], []
    while True:
        told = rows("--max", "2", *after)
        found += [row["key"] for row in told["rows"]]
        if told["next"] is None:
            break
        after = ["--after", told["next"]]

    assert found == ["a", "a/1", "a/2", "b\x1b[2J\n", "c"]
    assert "go on with --after" in run("--max", "2")[1]


def test_storage_ls_lists_versions_page_by_page(shelf):
    first = rows("--versions", "--max", "6")
    [last] = rows("--versions", "--after", first["next"])["rows"]

    assert [(row["key"], row["seq"], row["is_delete_marker"]) for row in first["rows"][4:]] == [
        ("c", 1, False),
        ("d", 2, True),
    ]
    assert (last["key"], last["seq"], last["is_latest"], len(last["version_id"])) == ("d", 1, False, 32)
    assert "deleted" in run("d", "--versions")[0]


def test_storage_ls_says_that_there_is_none(shelf):
    assert run("none") == ("", "There is none here.\n")
    assert rows("none") == {"rows": [], "next": None}


def test_storage_ls_refuses_garbage_in_one_sentence(shelf, globex):
    token = rows("--max", "1")["next"]
    Bucket.objects.create(tenant=globex, name="theirs")

    for arguments in (
        ["--after", "garbage"],
        ["--after", token, "--delimiter", "/"],
        ["--after", token, "--versions"],
        ["\udcff"],
        ["--delimiter", "a\0b"],
        ["x" * 5000],
    ):
        assert refused(*arguments)[0] == 1
    with pytest.raises(CommandError, match="page size"):
        run("--max", "0")
    for tenant, bucket in (("acme", "theirs"), ("none", "docs"), ("globex", "docs")):
        with pytest.raises(CommandError) as caught:
            call_command("storage_ls", "--tenant", tenant, "--bucket", bucket, stdout=StringIO(), stderr=StringIO())
        assert caught.value.returncode == 2
