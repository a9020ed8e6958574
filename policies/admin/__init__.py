from __future__ import annotations

from policies.admin import policies

__all__ = ["policies"]
