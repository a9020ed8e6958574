from __future__ import annotations

from typing import Any

from django.core.management.commands import migrate
from django.db import connections

# One number for every database: a lock is of the database it is taken in.
LOCK = 0x63705F6D6967  # "cp_mig"


class Command(migrate.Command):
    """Django's own, one at a time: of several at once the first migrates, the others wait and then find it done."""

    def handle(self, *args: Any, **options: Any) -> str | None:
        connection = connections[options["database"]]
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = 0")  # however long the first one takes
            cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
            cursor.execute("RESET lock_timeout")
        try:
            done: str | None = super().handle(*args, **options)
            return done
        finally:
            if connection.connection is not None and not connection.connection.closed:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
