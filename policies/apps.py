from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from django.apps import AppConfig


class PoliciesConfig(AppConfig):
    """Who may do what, within which limits: policies, their resolution and the decisions made from them."""

    name = "policies"
    label = "cp_policies"
    verbose_name = "Policies"
    default_auto_field = "django.db.models.BigAutoField"
    audit_exempt: ClassVar[dict[str, str]] = {
        "PolicyVersion": "append-only, written by the trigger of a change that is in the audit log itself",
        "PolicyEpoch": "counts changes that are in the audit log themselves",
        "LimitAlert": "each is recorded as an event, limit.alert or limit.soft",
        "LimitBucket": "counters, changed by every call; what changes them is in the reservations and requests",
        "Reservation": "traffic, not configuration; one released by hand is recorded as an event",
    }

    def ready(self) -> None:
        import policies.checks  # noqa: F401 - registers them
        from controlplane.core import duties
        from controlplane.core.caches import invalidation
        from policies import limits, sweeping

        def give_back(now: datetime) -> None:
            limits.sweep(at=now)

        invalidation.duties.add("limits", sweeping.EVERY, sweeping.duty)
        # where no process decides about calls, the worker gives back what nobody ended
        duties.register(duties.Duty("reservations", sweeping.EVERY, give_back, alone=False))
