from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policies.operators import Leaf


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Leaf]]:
    """Every leaf of a provenance with its path; a list stands for its entries, whose numbers are no part of it."""
    if isinstance(node, dict) and isinstance(node.get("op"), str):
        yield path, node
    elif isinstance(node, dict):
        for name, below in node.items():
            yield from leaves(below, (*path, name))
    else:
        for below in node:
            yield from leaves(below, path)
