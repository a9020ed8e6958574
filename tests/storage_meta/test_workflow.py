"""From a folder of files to what an auditor asks, on this machine's disk and on an S3 endpoint; then somebody breaks it."""

from __future__ import annotations

import json
import os
import shutil
from datetime import timedelta
from io import StringIO
from pathlib import Path
from unittest import mock

import boto3
import django
import moto
import pytest
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from moto.server import ThreadedMotoServer

from controlplane.core.ids import uuid7
from storage_meta.models import Bucket, PendingBlob, StorageObject, StorageVersion

pytestmark = pytest.mark.django_db(transaction=True)

PACKAGES = [Path(module.__file__).parent for module in (django, moto)]
MANY, FEW = 5_000, 300


class Terminal(StringIO):
    def isatty(self):
        return True


@pytest.fixture
def at_s3(settings):
    """The objects of this test lie at an S3 endpoint, over HTTP."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        told = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        with mock.patch.dict(os.environ, told):
            endpoint = f"http://{host}:{port}"
            name = f"b{uuid7().hex}"  # of this test alone: the servers of a process share what they hold
            boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=name)
            options = {"bucket_name": name, "endpoint_url": endpoint, "file_overwrite": False}
            objects = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
            settings.STORAGES = {**settings.STORAGES, "objects": objects}
            yield endpoint
    finally:
        server.stop()


@pytest.fixture
def store(request):
    """`local` or `s3`."""
    if request.param == "s3":
        request.getfixturevalue("at_s3")
    return request.param


@pytest.fixture
def docs(acme):
    Bucket.objects.create(tenant=acme, name="docs", versioning="enabled")
    return StorageObject.objects.for_tenant(acme).bucket("docs")


def tree(folder, number):
    """Real files of installed packages, so many of them; returns {relative path: size}."""
    found = (path for root in PACKAGES for path in sorted(root.rglob("*")) if path.is_file())
    sizes = {}
    for path in found:
        name = path.relative_to(path.parents[len(path.parts) - path.parts.index("site-packages") - 2])
        if "__pycache__" in path.parts:
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
        sizes[name.as_posix()] = path.stat().st_size
        if len(sizes) == number:
            return sizes
    raise AssertionError(f"only {len(sizes)} files are installed")


def run(*arguments):
    """(exit code, stdout, stderr) of a command."""
    out, err = StringIO(), Terminal()
    try:
        call_command(*arguments, stdout=out, stderr=err)
        code = 0
    except CommandError as error:
        code = error.returncode
    except SystemExit as end:
        code = end.code
    return code, out.getvalue(), err.getvalue()


def walk(docs, prefix=""):
    """Every key below a prefix, folder by folder, a page at a time."""
    token = None
    while True:
        page = docs.list_objects_v2(prefix=prefix, delimiter="/", max_keys=50, continuation_token=token)
        for entry in page.entries:
            if isinstance(entry, str):
                yield from walk(docs, entry)
            else:
                yield entry.object_key
        token = page.next_continuation_token
        if token is None:
            return


def all_found(docs, query):
    token, keys = None, []
    while True:
        page = docs.search_objects(query, limit=100, continuation_token=token)
        keys += [one.object_key for one in page.objects]
        token = page.next_continuation_token
        if token is None:
            return keys


def whole(files, key, version_id=None):
    with files.get_object(key, version_id) as stored:
        return b"".join(stored)


def workflow(docs, folder, number, verify="sha256"):
    sizes = tree(folder / "tree", number)
    here = ["--tenant", "acme", "--bucket", "docs"]

    code, _, progress = run("storage_import", str(folder / "tree"), *here, "--prefix", "site/", "--workers", "4")
    assert code == 0, progress
    keys = {f"site/{name}" for name in sizes}
    sums = docs.statistics()
    assert (sums.total_objects, sums.total_size) == (len(sizes), sum(sizes.values()))

    # again: what is there is left out
    assert run("storage_import", str(folder / "tree"), *here, "--prefix", "site/")[0] == 0
    assert docs.statistics().total_versions == len(sizes)

    # list by prefix, search
    assert list(walk(docs)) == sorted(keys, key=str.encode)
    words = all_found(docs, "conf locale")
    assert set(words) == {key for key in keys if {"conf", "locale"} <= set(pieces(key))}
    assert len(words) == len(set(words)) > 0

    # a new version, and the old one restored
    key = words[0]
    path = folder / "tree" / key.removeprefix("site/")
    first = docs.head_object(key).current_version_id.hex
    second = docs.put_object(key, b"another", comment="by hand")
    assert whole(docs, key) == b"another"
    assert run("storage_rm", key, *here)[0] == 0
    assert run("storage_restore", key, *here)[0] == 0
    assert docs.head_object(key).current_version_id.hex == second.version_id
    assert run("storage_restore", key, *here, "--version-id", first)[0] == 0
    assert [version.seq for version in docs.list_versions(key)] == [4, 2, 1]

    # a download, which is on record with what was sent
    got = folder / "got"
    assert run("storage_get", key, str(got), *here)[0] == 0
    assert got.read_bytes() == path.read_bytes()
    trail = docs.get_audit_logs(object_key=key).rows
    assert [row.action for row in trail] == [
        "s3:GetObject", "s3:RestoreObject", "s3:RestoreObject", "s3:DeleteObject", "s3:GetObject", "s3:PutObject",
        "s3:PutObject",
    ]  # fmt: skip
    assert (trail[0].bytes_sent, trail[0].actor_id, trail[0].success) == (len(path.read_bytes()), "storage_get", True)

    sums = docs.statistics()
    assert (sums.total_objects, sums.total_versions) == (len(sizes), len(sizes) + 2)
    assert sums.version_bytes == sum(sizes.values()) + len(b"another") + sizes[key.removeprefix("site/")]
    assert StorageObject.objects.reconcile(grace=timedelta(0), verify=verify).clean
    return sorted(keys - {key}), here, progress


def pieces(key):
    return "".join(one if one.isalnum() else " " for one in key.lower()).split()


def break_it(docs, keys):
    """Behind its back: blobs go, a blob is another one, rows go, a head lies. Returns what should be found."""
    storage = storages["objects"]
    found = StorageVersion.objects.filter(tenant=docs.tenant, object__object_key__in=keys)
    blobs = dict(found.values_list("object__object_key", "blob_name"))
    gone, other, rowless, lying = keys[:7], keys[7:9], keys[9:14], keys[14:16]
    for key in [*gone, *other]:
        storage.delete(blobs[key])
    for key in other:
        with storage.open(blobs[key], "wb") as file:
            file.write(b"not what was put here, for sure")
    with transaction.atomic(), connection.cursor() as cursor:
        heads = "SELECT id FROM cp_storage_meta_storageobject WHERE object_key = ANY(%s)"
        cursor.execute(f"DELETE FROM cp_storage_meta_storageversion WHERE object_id IN ({heads})", [rowless])
        cursor.execute("DELETE FROM cp_storage_meta_storageobject WHERE object_key = ANY(%s)", [rowless])
        cursor.execute("UPDATE cp_storage_meta_storageobject SET size = size + 1 WHERE object_key = ANY(%s)", [lying])
    PendingBlob.objects.all().delete()
    return {
        "orphans": {blobs[key] for key in rowless},
        "missing": {blobs[key] for key in gone},
        "mismatched": {blobs[key] for key in other},
        "heads": {str(one.pk) for one in StorageObject.objects.filter(object_key__in=lying)},
    }


def findings(out):
    return {name: {str(one) for one in json.loads(out)[name]} for name in ("orphans", "missing", "mismatched", "heads")}


def reconciled(docs, keys, here, verify="sha256"):
    wanted = break_it(docs, keys)

    asked = ["storage_reconcile", "--tenant", "acme", "--grace", "0s", "--verify", verify, "--json"]
    code, out, _ = run(*asked)
    assert (code, findings(out)) == (1, wanted)

    code, out, _ = run(*asked, "--delete")
    assert (code, findings(out), json.loads(out)["removed"]) == (1, wanted, len(wanted["orphans"]))
    code, out, _ = run(*asked)
    assert (code, findings(out)) == (1, wanted | {"orphans": set()})
    assert StorageVersion.objects.filter(blob_name__in=wanted["missing"]).count() == len(wanted["missing"])


@pytest.mark.parametrize("store", ["local", "s3"], indirect=True)
def test_a_folder_is_imported_searched_changed_read_audited_broken_and_found_out(store, docs, tmp_path):
    keys, here, _ = workflow(docs, tmp_path, FEW)

    reconciled(docs, keys, here)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["local", "s3"], indirect=True)
def test_five_thousand_files_go_the_same_way(store, docs, tmp_path):
    verify = "size" if store == "s3" else "sha256"  # moto takes long to give out every byte: of few it does
    keys, here, progress = workflow(docs, tmp_path, MANY, verify)

    assert "█" in progress
    reconciled(docs, keys, here, verify)
