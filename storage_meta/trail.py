"""The access log: what is written to it and when, how it is read, how old rows go."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError, connections
from django.db.backends.utils import CursorWrapper
from psycopg.types.json import Jsonb

from auditing.context import Actor, actor_of, current
from auditing.middleware import client_address
from auditing.redaction import clean, redact
from controlplane.core.conf import conf
from controlplane.core.ids import now, uuid7_at
from storage_meta.errors import AccessDenied, InvalidArgument, StorageError, StorageUnavailable, TenantRequired
from storage_meta.models import StorageAudit
from tenants.apart import apart
from tenants.models import Tenant

if TYPE_CHECKING:
    from storage_meta.handle import Files

Handle = TypeVar("Handle", bound="Files")

logger = logging.getLogger(__name__)

TEXT_LIMIT = 4096
"""Characters of a text that are kept, as in the audit log."""

KEY_BYTES = 1024
"""Bytes of a key that are kept: no key is longer, but a call may be refused for one, and an index has to take it."""

LIMITS = {"action": 64, "record_type": 15, "bucket": 63, "version_id": 1024, "sequencer": 16, "etag": 255,
          "actor_type": 16, "actor_id": 255, "error_code": 64}  # fmt: skip
"""Characters that the columns of a row take; of other texts TEXT_LIMIT."""


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Rows, newest first; next_continuation_token: None at the end."""

    rows: list[StorageAudit]
    is_truncated: bool
    next_continuation_token: str | None


def opened(cls: type[Handle], tenant: Tenant, *, effective: Any, actor: object, request: Any) -> Handle:
    """A handle whose calls are recorded as of this actor and request, else as `audit_context` says.

    Raises TenantRequired for anything but a stored tenant, InvalidArgument for policies of another tenant and for a request
    that is none.
    """
    if not isinstance(tenant, Tenant) or tenant._state.adding:
        raise TenantRequired(message="What is stored belongs to a tenant. Name it: for_tenant(tenant), with its row.")
    if getattr(effective, "tenant_id", tenant.pk) != tenant.pk:
        raise InvalidArgument(message="These policies are of another tenant. Resolve those of the tenant itself.")
    by = None if actor is None else actor_of(actor)
    if request is None:
        return cls(tenant=tenant, effective=effective, actor=by)
    if not hasattr(request, "META"):
        raise InvalidArgument(message="request is no HTTP request. Give the view's, or leave it out.")
    user = getattr(request, "user", None)
    if by is None and user is not None:
        by = actor_of(user) if user.is_authenticated else Actor("anonymous")
    return cls(
        tenant=tenant,
        effective=effective,
        actor=by,
        source_ip=client_address(request),
        user_agent=request.META.get("HTTP_USER_AGENT", "")[:512],
        request_id=getattr(request, "request_id", ""),
    )


def who(files: Files) -> Actor:
    """Who acts through a handle: its actor, else that of the open `audit_context`, else the system."""
    if files.actor is not None:
        return files.actor
    said = current()
    return Actor(
        said.get("actor_type", "system"),
        said.get("actor_id", ""),
        said.get("actor_label", ""),
        said.get("actor_role", ""),
    )


@contextmanager
def asked(files: Files, action: str, record_type: str, key: str = "", version_id: str | None = None) -> Iterator[None]:
    """Around a call: what ends it in a StorageError is written down on a connection of its own before the error leaves.

    What the database itself refuses leaves as a StorageError too. An error is written once, by the innermost of several.
    """
    try:
        yield
    except StorageError as error:
        _ended(files, action, record_type, key, version_id, error)
        raise
    except DatabaseError as error:
        told = _told(error)
        if told is None:
            raise
        _ended(files, action, record_type, key, version_id, told)
        raise told from error
    except InterfaceError as error:
        raise _told(error) or error from error


def _told(error: Exception) -> StorageError | None:
    """What a refusal of the database means to a caller; None: that the code is wrong, which it should be told as it is."""
    if isinstance(error, DataError):
        return InvalidArgument(
            message="The database does not take one of these values. Check lengths, numbers and times."
        )
    if isinstance(error, IntegrityError):
        return StorageUnavailable(message="Somebody changed this at the same time. Nothing was changed; try again.")
    if isinstance(error, OperationalError | InterfaceError):
        return StorageUnavailable(message="The database does not answer, or is busy. Nothing was changed; try again.")
    return None


def _ended(files: Files, action: str, record_type: str, key: str, version_id: str | None, error: StorageError) -> None:
    if error.recorded:
        return
    error.recorded = True
    said: dict[str, Any] = {
        "object_key": key,
        "version_id": version_id,
        "success": False,
        "error_code": error.code,
        "error_message": error.message,
    }
    if isinstance(error, AccessDenied) and error.decision is not None:
        said["metadata"] = _decided(error.decision)

    def work() -> None:
        with connections[conf.DATABASE].cursor() as cursor:
            write(cursor, files, action, record_type, [said])

    try:
        apart(work, conf.DATABASE)
    except (DatabaseError, InterfaceError):  # the caller is told why his call failed, not why that was not written
        logger.exception(
            "%s of tenant %s ended in %s, which could not be recorded", action, files.tenant_id, error.code
        )


def _decided(decision: Any) -> dict[str, Any]:
    """Of a refusal by policies: why, and by whose word."""
    by = getattr(decision, "by", None)
    return {
        "reason": getattr(decision, "reason", ""),
        "policy": None if by is None else str(by),
        "pattern": getattr(decision, "pattern", None),
        "mode": getattr(decision, "request", {}).get("mode"),
    }


_ROW = {
    "bucket": "text", "object_key": "text", "version_id": "text", "sequencer": "text", "size": "bigint", "etag": "text",
    "is_delete_marker": "boolean", "bytes_sent": "bigint", "metadata": "jsonb", "success": "boolean", "error_code": "text",
    "error_message": "text",
}  # fmt: skip
_COMMON = ("created_at", "tenant_id", "action", "record_type", "actor_type", "actor_id", "actor_name", "source_ip", "user_agent",
           "request_id")  # fmt: skip
_NAMES = ", ".join(("id", *_ROW, *_COMMON))
_INSERT_ONE = (
    f"INSERT INTO cp_storage_meta_storageaudit ({_NAMES}) "  # noqa: S608 - names of columns, and places for values
    f"VALUES ({', '.join(['%s'] * (1 + len(_ROW) + len(_COMMON)))})"
)
# no COPY: a tenant's scope refuses it
_INSERT_MANY = (
    f"INSERT INTO cp_storage_meta_storageaudit ({_NAMES}) "  # noqa: S608
    f"SELECT u.*, {', '.join(['%s'] * len(_COMMON))} "
    f"FROM unnest(%s::uuid[], {', '.join(f'%s::{kind}[]' for kind in _ROW.values())}) u"
)


def write(cursor: CursorWrapper, files: Files, action: str, record_type: str, rows: list[dict[str, Any]]) -> None:
    """Rows of what the open transaction did: dicts of the log's columns, beside who and when, which the handle knows.

    All are of one instant, in the order given. Texts are cut to what their columns take, and lose secrets, but for keys.
    """
    insert(cursor, files, action, record_type, rows, now())


def insert(
    cursor: CursorWrapper,
    files: Files,
    action: str,
    record_type: str,
    rows: list[dict[str, Any]],
    at: datetime,
    **by: Any,
) -> list[UUID]:
    """The same for another instant, whose month takes rows; by: columns of who did it, other than the handle's. The ids."""
    if not rows:
        return []
    ids = sorted(uuid7_at(at) for _ in rows)
    common = [_fitting(name, value) for name, value in _common(files, action, record_type, at, by).items()]
    told = [[_fitting(name, row.get(name, _default(files, name))) for name in _ROW] for row in rows]
    if len(rows) == 1:
        cursor.execute(_INSERT_ONE, [ids[0], *told[0], *common])
    else:
        cursor.execute(_INSERT_MANY, [*common, ids, *(list(column) for column in zip(*told, strict=True))])
    return ids


def _common(files: Files, action: str, record_type: str, at: datetime, by: dict[str, Any]) -> dict[str, Any]:
    said, actor = current(), who(files)
    found = {
        "created_at": at,
        "tenant_id": files.tenant_id,
        "action": action,
        "record_type": record_type,
        "actor_type": actor.type,
        "actor_id": actor.id,
        "actor_name": actor.label,
        "source_ip": files.source_ip or said.get("ip"),
        "user_agent": files.user_agent or said.get("user_agent"),
        "request_id": files.request_id or said.get("request_id"),
    }
    return found | by


_DEFAULTS: dict[str, Any] = {
    "size": None,
    "bytes_sent": None,
    "metadata": None,
    "is_delete_marker": False,
    "success": True,
}


def _default(files: Files, name: str) -> Any:
    return files.bucket_name if name == "bucket" else _DEFAULTS.get(name, "")


def _fitting(name: str, value: Any) -> Any:
    """A value as its column takes it."""
    if name == "object_key":
        return _key(value)
    if name == "metadata":
        return None if value is None else Jsonb(redact(value))
    if name in ("created_at", "tenant_id", "source_ip") or name in _DEFAULTS:
        return value
    return _text(value)[: LIMITS.get(name, TEXT_LIMIT)]


def _text(value: Any) -> str:
    """Text without secrets; of what is no text its kind, which is what was wrong with it."""
    if value is None:
        return ""
    return clean(value) if isinstance(value, str) else f"<{type(value).__name__}>"


def _key(value: Any) -> str:
    """A key byte for byte, so that its rows are found by it; of what no key can be as much as the column takes."""
    if not isinstance(value, str):
        return _text(value)
    found: str = value
    if "\x00" in found or not found.isascii():
        found = found.replace("\x00", "\N{REPLACEMENT CHARACTER}")
        found = found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return found.encode()[:KEY_BYTES].decode(errors="ignore")


def log(files: Files, action: str, *, created_at: datetime | None = None, **fields: Any) -> UUID:
    raise NotImplementedError


def logs(files: Files, **filters: Any) -> AuditPage:
    raise NotImplementedError


def cleanup(files: Files, days: int = 365, dry_run: bool = False) -> int:
    raise NotImplementedError
