"""What somebody who owns the database can do to the logs: with the guards off, and put back as if nothing had been."""

from __future__ import annotations

from contextlib import contextmanager

from django.db import connection, transaction

from auditing.models import AuditSeal
from auditing.sealing import seal
from controlplane.core.ids import now

GUARDED = (
    "cp_auditing_auditlog", "cp_auditing_inferencerequest", "cp_auditing_auditseal", "cp_auditing_retentionrecord",
    "cp_auditing_usagesummary",
)  # fmt: skip


def execute(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params or None)
        return cursor.fetchall() if cursor.description else None


def seal_all():
    """Seal all rows that were committed, in one run: as soon as no transaction runs that is older than theirs."""
    waiting = (
        "SELECT EXISTS (SELECT FROM cp_auditing_auditlog WHERE xid >= s.low) "
        "OR EXISTS (SELECT FROM cp_auditing_inferencerequest WHERE xid >= s.low) "
        "FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS low) s"
    )
    while execute(waiting) == [(True,)]:
        pass
    return seal(now(), force=True)


@contextmanager
def unguarded():
    """Within it nothing stands in the way, and afterwards nothing shows that the guards were gone."""
    with transaction.atomic():
        for table in GUARDED:
            execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield
        for table in GUARDED:
            for (name,) in execute(
                "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal", table
            ):
                execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")


def tamper(statement, *params):
    with unguarded():
        return execute(statement, *params)


def forge_chain(log, tenant_id):
    """Make the chain of a log and tenant anew over whatever its rows are now: roots, hashes and links."""
    prev = bytes(32)
    for one in AuditSeal.objects.filter(log=log, tenant_id=tenant_id).order_by("seq"):
        if one.kind == "rows":
            [(n, root)] = execute(
                f"SELECT count(*), cp_merkle_root(array_agg(cp_leaf(r) ORDER BY id)) FROM cp_auditing_{log} r "
                "WHERE tenant_id = %s AND xid >= %s AND xid < %s AND id BETWEEN %s AND %s",
                tenant_id, one.xid_from, one.xid_to, one.id_from, one.id_to,
            )  # fmt: skip
            tamper("UPDATE cp_auditing_auditseal SET n = %s, root = %s WHERE id = %s", n, bytes(root), one.pk)
        [(prev,)] = tamper("UPDATE cp_auditing_auditseal s SET prev = %s WHERE id = %s RETURNING s.prev", prev, one.pk)
        [(prev,)] = tamper(
            "UPDATE cp_auditing_auditseal s SET hash = cp_seal_hash(s) WHERE id = %s RETURNING hash", one.pk
        )
        prev = bytes(prev)


def rebuild_everything():
    """What seals cannot show: all of them made anew, checkpoints too, over rows that were changed."""
    logs = AuditSeal.objects.exclude(kind="checkpoint").values_list("log", "tenant_id").distinct()
    # a run is named by the checkpoint before it, so that the names are made anew from the first run on
    prev = bytes(32)
    for checkpoint in AuditSeal.objects.filter(kind="checkpoint").order_by("seq"):
        run = prev[:16].hex()
        tamper("UPDATE cp_auditing_auditseal SET run = %s::uuid WHERE run = %s AND seq < 1000000", run, checkpoint.run)
        for log, tenant_id in logs:
            forge_chain(log, tenant_id)
        tamper(
            "UPDATE cp_auditing_auditseal c SET prev = %s, root = s.root, n = s.n FROM (SELECT count(*) AS n, "
            "cp_merkle_root(array_agg(hash ORDER BY log COLLATE \"C\", tenant_id, seq)) AS root FROM cp_auditing_auditseal "
            "WHERE run = %s::uuid AND kind <> 'checkpoint') s WHERE c.id = %s",
            prev, run, checkpoint.pk,
        )  # fmt: skip
        [(prev,)] = tamper(
            "UPDATE cp_auditing_auditseal s SET hash = cp_seal_hash(s) WHERE id = %s RETURNING hash", checkpoint.pk
        )
        prev = bytes(prev)
