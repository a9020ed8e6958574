"""What the policies say of a call about what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage_meta.handle import Files


def demand(files: Files, mode: str, key: str = "", *, bucket: str | None = None) -> None:
    """Raises AccessDenied unless the policies of the handle, if any, allow `mode`: read, write, delete or list."""
    raise NotImplementedError


def allowed(files: Files, mode: str, key: str, *, bucket: str | None = None) -> bool:
    """The same as an answer, for entries of a page."""
    raise NotImplementedError
