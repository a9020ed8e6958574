from __future__ import annotations

from policies.models.history import PolicyEpoch, PolicyVersion, PolicyVersionQuerySet
from policies.models.limits import LimitAlert, LimitBucket, LimitBucketQuerySet, Reservation, ReservationQuerySet
from policies.models.policy import Policy, PolicyQuerySet

__all__ = [
    "LimitAlert", "LimitBucket", "LimitBucketQuerySet", "Policy", "PolicyEpoch", "PolicyQuerySet", "PolicyVersion",
    "PolicyVersionQuerySet", "Reservation", "ReservationQuerySet",
]  # fmt: skip
