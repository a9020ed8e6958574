"""Rows of the access log as their columns take them, written in one statement however many they are."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.backends.utils import CursorWrapper
from psycopg.types.json import Jsonb

from auditing.context import Actor, current
from auditing.redaction import clean, redact
from controlplane.core.ids import uuid7_at
from controlplane.core.statements import fetch, plain

if TYPE_CHECKING:
    from storage_meta.handle import Files

TEXT_LIMIT = 4096
"""Characters of a text that are kept, as in the audit log."""

KEY_BYTES = 1024
"""Bytes of a key that are kept: no key is longer, but a call may be refused for one, and an index has to take it."""

LIMITS = {"action": 64, "record_type": 15, "bucket": 63, "version_id": 1024, "sequencer": 16, "etag": 255,
          "actor_type": 16, "actor_id": 255, "error_code": 64}  # fmt: skip
"""Characters that the columns of a row take; of other texts TEXT_LIMIT."""


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


def insert(
    cursor: CursorWrapper,
    files: Files,
    action: str,
    record_type: str,
    rows: list[dict[str, Any]],
    at: datetime,
    prepared: bool = True,
    **by: Any,
) -> list[UUID]:
    """Write rows of one instant, whose month takes rows: dicts of the log's columns, beside who and when. Returns their ids.

    prepared: not where the month may have been made just now: a prepared statement would not see it in an open transaction.
    by: columns of who did it, where it is not the handle. Texts are cut to what their columns take, and lose secrets, but for
    keys; order is that of the rows.
    """
    if not rows:
        return []
    ids = sorted(uuid7_at(at) for _ in rows)
    common = [_fitting(name, value) for name, value in _common(files, action, record_type, at, by).items()]
    told = [[_fitting(name, row.get(name, _default(files, name))) for name in _ROW] for row in rows]
    if len(rows) == 1 and not prepared:
        cursor.execute(_INSERT_ONE, [ids[0], *told[0], *common])
    elif len(rows) == 1:
        fetch(cursor.db.alias, _INSERT_ONE, [ids[0], *map(_alike, told[0]), *common])
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


def _alike(value: Any) -> Any:
    """Numbers as text: see statements.plain."""
    return plain(value) if isinstance(value, int) else value


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
