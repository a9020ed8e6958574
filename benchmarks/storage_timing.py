"""How long the database takes for a statement, and what it touches: those that our calls ran, beside others on the same rows.

Rows are made but not sent: on both sides that would take longer than finding them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

from django.db import connection


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement with its parameters."""

    statement: str
    given: Any


@dataclass(frozen=True, slots=True)
class Timing:
    """p50, p99: milliseconds. buffers: pages of the database that one run touched. rows: that it made."""

    p50: float
    p99: float
    buffers: int
    rows: int

    @classmethod
    def of(cls, asked: Asked, seconds: float = 3.0, most: int = 50) -> Timing:
        """Warm: the first run is not counted; then runs for so long, three at least."""
        _explained(asked, "TIMING OFF")
        took: list[float] = []
        until = perf_counter() + seconds
        while len(took) < 3 or (len(took) < most and perf_counter() < until):
            took.append(_explained(asked, "TIMING OFF")["Execution Time"])
        top = plan(asked)
        return cls(median(took), sorted(took)[int(len(took) * 0.99)], buffers(top), round(top["Actual Rows"]))


def asked_by(call: Callable[[], object], holding: str) -> Asked:
    """The one statement of a call that holds this text."""
    seen: list[Asked] = []

    def listen(execute: Any, statement: Any, given: Any, many: bool, context: Any) -> Any:
        if holding in str(statement):
            seen.append(Asked(str(statement), given))
        return execute(statement, given, many, context)

    with connection.execute_wrapper(listen):
        call()
    return seen[-1]


def plan(asked: Asked) -> dict[str, Any]:
    """What it did, from the top."""
    top: dict[str, Any] = _explained(asked, "BUFFERS")["Plan"]
    return top


def _explained(asked: Asked, option: str) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, {option}, FORMAT JSON) {asked.statement}", asked.given)
        [[found]] = cursor.fetchall()
    told: dict[str, Any] = (found if isinstance(found, list) else json.loads(found))[0]
    return told


def buffers(top: dict[str, Any]) -> int:
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


def nodes(top: dict[str, Any]) -> list[dict[str, Any]]:
    """A plan and all below it."""
    return [top, *(each for below in top.get("Plans", []) for each in nodes(below))]


def beside(name: str, ours: Timing, theirs: Timing) -> float:
    """Write both on a line; returns how many times faster ours is, by the median."""
    ratio = theirs.p50 / ours.p50
    sys.stdout.write(f"  {name:<40} {_told(ours)}   beside {_told(theirs)}   {ratio:8.2f} x\n")
    return ratio


def _told(one: Timing) -> str:
    return f"{one.p50:9.2f} ms, p99 {one.p99:9.2f}, {one.buffers:8,} buffers"
