"""How the duties of the worker stand: on time, running, failing or late. One rule for pages, metrics and checks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from controlplane.core.conf import conf
from controlplane.core.duties import registered
from controlplane.core.models import WorkerDuty

PERIODS = 10
"""A duty that has not run for so many of its periods is late."""

LEAST_S = 60.0
"""None is late sooner than that: a worker that is started anew takes some seconds."""


class State(Enum):
    ON_TIME = "on time"
    RUNNING = "running"
    FAILING = "failing"
    LATE = "late"
    NEVER = "not yet"


@dataclass(frozen=True, slots=True)
class Standing:
    """A duty of this project, or one that only its row knows (of another version: every_s None, and never late)."""

    name: str
    every_s: float | None
    row: WorkerDuty | None
    state: State

    @property
    def wrong(self) -> bool:
        return self.state in (State.FAILING, State.LATE)


def standings(present: datetime, using: str | None = None) -> list[Standing]:
    """Every duty by name; one query."""
    rows = {row.name: row for row in WorkerDuty.objects.using(using or conf.DATABASE)}
    periods: dict[str, float | None] = {duty.name: duty.every_s for duty in registered()}
    return [
        Standing(name, periods.get(name), rows.get(name), state_of(rows.get(name), periods.get(name), present))
        for name in sorted(periods.keys() | rows.keys())
    ]


def last_seen(row: WorkerDuty) -> datetime:
    """When it began or ended last: what was killed has begun only."""
    return max(row.started_at, row.finished_at or row.started_at)


def state_of(row: WorkerDuty | None, every_s: float | None, present: datetime) -> State:
    if row is None:
        return State.NEVER
    if every_s is not None and present - last_seen(row) > timedelta(seconds=max(PERIODS * every_s, LEAST_S)):
        return State.LATE
    if row.failures:
        return State.FAILING
    return State.RUNNING if row.finished_at is None or row.finished_at < row.started_at else State.ON_TIME
