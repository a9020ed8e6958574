"""How long records are kept: rules, and holds that beat them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.backends.utils import CursorWrapper

from auditing.adjusting import read_reason
from auditing.context import actor_of, audit_context, current
from auditing.errors import InvalidRow, LegalHold, RetentionRefused
from auditing.models import AuditLog, RetentionRecord
from auditing.models.logs import id_of
from controlplane.core.conf import conf
from controlplane.core.ids import NIL, now, uuid7_at

DEFAULTS = {"auditlog": 36, "inferencerequest": 13}
"""Months that each log is kept where no rule says otherwise. Hours of usage are kept as long as requests."""

LONGEST = 1200
Kind = RetentionRecord.Kind


@dataclass(frozen=True, slots=True)
class Decision:
    """A rule (months) or a hold (months None) that is in force. log "": every log. tenant_id None: every tenant."""

    id: UUID
    log: str
    tenant_id: UUID | None
    months: int | None = None

    def covers(self, log: str, tenant_id: UUID) -> bool:
        return self.log in ("", log) and self.tenant_id in (None, tenant_id)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is in force. rules: the latest last."""

    rules: Sequence[Decision] = ()
    holds: Sequence[Decision] = ()

    def months(self, log: str, tenant_id: UUID) -> int:
        """Months that rows of a log and tenant are kept: by the rule that is most about them, of several the latest."""
        found = [rule for rule in self.rules if rule.covers(log, tenant_id)]
        rule = max(reversed(found), key=lambda rule: (rule.tenant_id is not None, rule.log != ""), default=None)
        return DEFAULTS[log] if rule is None or rule.months is None else rule.months

    def hold(self, log: str, tenant_id: UUID) -> Decision | None:
        """A hold on rows of a log and tenant, if there is one."""
        return next((hold for hold in self.holds if hold.covers(log, tenant_id)), None)

    def due(self, log: str, tenant_id: UUID, month: date, present: date) -> bool:
        """Whether all rows of a UTC month are as old as they get. present: first day of the present month."""
        return (present.year - month.year) * 12 + present.month - month.month > self.months(log, tenant_id)

    def may_be_due(self, log: str, month: date, present: date) -> bool:
        """Whether it can be due for anybody: else nobody looks into it."""
        least = min([DEFAULTS[log], *(rule.months or 0 for rule in self.rules if rule.log in ("", log))])
        return (present.year - month.year) * 12 + present.month - month.month > least


def terms(using: str | None = None) -> Terms:
    """The rules and holds that are in force now."""
    records = RetentionRecord.objects.using(using or conf.DATABASE)
    released = records.filter(kind=Kind.RELEASE).values("releases")
    holds = records.filter(kind=Kind.HOLD).exclude(pk__in=released)
    return Terms(_decisions(records.filter(kind=Kind.RULE).order_by("pk")), _decisions(holds.order_by("pk")))


def _decisions(records: Iterable[RetentionRecord]) -> list[Decision]:
    return [Decision(r.pk, r.log, None if r.all_tenants else r.tenant_id, r.months) for r in records]


def rule(months: int, *, log: str = "", tenant: object = None, reason: str, by: object) -> RetentionRecord:
    """Keep a log for so many months (1 to 1,200) from now on; log "": each of them, tenant None: for every tenant.

    Raises InvalidRow, ReasonRequired. by: see `audit_context`.
    """
    if isinstance(months, bool) or not 1 <= months <= LONGEST:
        raise InvalidRow(message=f"A log cannot be kept for {months} months. Choose 1 to {LONGEST}.")
    return write(Kind.RULE, log, tenant, reason, by, months=months)


def hold(*, log: str = "", tenant: object = None, reason: str, by: object) -> RetentionRecord:
    """Let nothing of a log and tenant be removed or erased until the hold is released; "" and None: all of them.

    What is being removed at this moment is waited for. Raises InvalidRow, ReasonRequired.
    """
    return write(Kind.HOLD, log, tenant, reason, by)


def release(hold: object, *, reason: str, by: object) -> RetentionRecord:
    """End a hold, given as record or id. Raises RetentionRefused where it is none, or has ended; ReasonRequired."""
    using = conf.DATABASE
    with audit_context(actor=by, reason=read_reason(reason)):
        with connections[using].cursor() as cursor:
            turn(cursor)
        found = RetentionRecord.objects.filter(pk=id_of(hold), kind=Kind.HOLD).first()
        if found is None:
            raise RetentionRefused(
                message=f"There is no hold {id_of(hold)}. audit_retention plan shows those in force."
            )
        if RetentionRecord.objects.filter(releases=found.pk).exists():
            raise RetentionRefused(message=f"The hold {found.pk} was released before.")
        tenant = None if found.all_tenants else found.tenant_id
        return write(Kind.RELEASE, found.log, tenant, reason, by, releases=found.pk)


def write(kind: str, log: str, tenant: object, reason: str, by: object, **values: Any) -> RetentionRecord:
    """Write a record and its event, in the caller's transaction or its own. tenant None: of every tenant."""
    [record] = write_all(kind, log, [(tenant, values)], reason, by)
    return record


def write_all(
    kind: str, log: str, each: Sequence[tuple[object, dict[str, Any]]], reason: str, by: object
) -> list[RetentionRecord]:
    """The same for many at once: (tenant, what its record says)."""
    if log not in ("", *DEFAULTS):
        raise InvalidRow(message=f"There is no log {log!r}. Choose from {', '.join(DEFAULTS)}.")
    why, at = read_reason(reason), now()
    with audit_context(actor=by, reason=why):
        with connections[conf.DATABASE].cursor() as cursor:
            turn(cursor)
        who = actor_of(by) if by is not None else None
        label = (who.label or who.id) if who else current().get("actor_label", "")
        records = [
            RetentionRecord(
                id=uuid7_at(at), created_at=at, kind=kind, log=log, tenant_id=NIL if tenant is None else id_of(tenant),
                all_tenants=tenant is None, reason=why, actor=label, **values,
            )
            for tenant, values in each
        ]  # fmt: skip
        RetentionRecord.objects.bulk_create(records, batch_size=500)
        for record, (tenant, values) in zip(records, each, strict=True):
            said = {name: value.hex() if isinstance(value, bytes) else value for name, value in values.items() if value}
            details = {"log": log, "all_tenants": tenant is None, **said}
            AuditLog.objects.record(f"retention.{kind}", tenant=tenant, resource=record, details=details)
    return records


def turn(cursor: CursorWrapper) -> None:
    """Until the transaction ends nobody else decides about records, or removes any: so a hold holds once it is made."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('cp_retention'), 1)")


def refuse_held(log: str, tenants: Iterable[UUID], using: str | None = None) -> None:
    """Raises LegalHold where rows of a log and of one of the tenants are held. The caller has its `turn`."""
    in_force = terms(using)
    for tenant in tenants:
        found = in_force.hold(log, tenant)
        if found is not None:
            raise LegalHold(
                message=f"{log} of tenant {tenant} is held ({found.id}). Release the hold first, or wait for it."
            )
