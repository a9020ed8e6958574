from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.checks import Warning as CheckWarning
from django.db import connections, models

from auditing import anchors, rebasing, sealing
from auditing.directory import directory
from auditing.errors import InvalidAnchoring
from auditing.pricer import pricer
from controlplane.core import partitions
from controlplane.core.conf import conf
from controlplane.core.ids import now

LOGS = ("cp_auditing_auditlog", "cp_auditing_inferencerequest")
APPEND_ONLY = (*LOGS, "cp_auditing_auditseal", "cp_auditing_retentionrecord")
LATEST = timedelta(seconds=600)
"""Sealing that is later than this is told."""


@register(Tags.database)
def check_logs(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterable[CheckMessage]:
    """Guards, months ahead, watched tables: what only the database can tell. Silent before the first migration."""
    if conf.DATABASE not in (databases or ()) or not _installed():
        return
    yield from _unguarded()
    yield from _renumbered()
    yield from _late()
    yield from _without_months()
    yield from _without_local_index()
    yield from _unwatched()


@register(deploy=True)
def check_spool(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Whether rows of the logs can outlive a process while the database is away."""
    if not conf.STATE_DIR:
        yield Warning(
            "There is no STATE_DIR: what waits for the database waits in memory alone, and is lost with the process.",
            hint="Set STATE_DIR to a folder of this machine that outlives the process: in a container, on a volume.",
            id="cp_auditing.W009",
        )


@register()
def check_hooks(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Whether what CONTROLPLANE names as directory and pricer is there, and can be asked."""
    for key, find, asked in (
        ("AUDIT_DIRECTORY", directory, ("tenants", "find", "names", "choices")),
        ("AUDIT_PRICER", pricer, ("__call__",)),
    ):
        try:
            hook = find()
        except ImportError as error:
            problem = f"does not import: {error}"
        else:
            missing = [name for name in asked if hook is not None and not callable(getattr(hook, name, None))]
            if not missing:
                continue
            problem = f"has no {', '.join(missing)}"
        yield Error(
            f"CONTROLPLANE[{key!r}] {problem}.",
            hint="Name an object by its dotted path, such as shop.audit.hook, or leave the key out.",
            id="cp_auditing.E005",
        )


def _installed() -> bool:
    return set(APPEND_ONLY) <= set(connections[conf.DATABASE].introspection.table_names())


# Triggers that keep what was written, and the functions they call: before its migration there is none, and none is missed.
_GUARDS = [
    *((table, name, "cp_refuse_change") for table in APPEND_ONLY for name in ("cp_append_only", "cp_no_truncate")),
    ("cp_auditing_auditlog", "cp_stamp", "cp_audit_stamp"),
    ("cp_auditing_retentionrecord", "cp_retired_whole", "cp_check_retired"),
    *(
        (table, name, "cp_refuse_closed_month")
        for table in ("cp_auditing_usagesummary", "cp_auditing_usageday")
        for name in (
            "cp_closed_month",
            "cp_closed_month_moved",
            "cp_closed_month_change",
            "cp_closed_month_delete",
            "cp_no_truncate",
        )
    ),
]
_MISSING = """
    WITH wanted AS (
        SELECT to_regclass(g.on_table) AS oid, g.name
        FROM unnest(%s::text[], %s::text[], %s::text[]) g (on_table, name, calls) WHERE to_regproc(g.calls) IS NOT NULL
    ), everywhere AS (
        SELECT oid, name FROM wanted UNION ALL
        SELECT i.inhrelid, w.name FROM wanted w JOIN pg_inherits i ON i.inhparent = w.oid
    )
    SELECT w.oid::regclass::text, w.name, t.oid IS NOT NULL
    FROM everywhere w LEFT JOIN pg_trigger t ON t.tgrelid = w.oid AND t.tgname = w.name
    WHERE t.tgenabled IS DISTINCT FROM 'A' ORDER BY 1, 2
"""


def _unguarded() -> Iterable[CheckMessage]:
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(_MISSING, [list(column) for column in zip(*_GUARDS, strict=True)])
        for table, name, there in cursor.fetchall():
            mend = f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name};" if there else _made_by(table, name)
            yield Error(
                f"{table} can be changed: its guard {name} is {'not ALWAYS' if there else 'missing'}.",
                hint=f"Somebody changed the database by hand: look with audit_verify at what else. Make it so again: {mend}",
                id="cp_auditing.E001",
            )


def _made_by(table: str, guard: str) -> str:
    if table in LOGS and guard in ("cp_append_only", "cp_no_truncate"):
        return f"SELECT cp_guard_log('{table}');"
    return f"as auditing/sql and the migrations of the app make {guard}."


def _renumbered() -> Iterable[CheckMessage]:
    if rebasing.changed():
        yield Error(
            "The database was restored from a dump: transactions are numbered anew, and nothing is sealed or rolled up.",
            hint="Run: manage.py audit_rebase --reason '…'",
            id="cp_auditing.E003",
        )


def _late() -> Iterable[CheckMessage]:
    late = sealing.lag(now())
    if late is not None and late > LATEST:
        yield CheckWarning(
            f"Nothing was sealed, or what was written has waited, for {int(late.total_seconds()):,} s.",
            hint="Let run_worker run, or look for a transaction that does not end: "
            "SELECT pid, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start;",
            id="cp_auditing.W008",
        )


@register(deploy=True)
def check_anchors(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Runs with `check --deploy`: on a developer's machine nobody anchors."""
    if not conf.AUDIT_ANCHORS:
        yield CheckWarning(
            "The audit log has no anchor: the owner of the database can change a row and seal everything anew, unseen.",
            hint="Set AUDIT_SIGNING_KEY, and AUDIT_ANCHORS to a place where that owner cannot write.",
            id="cp_auditing.W007",
        )
        return
    try:
        anchors.signer()
    except InvalidAnchoring as error:
        what, _, mend = error.message.partition(": ")
        yield CheckWarning(
            f"No anchor can be signed: {what}.", hint=f"{mend[:1].upper()}{mend[1:]}", id="cp_auditing.W007"
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
        if model._meta.managed and model.__name__ not in config.audit_exempt
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
