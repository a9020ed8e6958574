from __future__ import annotations

from policies.admin import limits, policies, reservations

__all__ = ["limits", "policies", "reservations"]
