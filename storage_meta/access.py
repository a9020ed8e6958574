"""What the policies say of a call about what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage_meta.errors import AccessDenied
from storage_meta.models import Bucket

if TYPE_CHECKING:
    from policies.decisions import Decision
    from storage_meta.handle import Files

MODES = ("list", "read", "write", "delete")


def demand(files: Files, mode: str, key: str = "", *, bucket: str | None = None, whole: bool = False) -> None:
    """Raises AccessDenied unless the policies of the handle, if any, allow `mode`: read, write, delete or list.

    key: the key, or the prefix that is listed, as it is: no spelling of it is made another. bucket: instead of the handle's.
    Of a handle for all buckets each has to be allowed. whole: all keys that begin with key have to be, for what is told or
    done of them as one. The error is recorded by `trail.asked`, around the call. Ask this before the bucket is looked up:
    whoever is refused does not learn whether there is one.
    """
    if files.effective is None:
        return
    name = bucket if bucket is not None else files.bucket_name
    names = Bucket.objects.filter(tenant_id=files.tenant_id).order_by("name").values_list("name", flat=True)
    for one in [name] if name is not None else names:
        decision = _decide(files, one, key, mode, whole=whole)
        if not decision:
            raise AccessDenied(decision.message, decision=decision)


def allowed(files: Files, mode: str, key: str, *, bucket: str | None = None) -> bool:
    """The same as an answer, for entries of a page."""
    if files.effective is None:
        return True
    return bool(_decide(files, bucket if bucket is not None else files.bucket_name or "", key, mode))


def _decide(files: Files, bucket: str, key: str, mode: str, *, whole: bool = False) -> Decision:
    more = {"below": True} if whole else {}
    decision: Decision = files.effective.decide_storage(f"s3://{bucket}/{key}", mode, **more)
    return decision
