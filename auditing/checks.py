from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections, models

from controlplane.core import partitions
from controlplane.core.conf import conf
from controlplane.core.ids import now

LOGS = ("cp_auditing_auditlog", "cp_auditing_inferencerequest")
APPEND_ONLY = (*LOGS, "cp_auditing_auditseal", "cp_auditing_retentionrecord")


@register(Tags.database)
def check_logs(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterable[CheckMessage]:
    """Guards, months ahead, watched tables: what only the database can tell. Silent before the first migration."""
    if conf.DATABASE not in (databases or ()) or not _installed():
        return
    yield from _unguarded()
    yield from _without_months()
    yield from _without_local_index()
    yield from _unwatched()


def _installed() -> bool:
    return set(APPEND_ONLY) <= set(connections[conf.DATABASE].introspection.table_names())


def _unguarded() -> Iterable[CheckMessage]:
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(
            "SELECT t.name FROM unnest(%s::text[]) t(name) WHERE 2 > (SELECT count(*) FROM pg_trigger g "
            "WHERE g.tgrelid = to_regclass(t.name) AND g.tgname IN ('cp_append_only', 'cp_no_truncate') AND g.tgenabled = 'A')",
            [list(APPEND_ONLY)],
        )
        for (table,) in cursor.fetchall():
            made = "cp_guard_log" if table in LOGS else "cp_append_only"
            yield Error(
                f"{table} is not append-only: a guard is missing, or not ALWAYS.",
                hint=f"Somebody changed the database by hand. Make it so again: SELECT {made}('{table}');",
                id="cp_auditing.E001",
            )


def _without_months() -> Iterable[CheckMessage]:
    for log in partitions.registered():
        steps = partitions.plan(partitions.existing_months(log), now(), ahead=1)
        if steps:
            yield Error(
                f"{log.table} has no partition for {', '.join(f'{step.month:%Y-%m}' for step in steps)}.",
                hint="Run: manage.py audit_partitions",
                id="cp_auditing.E002",
            )


def _without_local_index() -> Iterable[CheckMessage]:
    """What is unique within a month alone: without the index of a month, a request is in it twice."""
    for log in partitions.registered():
        for month in partitions.without_local_index(log) if log.local_unique else []:
            name, columns = f"{log.table}_{month:%Y%m}", ", ".join(log.local_unique)
            yield Error(
                f"{name} has no unique index of ({columns}): the same request can be in it twice.",
                hint="Remove what is there twice, then make it: "
                f"CREATE UNIQUE INDEX CONCURRENTLY {name}_once ON {name} ({columns});",
                id="cp_auditing.E004",
            )


def _unwatched() -> Iterable[CheckMessage]:
    """Every model of an app with `audit_exempt` is watched by a trigger, or exempt with a reason."""
    asked = [
        (model, config)
        for config in apps.get_app_configs()
        if hasattr(config, "audit_exempt")
        for model in config.get_models(include_auto_created=True)
        if model.__name__ not in config.audit_exempt
    ]
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'cp_audit'")
        watched = {row[0] for row in cursor.fetchall()}
    tables = set(connections[conf.DATABASE].introspection.table_names())
    for model, _ in asked:
        if model._meta.db_table in tables - watched:
            yield _unwatched_error(model)


def _unwatched_error(model: type[models.Model]) -> CheckMessage:
    return Error(
        f"{model._meta.label} is neither watched by the audit log nor exempt.",
        hint=f"Add SELECT cp_audit_watch('{model._meta.db_table}') to its migration, or name it in audit_exempt with a reason.",
        id="cp_auditing.E006",
    )
