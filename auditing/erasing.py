"""What is personal in the audit log, taken out of it: the proof over the rows stays, for it holds a commitment alone."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db import connections

from auditing.adjusting import read_reason
from auditing.context import audit_context
from auditing.errors import InvalidRow
from auditing.keeping import Kind, refuse_held, turn, write
from auditing.models.logs import id_of
from controlplane.core.conf import conf
from controlplane.core.ids import lower_bound, now

BATCH = 5000


@dataclass(frozen=True, slots=True)
class Erased:
    """rows: that lost their personal columns; records: of retention, one for each transaction."""

    rows: int
    records: int


_TENANTS = """
    SELECT DISTINCT tenant_id FROM cp_auditing_auditlog
    WHERE actor_id = %(actor)s AND pii_salt IS NOT NULL AND tenant_id = coalesce(%(tenant)s, tenant_id) ORDER BY 1
"""
_ROWS = """
    SELECT id FROM cp_auditing_auditlog
    WHERE tenant_id = %s AND actor_id = %s AND id < %s AND pii_salt IS NOT NULL ORDER BY id LIMIT %s
"""
_NULLED = """
    UPDATE cp_auditing_auditlog SET ip = NULL, user_agent = NULL, actor_label = NULL, pii_salt = NULL
    WHERE id = ANY (%s) AND tenant_id = %s AND actor_id = %s AND id >= %s AND id <= %s AND pii_salt IS NOT NULL
"""


def count(actor: str, *, tenant: object = None) -> int:
    """Rows that `erase` would take something out of."""
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM cp_auditing_auditlog WHERE actor_id = %s AND pii_salt IS NOT NULL "
            "AND tenant_id = coalesce(%s, tenant_id)",
            [actor, None if tenant is None else id_of(tenant)],
        )
        found: int = cursor.fetchone()[0]
    return found


def erase(actor: str, *, tenant: object = None, reason: str, by: object) -> Erased:
    """Set address, browser and name to NULL in the audit rows of an actor (its id), and the salt that could prove them.

    tenant: in its rows alone. 5,000 rows in a transaction, each with a record and an event, so an interrupted one goes on where
    it stopped. Raises LegalHold, before anything is changed, where a tenant concerned is held; ReasonRequired; InvalidRow for
    the empty id, which rows of nobody have.
    """
    if not actor.strip():
        raise InvalidRow(
            message="An actor is needed: the empty id is that of rows whose actor has none. Give the id of one."
        )
    why, found = read_reason(reason), Erased(0, 0)
    until = lower_bound(now())  # who erases itself writes further rows by that
    with audit_context(actor=by), connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(_TENANTS, {"actor": actor, "tenant": None if tenant is None else id_of(tenant)})
        tenants = [row[0] for row in cursor.fetchall()]
        refuse_held("auditlog", tenants)
    for one in tenants:
        while rows := _erase_some(actor, one, until, why, by):
            found = Erased(found.rows + rows, found.records + 1)
    return found


def _erase_some(actor: str, tenant: UUID, until: UUID, reason: str, by: object) -> int:
    with audit_context(actor=by), connections[conf.DATABASE].cursor() as cursor:
        turn(cursor)
        refuse_held("auditlog", [tenant])
        cursor.execute(_ROWS, [tenant, actor, until, BATCH])
        ids = [row[0] for row in cursor.fetchall()]
        if not ids:
            return 0
        record = write(Kind.ERASED, "auditlog", tenant, reason, by, rows=len(ids), subject=actor)
        cursor.execute("SELECT set_config('cp.erasure_record', %s, true)", [str(record.pk)])
        cursor.execute(_NULLED, [ids, tenant, actor, ids[0], ids[-1]])
        cursor.execute("SELECT set_config('cp.erasure_record', '', true)")
    return len(ids)
