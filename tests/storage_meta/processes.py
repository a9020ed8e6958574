"""Processes that do the same at once, let go together.

Run as `python -m tests.storage_meta.processes LOCATION DATABASE TENANT JOB NUMBER PATH`.

Each is a child of its own with a connection of its own. Writes what each returned as JSON, one a line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import django
from django.conf import settings

EACH = 10


def at_once(tenant, job, number, path=""):
    """What each of so many processes returned, which did a job of this module in the test's database and folder."""
    location = settings.STORAGES["objects"]["OPTIONS"]["location"]
    told = [location, settings.DATABASES["default"]["NAME"], str(tenant.pk), job.__name__, str(number), str(path)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.storage_meta.processes", *told],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == number
    return outcomes


def put_one_key(objects, docs, number, path):
    return [docs.put_object("key", f"{number}-{n}".encode()).seq for n in range(EACH)]


def import_a_tree(objects, docs, number, path):
    from storage_meta.importing import import_tree

    done = import_tree(docs, path, workers=2)
    return {"stored": done.stored, "skipped": done.skipped, "failed": done.failed}


def reconcile(objects, docs, number, path):
    from datetime import timedelta

    if number == 0:  # one of them puts, meanwhile
        return [docs.put_object(f"new/{n}", b"new").seq for n in range(EACH)]
    found = objects.reconcile(grace=timedelta(seconds=float(path)), delete=True)
    return {"orphans": found.orphans, "missing": found.missing, "heads": found.heads, "removed": found.removed}


JOBS = {job.__name__: job for job in (put_one_key, import_a_tree, reconcile)}


def main():
    location, database, tenant, job, processes, path = sys.argv[1:]
    settings.DATABASES["default"]["NAME"] = database
    settings.STORAGES["objects"] = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": location},
    }
    django.setup()
    waiting, go = os.pipe()
    children = []
    for number in range(int(processes)):
        child = os.fork()
        if not child:
            os.close(go)
            os._exit(live(tenant, JOBS[job], number, path, waiting))
        children.append(child)
    os.close(go)  # the end of the pipe is what all wait for
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


def live(tenant, job, number, path, waiting):
    from django.db import connection

    from storage_meta.models import StorageObject
    from tenants.models import Tenant

    docs = StorageObject.objects.for_tenant(Tenant.objects.get(pk=tenant)).bucket("docs")
    connection.ensure_connection()
    os.read(waiting, 1)
    try:
        outcome = job(StorageObject.objects, docs, number, path)
    except Exception as error:
        outcome = {"error": repr(error)}
    os.write(1, json.dumps(outcome).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
