from __future__ import annotations

import json

import pytest
from django.core.management import CommandError, call_command

from storage_meta.models import StorageAudit
from tests.factories import BucketFactory, StorageObjectFactory


@pytest.fixture
def shelf(acme, globex):
    """Three objects of acme in two buckets, one of globex."""
    docs, plain = (BucketFactory(tenant=acme, name=name) for name in ("docs", "plain"))
    StorageObjectFactory(bucket=docs, object_key="invoices/7.pdf", content_type="", size=7, metadata={"owner": "ann"})
    StorageObjectFactory(bucket=docs, object_key="invoices/8.pdf", size=8, tags={"state": "draft"})
    StorageObjectFactory(bucket=plain, object_key="invoice\n\x1b[31m.txt", size=9)
    StorageObjectFactory(bucket=BucketFactory(tenant=globex, name="theirs"), object_key="invoices/9.pdf")


def searched(capsys, *arguments, tenant="acme"):
    call_command("storage_search", *arguments, "--tenant", tenant)
    return capsys.readouterr()


def found(capsys, *arguments, **options):
    return [row["key"] for row in json.loads(searched(capsys, *arguments, "--json", **options).out)["rows"]]


def test_a_search_prints_a_table(shelf, capsys):
    out = searched(capsys, "ann").out.splitlines()

    assert out[0].split() == ["bucket", "key", "size", "content_type", "last_modified", "rank"]
    assert out[1].split()[:4] == ["docs", "invoices/7.pdf", "7", "-"]
    assert len(out) == 2


def test_a_search_as_json_holds_all_that_is_known(shelf, capsys):
    [row] = json.loads(searched(capsys, "ann", "--json").out)["rows"]

    assert row["metadata"] == {"owner": "ann"}
    assert row["rank"] > 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["invoices", "pdf"], ["invoices/7.pdf", "invoices/8.pdf"]),
        (["--query", "-ann pdf"], ["invoices/8.pdf"]),
        (["invo", "--beginning", "--bucket", "plain"], ["invoice\n\x1b[31m.txt"]),
        (["--prefix", "invoices/8"], ["invoices/8.pdf"]),
        (["--metadata", '{"owner": "ann"}'], ["invoices/7.pdf"]),
        (["--tag", "state=draft"], ["invoices/8.pdf"]),
        (["--type", "text/plain", "--max-size", "8"], ["invoices/8.pdf"]),
        (["--min-size", "9", "--since", "2020-01-01T00:00Z"], ["invoice\n\x1b[31m.txt"]),
        (["--until", "2020-01-01T00:00Z"], []),
        (["pdf", "--newest"], ["invoices/8.pdf", "invoices/7.pdf"]),
    ],
)
def test_options_narrow_a_search(shelf, capsys, arguments, expected):
    assert found(capsys, *arguments) == expected


def test_a_search_goes_on_with_the_token_it_names(shelf, capsys):
    first = searched(capsys, "pdf", "--limit", "1")
    token = first.err.split()[-1]

    assert "There are more" in first.err
    assert found(capsys, "pdf", "--limit", "1", "--after", token) == ["invoices/8.pdf"]


def test_what_a_terminal_would_obey_is_printed_as_its_code(shelf, capsys):
    out = searched(capsys, "--bucket", "plain").out

    assert "invoice\\n\\x1b[31m.txt" in out
    assert "\x1b" not in out


def test_a_query_that_is_cut_is_said(shelf, capsys):
    assert "only its beginning counted" in searched(capsys, "pdf " * 65).err


def test_no_hit_is_said_on_stderr(shelf, capsys):
    done = searched(capsys, "nothing")

    assert (done.out, done.err) == ("", "There is none.\n")


@pytest.mark.parametrize("command", ["storage_search", "storage_stats"])
@pytest.mark.parametrize(
    ("tenant", "bucket"), [("acme", "theirs"), ("acme", "no-such"), ("acme", "\udcff"), ("nobody", "docs")]
)
def test_what_is_not_the_tenants_is_not_there(shelf, command, tenant, bucket):
    with pytest.raises(CommandError) as caught:
        call_command(command, "--tenant", tenant, "--bucket", bucket)
    assert caught.value.returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--query", "-draft"],
        ["--min-size", "-1"],
        ["--max-size", "9" * 30],
        ["--after", "garbage"],
        ["--prefix", "\udcff"],
        ["--tag", "=x"],
        ["--type", "\x00"],
        ["--metadata", '{"a": "\\u0000"}'],
    ],
)
def test_garbage_is_refused_in_one_sentence(shelf, arguments):
    with pytest.raises(CommandError) as caught:
        call_command("storage_search", *arguments, "--tenant", "acme")
    assert caught.value.returncode == 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [["--metadata", "[1]"], ["--metadata", "{"], ["--metadata", "[" * 5000], ["--tag", "x"], ["--since", "now"],
     ["--limit", "0"], ["--min-size", "x"]],
)  # fmt: skip
def test_what_is_no_argument_is_refused_with_the_way_to_write_it(shelf, arguments):
    with pytest.raises(CommandError, match="argument --"):
        call_command("storage_search", *arguments, "--tenant", "acme")


def test_bytes_that_are_no_text_are_words_that_are_not_there(shelf, capsys):
    assert found(capsys, "\udcff\udcfe") == []


def test_a_search_names_its_command_in_the_access_log(shelf, acme, capsys):
    acme.buckets.update(audit_reads="all")

    searched(capsys, "ann")

    [row] = StorageAudit.objects.for_tenant(acme)
    assert (row.action, row.actor_type) == ("s3:Search", "command")


def test_statistics_are_printed_by_group_with_their_sums(shelf, capsys):
    call_command("storage_stats", "--tenant", "acme")
    lines = capsys.readouterr().out.splitlines()

    assert lines[0].split() == ["storage_backend", "storage_class", "content_type", "objects", "size"]
    assert lines[1].split() == ["elsewhere", "STANDARD", "text/plain", "2", "17"]
    assert lines[2].split() == ["elsewhere", "STANDARD", "-", "1", "7"]
    assert lines[3].split() == ["3", "objects"]
    assert lines[4].split() == ["24", "bytes", "of", "objects"]
    assert len(lines) == 10


def test_statistics_of_a_bucket_as_json(shelf, capsys):
    call_command("storage_stats", "--tenant", "acme", "--bucket", "plain", "--json")

    found = json.loads(capsys.readouterr().out)
    assert (found["total_objects"], found["total_size"], found["delete_markers"]) == (1, 9, 0)
    assert found["groups"][0]["content_type"] == "text/plain"


def test_statistics_of_nothing_are_zeros(acme, capsys):
    call_command("storage_stats", "--tenant", "acme")

    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["0"] * 7
