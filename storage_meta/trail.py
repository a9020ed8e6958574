"""The access log: what is written to it and when, how it is read, how old rows go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from storage_meta.models import StorageAudit
from tenants.models import Tenant

if TYPE_CHECKING:
    from storage_meta.handle import Files

Handle = TypeVar("Handle", bound="Files")


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Rows, newest first; next_continuation_token: None at the end."""

    rows: list[StorageAudit]
    is_truncated: bool
    next_continuation_token: str | None


def opened(cls: type[Handle], tenant: Tenant, *, effective: Any, actor: object, request: Any) -> Handle:
    """A handle whose calls are recorded as of this actor and request, else as `audit_context` says."""
    raise NotImplementedError


@contextmanager
def asked(files: Files, action: str, record_type: str, key: str = "", version_id: str | None = None) -> Iterator[None]:
    """Around a call: what ends it in a StorageError is written down on a connection of its own before the error leaves."""
    raise NotImplementedError


def write(cursor: CursorWrapper, files: Files, action: str, record_type: str, rows: list[dict[str, Any]]) -> None:
    """Rows of what the open transaction did: dicts of the log's columns, beside who and when, which the handle knows."""
    raise NotImplementedError


def log(files: Files, action: str, *, created_at: datetime | None = None, **fields: Any) -> UUID:
    raise NotImplementedError


def logs(files: Files, **filters: Any) -> AuditPage:
    raise NotImplementedError


def cleanup(files: Files, days: int = 365, dry_run: bool = False) -> int:
    raise NotImplementedError
