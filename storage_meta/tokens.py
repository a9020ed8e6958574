"""Signed places in a list: where the next page begins, bound to the question that the first was an answer to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage_meta.handle import Files


def make(files: Files, operation: str, last: Any, **question: Any) -> str:
    """last: JSON, the last entry. question: what must be asked again alike (prefix, delimiter, filters, order)."""
    raise NotImplementedError


def read(files: Files, operation: str, token: str, **question: Any) -> Any:
    """The `last` of a token. Raises InvalidArgument for a bad signature or another question."""
    raise NotImplementedError
