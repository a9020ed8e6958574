"""What goes by itself: expired objects, old versions, lone markers, done events."""

from __future__ import annotations

from datetime import datetime


def run(now: datetime) -> bool:
    """Work off the lifecycle of every bucket; True if there may be more. A duty of the worker."""
    raise NotImplementedError
