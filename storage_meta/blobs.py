"""The bytes: written before their rows, read in chunks, removed after their rows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import connections, transaction
from django.db.backends.utils import CursorWrapper

from controlplane.core import ids
from controlplane.core.conf import conf
from storage_meta.bodies import Body, Etag, pieces
from storage_meta.errors import BlobMissing, StorageUnavailable
from storage_meta.models.blobs import PendingBlob
from storage_meta.stores import GRACE, Saving, ask, remove_blob, storage_of
from tenants.apart import apart

__all__ = ["Body", "Received", "dropped", "kept", "open_blob", "receive", "remove_after_commit", "work_off"]

T = TypeVar("T")

FRESH = timedelta(minutes=1)
"""Who deletes removes blobs that were queued so recently; older ones have failed, or are many, and are the worker's."""

PATIENCE = 3
"""Failures of one storage after which a run leaves it alone."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes that were written and belong to nobody yet. storage: the alias. etag: MD5 in hex, of parts with -N."""

    storage: str
    blob_name: str
    size: int
    etag: str
    checksum_sha256: str


def receive(tenant_id: UUID, storage: str, body: Body, *, part_size: int | None = None) -> Received:
    """Write a body under a new name, which is noted before, on a connection of its own.

    storage: alias in STORAGES, empty: STORAGE_ALIAS. The body is read once, in the caller's thread, and at most 8 MiB of it are
    held. What fails leaves nothing behind but, at worst, a note, which the worker follows. Raises StorageUnavailable, and
    InvalidArgument for a wrong body or part_size.
    """
    alias, given, etag = storage or conf.STORAGE_ALIAS, pieces(body), Etag(part_size)
    storage_of(alias)
    name = new_name(tenant_id)
    _stored(lambda: _note(tenant_id, alias, name))
    saving = Saving(alias, name)
    try:
        with saving:
            for piece in given:
                etag.update(piece)
                saving.write(piece)
    except BaseException:
        if not saving.hung:  # what hangs may still write: the note stays, for the worker to look later
            _drop(alias, name)
        raise
    return Received(alias, name, etag.size, etag.value, saving.checksum_sha256)


def new_name(tenant_id: UUID) -> str:
    """`<tenant hex>/<yyyy>/<mm>/<dd>/<uuid7 hex>`: it tells whose it is and when it began, and no storage has to change it."""
    of = ids.uuid7()
    return f"{tenant_id.hex}/{ids.instant_of(of):%Y/%m/%d}/{of.hex}"


def kept(cursor: CursorWrapper, received: Received) -> None:
    """Within the transaction that names the blob: it is no upload any more. StorageUnavailable if the note is gone.

    The worker takes an old note by making it a removal before it touches the blob; who comes second waits here for the row.
    """
    cursor.execute(
        "DELETE FROM cp_storage_meta_pendingblob WHERE blob_name = %s AND reason = 'upload'", [received.blob_name]
    )
    if cursor.rowcount != 1:
        raise StorageUnavailable(
            message="The upload took longer than a day and was given up meanwhile. Nothing was changed; put it again."
        )


def dropped(received: Received) -> None:
    """The transaction that would have named the blob failed: remove it, if that can be done; never raises.

    Whether it failed is asked of the note, which that transaction deletes: where a commit arrived although its answer was lost,
    the note is gone, and the blob stays.
    """
    _drop(received.storage, received.blob_name)


def _note(tenant_id: UUID, alias: str, name: str) -> None:
    PendingBlob.objects.create(
        tenant_id=tenant_id,
        storage_backend=alias,
        blob_name=name,
        reason=PendingBlob.Reason.UPLOAD,
        started_at=ids.now(),
    )


def _drop(alias: str, name: str) -> None:
    try:
        noted = PendingBlob.objects.filter(blob_name=name)
        if apart(lambda: noted.filter(reason=PendingBlob.Reason.UPLOAD).update(reason=PendingBlob.Reason.DELETE)):
            ask(alias, lambda storage: storage.delete(name))
            apart(lambda: noted.filter(reason=PendingBlob.Reason.DELETE).delete())
    except Exception as error:  # the worker does it later
        logger.warning("The blob %s of a put that failed is left to the worker: %s", name, error)


def _stored(work: Callable[[], T]) -> T:
    try:
        return apart(work)
    except DatabaseError as error:
        raise StorageUnavailable(
            message="The database does not take the note of an upload. Nothing was changed; try again later."
        ) from error


def work_off(now: datetime, *, limit: int = 1000) -> bool:
    """Remove blobs whose versions are gone, and uploads that nobody finished; True if there may be more. A duty of the worker.

    Several may do it at once: to remove what is not there is no failure. limit: blobs of each storage.
    """
    old = PendingBlob.objects.filter(reason=PendingBlob.Reason.UPLOAD, started_at__lt=now - GRACE)
    old.update(reason=PendingBlob.Reason.DELETE)
    due = PendingBlob.objects.filter(reason=PendingBlob.Reason.DELETE, started_at__lte=now).order_by("started_at", "id")
    more = False
    for alias in list(due.order_by("storage_backend").values_list("storage_backend", flat=True).distinct()):
        found = list(due.filter(storage_backend=alias)[:limit])
        more |= _remove(alias, found) and len(found) == limit
    return more


def remove_after_commit(tenant_id: UUID) -> None:
    """After the open transaction commits, remove the blobs of the tenant's versions that went in it.

    What cannot be removed is left to the worker. Without an open transaction it happens at once.
    """
    transaction.on_commit(lambda: _remove_fresh(tenant_id), using=conf.DATABASE, robust=True)


def _remove_fresh(tenant_id: UUID) -> None:
    fresh = PendingBlob.objects.filter(
        tenant_id=tenant_id, reason=PendingBlob.Reason.DELETE, started_at__gt=ids.now() - FRESH
    )
    by_alias: dict[str, list[PendingBlob]] = {}
    for pending in fresh.order_by("started_at")[:100]:
        by_alias.setdefault(pending.storage_backend, []).append(pending)
    for alias, found in by_alias.items():
        _remove(alias, found, by_worker=False)


def _remove(alias: str, found: list[PendingBlob], *, by_worker: bool = True) -> bool:
    """Remove what no version refers to, and the notes; whether all of it could be done.

    No version can come to refer to a blob that none refers to: a copy locks the version that it copies. A version that goes
    meanwhile renews the note, so a note is deleted only as it was read.
    """
    failures = 0
    used = _in_use([pending.blob_name for pending in found])
    for pending in found:
        as_read = PendingBlob.objects.filter(pk=pending.pk, started_at=pending.started_at)
        try:
            if pending.blob_name not in used:
                remove_blob(alias, pending.blob_name)
        except StorageUnavailable:
            failures += 1
            if not by_worker or failures == PATIENCE:
                return False
            as_read.update(started_at=ids.now() - FRESH)  # to the end of the queue: others may fare better
        else:
            as_read.delete()
    return not failures


def _in_use(names: list[str]) -> set[str]:
    """Those that a version refers to. Asked after the notes were read, in a statement of its own: see _remove."""
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT blob_name FROM cp_storage_meta_storageversion WHERE blob_name <> '' AND blob_name = ANY(%s)",
            [names],
        )
        return {name for (name,) in cursor.fetchall()}


def open_blob(storage: str, blob_name: str) -> Any:
    """The file of a blob. Raises BlobMissing, StorageUnavailable."""
    try:
        return ask(storage, lambda there: there.open(blob_name, "rb"))
    except FileNotFoundError as error:
        raise missing() from error


def missing() -> BlobMissing:
    return BlobMissing(
        message="The bytes of this version are not where they were put. Restore them from a backup; "
        "storage_reconcile lists what is missing."
    )
