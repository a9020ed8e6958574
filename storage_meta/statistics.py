"""How much is stored, by backend, class and type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage_meta.handle import Files


@dataclass(frozen=True, slots=True)
class Count:
    """capped: there are more than `number`."""

    number: int
    capped: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Live objects of one backend, class and content type. size: bytes."""

    storage_backend: str
    storage_class: str
    content_type: str
    objects: int
    size: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """total_size: bytes of live objects; version_bytes: of all versions."""

    groups: list[Group] = field(default_factory=list)
    total_objects: int = 0
    total_size: int = 0
    delete_markers: int = 0
    total_versions: int = 0
    version_bytes: int = 0
    recent_audits_24h: int = 0
    recent_hooks_24h: int = 0


def statistics(files: Files) -> Statistics:
    raise NotImplementedError


def count(files: Files, query: str | None, cap: int = 10_000) -> Count:
    raise NotImplementedError
