from __future__ import annotations

from policies.models.policy import Policy, PolicyQuerySet

__all__ = ["Policy", "PolicyQuerySet"]
