"""What ends a call in an error is written to the access log, whatever becomes of the caller's transaction."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    connections,
)

from controlplane.core.conf import conf
from controlplane.core.ids import now
from storage_meta.errors import AccessDenied, InvalidArgument, StorageError, StorageUnavailable
from storage_meta.recording import insert
from tenants.apart import apart

if TYPE_CHECKING:
    from storage_meta.handle import Files

FOREIGN_SCOPE = "42501"
"""SQLSTATE of what row security, and the functions that search past it, refuse."""

logger = logging.getLogger(__name__)


@contextmanager
def asked(files: Files, action: str, record_type: str, key: str = "", version_id: str | None = None) -> Iterator[None]:
    """Around a call: what ends it in a StorageError is written down on a connection of its own before the error leaves.

    What the database itself refuses leaves as a StorageError too. An error is written once, by the innermost of several.
    """
    try:
        with answered():
            yield
    except StorageError as error:
        _ended(files, action, record_type, key, version_id, error)
        raise


@contextmanager
def answered() -> Iterator[None]:
    """What the database itself refuses leaves as a StorageError."""
    try:
        yield
    except (DatabaseError, InterfaceError) as error:
        told = _told(error)
        if told is None:
            raise
        raise told from error


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
    if isinstance(error, InternalError):  # a server or a login that only reads; a transaction that failed before
        return StorageUnavailable(
            message="The database takes no changes here, or not in this transaction. Try another."
        )
    if getattr(error.__cause__, "sqlstate", None) == FOREIGN_SCOPE:
        return AccessDenied(
            "The tenant scope that is open is another tenant's. Leave it, or use a handle of its tenant."
        )
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
            insert(cursor, files, action, record_type, [said], now())

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
