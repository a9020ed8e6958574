"""What tenants store, counted."""

from __future__ import annotations


def refresh() -> int:
    """Count what every tenant stores; returns the number of tenants."""
    raise NotImplementedError
