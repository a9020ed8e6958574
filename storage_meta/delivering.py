"""Sends events to the hooks that asked for them."""

from __future__ import annotations

from datetime import datetime


def deliver_due(*, limit: int = 100, now: datetime | None = None) -> int:
    """Send what is due, at most `limit` events; returns how many were tried."""
    raise NotImplementedError
