"""What would become of the demo's records in time, at once: they are summed up and sealed, a month is closed, some are held."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime

from auditing import months, retention, rollups, sealing, verifying
from auditing.context import audit_context, command_actor
from auditing.errors import MonthNotClosable
from auditing.models import RetentionRecord
from auditing.verified import note
from controlplane.core.ids import now
from controlplane.demo import traffic
from tenants.models import Tenant

HELD = "Complaint 2025-117 of a patient: nothing of it goes until that is decided."
INVOICED = "invoiced"


def settle(at: datetime) -> None:
    """Do what the worker does, for demo data that ends at `at`; the data are committed. What an open transaction of
    somebody else holds up, the worker does later.
    """
    house = Tenant.objects.get(slug=traffic.BEFORE.tenant)
    month = traffic.month_before(at)
    who = command_actor("seed_demo")
    while rollups.run(now()):
        pass
    with audit_context(actor=who):
        retention.hold(log="auditlog", tenant=house, reason=HELD, by=who)
        with suppress(MonthNotClosable):  # in the first days of a month the one before cannot be closed yet
            months.close(house, month.year, month.month, reason=INVOICED, accept_unpriced=True, by=who)
    sealing.seal(now(), force=True)
    report = verifying.verify()
    with audit_context(actor=who):
        note(report)


def release(tenants: Iterable[Tenant], reason: str) -> None:
    """Release the holds that the demo made for these tenants."""
    ids = [tenant.pk for tenant in tenants]
    released = RetentionRecord.objects.filter(kind="release").values("releases")
    holds = RetentionRecord.objects.filter(kind="hold", tenant_id__in=ids, reason=HELD).exclude(pk__in=released)
    for hold in holds:
        retention.release(hold, reason=reason, by=command_actor("seed_demo"))
