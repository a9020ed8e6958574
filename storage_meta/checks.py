from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.files.storage import storages
from django.db import connections

from controlplane.core.conf import conf
from storage_meta import guard
from storage_meta.models import Bucket, StorageAudit
from storage_meta.stores import fault_of


@register()
def check_alias(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Whether STORAGES has the alias of buckets that name none. No other is taken: `default` is often public."""
    if conf.STORAGE_ALIAS not in storages.backends:
        yield _missing(conf.STORAGE_ALIAS, "CONTROLPLANE names")


@register(deploy=True)
def check_storage(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Whether that storage can be made, and has a folder of its own."""
    if conf.STORAGE_ALIAS not in storages.backends:
        return
    if fault := fault_of(conf.STORAGE_ALIAS):
        yield Error(
            f"The storage {conf.STORAGE_ALIAS!r} {fault}: nothing can be stored.",
            hint=f"Set STATE_DIR, or STORAGES[{conf.STORAGE_ALIAS!r}] with a location or bucket of its own.",
            id="cp_storage_meta.E001",
        )


@register(Tags.database)
def check_storages_of_buckets(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterable[CheckMessage]:
    """Whether STORAGES has what buckets name. Silent before the first migration."""
    if conf.DATABASE not in (databases or ()):
        return
    if Bucket._meta.db_table not in connections[conf.DATABASE].introspection.table_names():
        return
    named = Bucket.objects.using(conf.DATABASE).exclude(storage="").values_list("storage", flat=True).distinct()
    for alias in sorted(set(named) - set(storages.backends)):
        yield _missing(alias, "buckets name")


def _missing(alias: str, by: str) -> Error:
    return Error(
        f"STORAGES has no alias {alias!r}, which {by}.",
        hint=f"Set STORAGES[{alias!r}] to a storage that is not served, or name another alias.",
        id="cp_storage_meta.E001",
    )


@register(Tags.database)
def check_letters(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterable[CheckMessage]:
    """Whether the database knows letters beyond ASCII. Runs with `check --database` and before `migrate`."""
    if conf.DATABASE not in (databases or ()):
        return []
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute("SELECT coalesce((tsvector_to_array(to_tsvector('simple', 'ÜBER')))[1], '')")
        [[lowered]] = cursor.fetchall()
    return faults_of_letters(lowered)


def faults_of_letters(lowered: str) -> Iterable[CheckMessage]:
    """What is wrong with a server that makes this of the word ÜBER; pure."""
    if lowered != "über":
        yield Error(
            f"The database makes {lowered!r} of the word 'ÜBER': objects are not found by words with such letters.",
            hint="Create the database anew with a ctype that knows letters, as C.UTF-8 or en_US.UTF-8, and restore into it.",
            id="cp_storage_meta.E002",
        )


@register()
def check_hooks(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Whether what the operator opened to hooks can be read: nothing is sent, and no hook saved, where it cannot."""
    for fault in guard.faults():
        yield Error(
            fault,
            hint="Write networks as ('10.1.0.0/16',) and ports as (443, 8443).",
            id="cp_storage_meta.E003",
        )


_UNGUARDED = """
    SELECT t.relid::regclass::text, g.name FROM unnest(ARRAY['cp_append_only', 'cp_no_truncate']) g(name),
        pg_partition_tree('cp_storage_meta_storageaudit') t
    WHERE NOT EXISTS (
        SELECT FROM pg_trigger p WHERE p.tgrelid = t.relid AND p.tgname = g.name AND p.tgenabled = 'A')
    ORDER BY 1, 2
"""


@register(Tags.database)
def check_access_log(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterable[CheckMessage]:
    """Whether the access log and its months have their guards. Silent before the first migration."""
    if conf.DATABASE not in (databases or ()):
        return
    connection = connections[conf.DATABASE]
    if StorageAudit._meta.db_table not in connection.introspection.table_names():
        return
    with connection.cursor() as cursor:
        cursor.execute(_UNGUARDED)
        for table, trigger in cursor.fetchall():
            yield Error(
                f"{table} can be changed: its guard {trigger} is missing, or not ALWAYS.",
                hint=f"Somebody changed the database by hand. If the guard is there: ALTER TABLE {table} ENABLE ALWAYS TRIGGER "
                f"{trigger}; else make it as storage_meta/sql/0003_storageaudit.up.sql does.",
                id="cp_storage_meta.E004",
            )
