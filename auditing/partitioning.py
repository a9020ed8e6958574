"""The months of all logs: what is missing of them is made, and recorded."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime

from auditing.models import AuditLog
from controlplane.core import partitions
from controlplane.core.conf import conf

Plans = dict[partitions.PartitionedLog, list[partitions.Step]]


def plans(now: datetime, ahead: int = partitions.AHEAD, months: Collection[date] = ()) -> Plans:
    """What is to be done for each log. Raises PartitionMissing for a month that no log takes."""
    return {log: partitions.plan(partitions.states(log), now, ahead, months) for log in partitions.registered()}


def apply(plans: Plans, actor: object) -> None:
    """Do what the plans say, and record it where anything is done. Raises PartitionBusy; doing it again goes on."""
    if not any(plans.values()):
        return
    for log, steps in plans.items():
        partitions.apply(log, steps, using=conf.DATABASE)
    AuditLog.objects.record("partitions.made", actor=actor, details=told(plans))


def told(plans: Plans) -> dict[str, list[str]]:
    """The months of the steps, by table."""
    return {log.table: list(dict.fromkeys(f"{step.month:%Y-%m}" for step in steps)) for log, steps in plans.items()}


def duty(now: datetime) -> None:
    """Months ahead, so that no log is ever without one to write into."""
    apply(plans(now), actor="worker")
