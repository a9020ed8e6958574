"""What a platform does by itself, at its own pace: named duties, each done by one process at a time.

An app registers its duties in `ready()`; `manage.py run_worker` and `run_maintenance` do them (`controlplane.worker`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class Run(Protocol):
    """Does a part of the work, short enough to be interrupted after it. True: there is more to do, call again at once."""

    def __call__(self, now: datetime) -> bool | None: ...


@dataclass(frozen=True, slots=True)
class Duty:
    """every_s: seconds from the end of one run to the next, where nothing was left. at_start: at once when a worker starts.

    alone: one process at a time, by an advisory lock; False: its own statements see to that (`SKIP LOCKED`).
    """

    name: str
    every_s: float
    run: Run
    at_start: bool = True
    alone: bool = True


_duties: dict[str, Duty] = {}


def register(duty: Duty) -> None:
    """Name a duty, from its app's `ready()`."""
    _duties[duty.name] = duty


def registered() -> list[Duty]:
    return list(_duties.values())
