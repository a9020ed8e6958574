from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from typing import Any

from django.db.migrations.operations import RunSQL
from django.db.migrations.operations.base import Operation


class RunSQLFile(RunSQL):
    """Run `<package>/sql/<name>.up.sql` forward and `<name>.down.sql` back.

    The files are frozen once released: a change is a new number. state_operations tell Django what the file made.
    """

    def __init__(self, package: str, name: str, state_operations: Sequence[Operation] | None = None) -> None:
        self.package, self.name = package, name
        self.state_operations = list(state_operations or [])
        self.hints: dict[str, Any] = {}

    @cached_property
    def sql(self) -> str:  # type: ignore[override]
        return self._read("up")

    @cached_property
    def reverse_sql(self) -> str:  # type: ignore[override]
        return self._read("down")

    def _read(self, direction: str) -> str:
        return (resources.files(self.package) / "sql" / f"{self.name}.{direction}.sql").read_text(encoding="utf-8")

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        kwargs: dict[str, Any] = {"package": self.package, "name": self.name}
        if self.state_operations:
            kwargs["state_operations"] = self.state_operations
        return self.__class__.__qualname__, [], kwargs

    def describe(self) -> str:
        return f"Run {self.package}/sql/{self.name}.up.sql"
