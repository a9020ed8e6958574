from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import CommandError, call_command

from controlplane.core import ids
from storage_meta.models import Bucket, StorageAudit, StorageObject, StorageVersion
from tests.conftest import ROOT
from tests.factories import StorageQuotaFactory
from tests.races import together

pytestmark = pytest.mark.django_db
OF_DOCS = ("--tenant", "acme", "--bucket", "docs")


class Run:
    """code, out, err of a command; code 0 without an error."""

    def __init__(self, name, *arguments):
        out, err, self.code = io.StringIO(), io.StringIO(), 0
        try:
            call_command(name, *arguments, stdout=out, stderr=err)
        except CommandError as error:
            self.code = error.returncode
            err.write(str(error))
        except SystemExit as error:
            self.code = error.code
        self.out, self.err = out.getvalue(), err.getvalue()

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.txt"
    path.write_text("a page")
    return str(path)


class Stream:
    """stdin or stdout, byte by byte."""

    def __init__(self, given=b""):
        self.buffer = io.BytesIO(given)


# --- storage_put, storage_get


def test_what_a_quota_refuses_is_refused_and_not_unable(docs, acme, page):
    StorageQuotaFactory(tenant=acme, max_bytes=1, on_excess="refuse")

    done = Run("storage_put", "a", page, *OF_DOCS)

    assert done.code == 1
    assert "quota" in done.err


def test_a_file_is_put_and_got(docs, page, tmp_path):
    put = Run("storage_put", "reports/page", page, *OF_DOCS, "--content-type", "text/plain", "--comment", "first")
    got = Run("storage_get", "reports/page", str(tmp_path / "copy"), *OF_DOCS)

    assert (put.code, got.code) == (0, 0)
    assert (tmp_path / "copy").read_text() == "a page"
    assert "Stored 6 bytes as version" in put.out
    assert "Wrote 6 bytes" in got.out
    version = StorageVersion.objects.get()
    assert (version.content_type, version.comment) == ("text/plain", "first")


def test_all_that_can_be_said_of_a_file_is_kept(docs, page):
    done = Run(
        *("storage_put", "a", page, *OF_DOCS, "--metadata", '{"year": 2026}', "--tag", "a=1", "--tag", "b=x=y"),
        *("--storage-class", "COLD", "--part-size", "4", "--json"),
    )

    head = StorageObject.objects.get()
    assert (head.metadata, head.tags, head.storage_class) == ({"year": 2026}, {"a": "1", "b": "x=y"}, "COLD")
    assert done.json == {
        "key": "a",
        "version_id": head.current_version_id.hex,
        "size": 6,
        "etag": head.etag,
        "checksum_sha256": hashlib.sha256(b"a page").hexdigest(),
        "over_quota": False,
    }
    assert head.etag.endswith("-2")


def test_stdin_is_put_and_stdout_is_got(docs, monkeypatch):
    out = Stream()
    monkeypatch.setattr(sys, "stdin", Stream(b"through\x00a pipe"))
    monkeypatch.setattr(sys, "stdout", out)

    assert Run("storage_put", "a", "-", *OF_DOCS).code == 0
    got = Run("storage_get", "a", *OF_DOCS)

    assert (got.code, got.out, out.buffer.getvalue()) == (0, "", b"through\x00a pipe")


def test_a_version_and_a_range_are_got(docs, tmp_path):
    first = docs.put_object("a", b"0123456789")
    docs.put_object("a", b"new")

    got = Run(
        *("storage_get", "a", str(tmp_path / "a"), *OF_DOCS, "--version-id", first.version_id),
        *("--range", "bytes=2-4", "--json"),
    )

    assert (tmp_path / "a").read_text() == "234"
    assert (got.json["size"], got.json["version_id"]) == (3, first.version_id)


def test_a_condition_that_does_not_hold_refuses(docs, page):
    Run("storage_put", "a", page, *OF_DOCS)

    assert Run("storage_put", "a", page, *OF_DOCS, "--if-none-match", "*").code == 1
    assert Run("storage_put", "a", page, *OF_DOCS, "--if-match", "0" * 32).code == 1
    assert StorageVersion.objects.count() == 1


def test_what_is_not_there_could_not_be_done(docs, page, tmp_path):
    nowhere = str(tmp_path / "no" / "where")

    assert Run("storage_get", "never", *OF_DOCS).code == 2
    assert Run("storage_put", "a", nowhere, *OF_DOCS).code == 2
    assert Run("storage_put", "a", str(tmp_path), *OF_DOCS).code == 2
    assert Run("storage_put", "a", page, "--tenant", "acme", "--bucket", "attic").code == 2
    assert Run("storage_put", "a", page, "--tenant", "nobody", "--bucket", "docs").code == 2
    docs.put_object("a", b"x")
    assert Run("storage_get", "a", nowhere, *OF_DOCS).code == 2
    assert Run("storage_get", "a", str(tmp_path), *OF_DOCS).code == 2


def test_a_file_that_could_not_be_read_whole_leaves_what_was_there(docs, tmp_path):
    put = docs.put_object("a", b"new")
    Path(storages["objects"].path(StorageVersion.objects.get(pk=put.object.current_version_id).blob_name)).write_text(
        "NEW"
    )
    target = tmp_path / "folder" / "a"
    target.parent.mkdir()
    target.write_text("old")

    got = Run("storage_get", "a", str(target), *OF_DOCS)

    assert (got.code, target.read_text(), os.listdir(target.parent)) == (2, "old", ["a"])


def test_the_access_log_names_the_command(docs, page):
    Run("storage_put", "a", page, *OF_DOCS)

    row = StorageAudit.objects.get(action="s3:PutObject")
    assert (row.actor_type, "storage_put" in row.actor_name + row.actor_id) == ("command", True)


def test_nobody_gets_what_another_tenant_stored(docs, globex, tmp_path):
    docs.put_object("a", b"x")
    Bucket.objects.create(tenant=globex, name="docs")

    got = Run("storage_get", "a", str(tmp_path / "a"), "--tenant", "globex", "--bucket", "docs")

    assert (got.code, (tmp_path / "a").exists()) == (2, False)


# --- storage_import


@pytest.fixture
def tree(tmp_path):
    for n in range(6):
        path = tmp_path / f"tree/{n % 2}/{n}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{n}")
    return tmp_path / "tree"


def brought(tree, *arguments):
    return Run("storage_import", str(tree), *OF_DOCS, "--workers", "1", *arguments)


def test_a_tree_is_imported(docs, tree):
    first, again = brought(tree, "--prefix", "in/"), brought(tree, "--prefix", "in/", "--json")

    assert (first.code, first.out) == (0, "6 stored (6 bytes), 0 there already, 0 left out.\n")
    assert (again.code, again.json) == (0, {"stored": 0, "skipped": 6, "bytes": 0, "failed": []})
    assert docs.get_object("in/1/3").read() == b"3"


def test_what_was_left_out_is_a_finding(docs, tree):
    (tree / "link").symlink_to("0/0")

    done = brought(tree)

    assert (done.code, done.out) == (1, "6 stored (6 bytes), 0 there already, 1 left out.\n")
    assert "link: It is a link." in done.err


def test_a_tree_that_is_not_there_could_not_be_imported(docs, tree):
    assert brought(tree / "no").code == 2
    assert Run("storage_import", str(tree), "--tenant", "acme", "--bucket", "attic").code == 2


# --- storage_reconcile


def test_what_is_in_order_is_no_finding(docs):
    docs.put_object("a", b"x")

    done = Run("storage_reconcile", "--verify", "sha256")

    assert (done.code, done.out) == (0, "1 in the storages, 1 known: 0 orphans, 0 missing, 0 mismatched, 0 heads.\n")


@pytest.fixture
def faults(docs, acme):
    """An orphan, a missing and a changed blob, and a head unlike its version."""
    names = []
    for key in ("missing", "changed"):
        put = docs.put_object(key, b"x")
        names.append(StorageVersion.objects.get(pk=put.object.current_version_id).blob_name)
    os.unlink(storages["objects"].path(names[0]))
    Path(storages["objects"].path(names[1])).write_text("y")
    before = ids.now() - timedelta(days=2)
    orphan = storages["objects"].save(f"{acme.pk.hex}/2026/01/01/{ids.uuid7_at(before).hex}", ContentFile(b"x"))
    head = docs.put_object("head", b"x").object
    StorageObject.objects.filter(pk=head.pk).update(size=7)
    return {"orphans": [orphan], "missing": names[:1], "mismatched": names[1:], "heads": [str(head.pk)]}


def test_findings_are_listed_and_nothing_is_changed(docs, faults):
    for _ in range(2):
        done = Run("storage_reconcile", "--verify", "sha256", "--json")
        assert done.code == 1
        assert done.json == faults | {"removed": 0, "blobs": 3, "versions": 3}

    assert Run("storage_reconcile", "--tenant", "acme").out.splitlines()[:2] == [
        f"orphan {faults['orphans'][0]}",
        f"missing {faults['missing'][0]}",
    ]


def test_orphans_alone_are_removed(docs, faults, acme):
    done = Run("storage_reconcile", "--delete")
    again = Run("storage_reconcile", "--json")

    assert (done.code, "1 orphans were removed" in done.out) == (1, True)
    assert (again.json["orphans"], again.json["missing"]) == ([], faults["missing"])
    assert StorageVersion.objects.count() == 3


def test_a_grace_keeps_the_young(docs, faults):
    assert Run("storage_reconcile", "--grace", "7d", "--json").json["orphans"] == []


def test_a_tenant_that_is_deleted_is_compared_too(docs, faults, acme):
    type(acme).objects.filter(pk=acme.pk).update(deleted_at=ids.now(), status="deleted")

    assert Run("storage_reconcile", "--tenant", "acme", "--json").json["orphans"] == faults["orphans"]


@pytest.mark.django_db(transaction=True)
def test_two_may_reconcile_at_once(docs, acme):
    before = ids.now() - timedelta(days=2)
    for n in range(20):
        storages["objects"].save(f"{acme.pk.hex}/2026/01/01/{ids.uuid7_at(before).hex}", ContentFile(b"x" * n))

    runs = together(*[lambda: Run("storage_reconcile", "--delete")] * 2)

    assert [run.code for run in runs] == [0, 0]
    assert Run("storage_reconcile").code == 0


# --- garbage

GARBAGE = [
    "",
    "\x00",
    "\ud800",
    "x" * 5000,
    "../../etc/passwd",
    "-",
    "--",
    "%s",
    "'; DROP TABLE x; --",
    "NaN",
    "[",
    "\n",
]


@pytest.mark.parametrize("text", GARBAGE, ids=lambda text: ascii(text)[:12])
def test_garbage_is_answered_with_a_sentence(docs, page, tree, text, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Stream())
    for command in (
        ("storage_put", text, page, *OF_DOCS),
        ("storage_put", "a", text, *OF_DOCS),
        ("storage_put", "a", page, "--tenant", text, "--bucket", "docs"),
        ("storage_put", "a", page, "--tenant", "acme", "--bucket", text),
        *(
            ("storage_put", "a", page, *OF_DOCS, f"{option}={text}")
            for option in (
                *("--content-type", "--metadata", "--tag", "--storage-class", "--part-size"),
                *("--if-none-match", "--if-match", "--comment"),
            )
        ),
        ("storage_get", text, *OF_DOCS),
        ("storage_get", "a", *OF_DOCS, f"--version-id={text}"),
        ("storage_get", "a", *OF_DOCS, f"--range={text}"),
        ("storage_import", text, *OF_DOCS, "--workers", "1"),
        ("storage_import", str(tree), *OF_DOCS, f"--workers={text}"),
        ("storage_import", str(tree), *OF_DOCS, "--workers", "1", f"--prefix={text}"),
        ("storage_reconcile", f"--tenant={text}"),
        ("storage_reconcile", f"--grace={text}"),
        ("storage_reconcile", f"--verify={text}"),
    ):
        run = Run(*command)
        assert run.code in (0, 1, 2)
        assert run.code == 0 or run.err
        assert "Traceback" not in run.err


# --- as processes


@pytest.mark.django_db(transaction=True)
def test_who_reads_half_of_a_download_ends_it_without_a_traceback(docs, settings):
    docs.put_object("a", os.urandom(3 * 1024 * 1024))
    location = settings.STORAGES["objects"]["OPTIONS"]["location"]
    database = settings.DATABASES["default"]
    process = subprocess.Popen(
        [sys.executable, "-c", AS_COMMAND, location, database["NAME"], "storage_get", "a", *OF_DOCS],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
    )
    process.stdout.read(10)
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()

    assert (process.wait(), err.splitlines()) == (1, ["CommandError: Who reads the output has gone: it is not whole."])
    row = StorageAudit.objects.get(action="s3:GetObject")
    assert (row.success, row.bytes_sent < 3 * 1024 * 1024) == (False, True)


AS_COMMAND = """
import sys
from django.conf import settings
location, name, *arguments = sys.argv[1:]
settings.DATABASES["default"]["NAME"] = name
settings.STORAGES["objects"]["OPTIONS"]["location"] = location
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", *arguments])
"""
