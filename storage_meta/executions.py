"""The log of what hooks were told, and what it adds up to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage_meta.models import HookExecution

if TYPE_CHECKING:
    from storage_meta.handle import Files


@dataclass(frozen=True, slots=True)
class HookStatistics:
    """Attempts of one hook. average_ms: how long they took; None without any."""

    hook_name: str
    total: int
    succeeded: int
    failed: int
    average_ms: float | None


def log(files: Files, **fields: Any) -> HookExecution:
    raise NotImplementedError


def statistics(files: Files, hours: int = 24) -> list[HookStatistics]:
    raise NotImplementedError
