"""A process that is killed while it changes what is stored: at its first step, then at its second, until none is left.

Run as `python -m tests.storage_meta.killed LOCATION DATABASE TENANT CHANGE`. Each try is a child of its own, under a key of its
own. Writes the name of each step at which a child was killed, one a line. Steps are before and after every statement, and what
`Steps` does to the folder.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from itertools import count

import django
from django.conf import settings

OLD, NEW = b"old" * 500_000, b"new" * 1_000_000
"""Of more than one piece, so that a child is killed in the middle of them too."""


LONG_AGO = datetime(2021, 2, 3, tzinfo=UTC)


class Steps:
    """Counts what is done, and at the step it was told to, kills the process."""

    left = 0

    def __call__(self, name):
        if self.left:
            self.left -= 1
            if not self.left:
                os.write(1, f"{name}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)

    def statement(self, execute, sql, params, many, context):
        told = sql.as_string() if hasattr(sql, "as_string") else str(sql)
        words = " ".join(told.split()[:6])
        self(f"before {words}")
        found = execute(sql, params, many, context)
        self(f"after {words}")
        return found


step = Steps()


def put(docs, plain, key):
    yield
    docs.put_object(key, iter([NEW]))


def replace(docs, plain, key):
    plain.put_object(key, OLD)
    yield
    plain.put_object(key, NEW)


def delete(docs, plain, key):
    plain.put_object(key, OLD)
    yield
    plain.delete_object(key)


def remove_copied(docs, plain, key):
    version = docs.put_object(key, OLD).version_id
    docs.copy_object(key, f"{key}/copy")
    yield
    docs.delete_object(key, version)


def log_up_to_five(docs, plain, key):
    """Five rows of years ago, of which an object of `plain` tells each."""
    from storage_meta.models import StorageAudit

    for n in range(5 - StorageAudit.objects.filter(created_at__lt=LONG_AGO + timedelta(days=365)).count()):
        plain.put_object(f"{key}/{n}")
        docs.log_audit("s3:PutObject", object_key=f"{key}/{n}", created_at=LONG_AGO + timedelta(days=20 * n))


def clean(docs, plain, key):
    from storage_meta import cleaning

    log_up_to_five(docs, plain, key)
    cleaning.BATCH = 2
    yield
    docs.cleanup_old_audits(days=365)


def drop(docs, plain, key):
    from storage_meta import cleaning

    log_up_to_five(docs, plain, key)
    yield
    cleaning.clean(datetime.now(UTC), days=365)


CHANGES = {change.__name__: change for change in (put, replace, delete, remove_copied, clean, drop)}


def main():
    location, database, tenant, change = sys.argv[1:]
    settings.DATABASES["default"]["NAME"] = database
    folder = {"BACKEND": "tests.storage_meta.storages.Stepwise", "OPTIONS": {"location": location}}
    settings.STORAGES["objects"] = folder
    django.setup()
    from django.db import connections

    for number in count(1):
        connections.close_all()
        child = os.fork()
        if not child:
            os._exit(live(tenant, CHANGES[change], number))
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return os.waitstatus_to_exitcode(status)
    return None


def live(tenant, change, number):
    from django.db import connection

    from storage_meta.models import StorageObject
    from tenants.models import Tenant

    files = StorageObject.objects.for_tenant(Tenant.objects.get(pk=tenant))
    changing = change(files.bucket("docs"), files.bucket("plain"), f"{change.__name__}/{number}")
    next(changing)
    step.left = number
    with connection.execute_wrapper(step.statement):
        next(changing, None)
    return 0


if __name__ == "__main__":
    sys.modules["tests.storage_meta.killed"] = sys.modules["__main__"]
    sys.exit(main())
