"""How a bucket goes: only when nothing is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from controlplane.core.conf import conf
from storage_meta.errors import BucketNotEmpty, NoSuchBucket
from storage_meta.models import Bucket, StorageHook, StorageObject

if TYPE_CHECKING:
    from storage_meta.handle import Files


def remove(files: Files) -> Bucket:
    """Remove the bucket of a handle; returns what it was. Raises NoSuchBucket, BucketNotEmpty.

    Asked under the row's lock, which a put of another transaction waits for: either it is refused, or this is. Not by
    `delete()` alone, which would load each object to say that it is in the way.
    """
    with transaction.atomic(using=conf.DATABASE):
        bucket = Bucket.objects.select_for_update().filter(pk=files.the_bucket().pk).first()
        if bucket is None:
            raise NoSuchBucket(message=f"There is no bucket {files.bucket_name!r} here any more.")
        if StorageObject.objects.filter(tenant_id=files.tenant_id, bucket=bucket).exists():
            raise BucketNotEmpty(
                message=f"The bucket {bucket.name} has objects or versions. Delete them first, each version by its id."
            )
        if StorageHook.objects.filter(tenant_id=files.tenant_id, bucket=bucket).exists():
            raise BucketNotEmpty(
                message=f"Hooks are told of the bucket {bucket.name}. Delete them, or point them elsewhere."
            )
        bucket.delete()
    return bucket
