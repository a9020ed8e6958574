from __future__ import annotations

from policies.models.history import PolicyEpoch, PolicyVersion, PolicyVersionQuerySet
from policies.models.policy import Policy, PolicyQuerySet

__all__ = ["Policy", "PolicyEpoch", "PolicyQuerySet", "PolicyVersion", "PolicyVersionQuerySet"]
