from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter


@dataclass(frozen=True, slots=True)
class Goal:
    """What must hold: a name, the value measured, the least that is required, and how it is written."""

    name: str
    value: float
    limit: float
    form: str
    most: bool = False  # the limit is the most

    @property
    def met(self) -> bool:
        return self.value <= self.limit if self.most else self.value >= self.limit


def rate(rows: int, work: Callable[[], None], before: Callable[[], None], times: int = 3) -> float:
    """Rows per second, the median of several runs; `before` puts things back and is not counted."""
    rates = []
    for _ in range(times):
        before()
        began = perf_counter()
        work()
        rates.append(rows / (perf_counter() - began))
    return median(rates)


def show(title: str, measured: dict[str, float], unit: str, goals: list[Goal], form: str = "{:,.0f}") -> bool:
    """Write the table of one benchmark; whether every goal is met."""
    lines = [title, *(f"  {name:<44} {form.format(value):>12} {unit}" for name, value in measured.items())]
    for goal in goals:
        value, limit = goal.form.format(goal.value), goal.form.format(goal.limit)
        lines.append(
            f"  {'met   ' if goal.met else 'MISSED'} {goal.name}: {value}, required {'at most ' if goal.most else ''}{limit}"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    return all(goal.met for goal in goals)
