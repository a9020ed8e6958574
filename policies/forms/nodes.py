"""What a template draws: inputs, boxes beside them, rows of tables. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """One input, or a group of them, for the template `policies/inputs/<kind>.html`.

    values: texts that are set or chosen. choices: (value, label). children: parts of a row; rows: of a table, the last
    of them may be blank. errors: sentences. empty: the box that says "an empty list", None where there is none.
    """

    kind: str
    name: str
    label: str
    help: str = ""
    values: Sequence[str] = ()
    choices: Sequence[tuple[str, str]] = ()
    errors: Sequence[str] = ()
    children: Sequence[Node] = ()
    rows: Sequence[Row] = ()
    empty: Box | None = None
    placeholder: str = ""
    required: bool = False

    @property
    def id(self) -> str:
        return "id_" + self.name.replace(".", "_")

    @property
    def value(self) -> str:
        return self.values[0] if self.values else ""

    @property
    def troubled(self) -> bool:
        """Whether anything is wrong here or below."""
        return bool(self.errors) or any(
            each.troubled for each in (*self.children, *(node for row in self.rows for node in row.cells))
        )


@dataclass(frozen=True)
class Box:
    """A check box beside an input."""

    name: str
    label: str
    checked: bool

    @property
    def id(self) -> str:
        return "id_" + self.name.replace(".", "_")


@dataclass(frozen=True)
class Row:
    """A row of a table. was: JSON of what it held, where the inputs alone would not bring it back."""

    name: str
    label: str
    cells: Sequence[Node]
    was: str
    removed: Box | None
    errors: Sequence[str] = ()
