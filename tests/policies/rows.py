"""Policies as the pure modules see them, short enough for a test to read."""

from __future__ import annotations

from uuid import UUID

from policies.operators import Row


def row(number: int, layer: int, policy_type: str, config: dict, **fields) -> Row:
    flags = {name: frozenset(fields.pop(name, ())) for name in ("overridable", "final")}
    return Row(UUID(int=number), layer, fields.pop("priority", 0), policy_type, config, **flags)


def ids(*numbers: int) -> list[UUID]:
    return [UUID(int=number) for number in numbers]
