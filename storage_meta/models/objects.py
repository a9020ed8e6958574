from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models import lookups
from django.urls import reverse

from controlplane.core.constraints import TenantForeignKey, json_object
from controlplane.core.fields import created_at_field, id_field
from storage_meta.models.bucket import Bucket
from storage_meta.reconciling import Report, reconcile
from tenants.models import Tenant

if TYPE_CHECKING:
    from storage_meta.handle import Files

METADATA_BYTES = 64 * 1024
TAGS_BYTES = 8 * 1024


class Content(models.Model):
    """What a version holds, and what its head copies from it: measures of the bytes, and what was said about them."""

    size = models.BigIntegerField(default=0, db_comment="Bytes; 0 of a delete marker")
    content_type = models.CharField(max_length=255, blank=True, default="", db_comment="MIME type, as the caller says")
    etag = models.CharField(
        max_length=255, blank=True, default="", db_comment="MD5 in hex; with - it is opaque, of parts; no quotes"
    )
    checksum_sha256 = models.CharField(max_length=64, blank=True, default="", db_comment="SHA-256 in hex; '': unknown")
    storage_backend = models.CharField(
        max_length=64, blank=True, default="", db_comment="Alias in STORAGES; a free label where there is no blob"
    )
    storage_class = models.CharField(max_length=64, default="STANDARD", db_comment="Class, as the caller says")
    metadata = models.JSONField(default=dict, blank=True, db_comment="Anything about it, at most 64 KiB; searchable")
    tags = models.JSONField(default=dict, blank=True, db_comment="At most 10 names with values; searchable exactly")

    class Meta:
        abstract = True


CONTENT = tuple(field.name for field in Content._meta.local_fields)
"""Names of the columns that a head copies from its version."""


def content_constraints(label: str) -> list[models.BaseConstraint]:
    prefix = f"cp_storage_meta_{label}"
    return [
        models.CheckConstraint(
            condition=models.Q(size__gte=0),
            name=f"{prefix}_size_not_negative",
            violation_error_message="A size is 0 or more bytes.",
        ),
        json_object("metadata", f"{prefix}_metadata_is_object", METADATA_BYTES),
        json_object("tags", f"{prefix}_tags_is_object", TAGS_BYTES),
    ]


_OCTETS = models.Func(models.F("object_key"), function="octet_length", output_field=models.IntegerField())


class StorageObjectQuerySet(models.QuerySet["StorageObject"]):
    def live(self) -> Self:
        """Those that a read finds: no delete marker on top. The partial indexes hold these alone."""
        return self.filter(is_delete_marker=False)


class StorageObjectManager(models.Manager.from_queryset(StorageObjectQuerySet)):  # type: ignore[misc]
    handle: ClassVar[type[Files]]
    """Stands above the models, so the app hands it in when it is ready."""

    def get_queryset(self) -> StorageObjectQuerySet:
        """Without the search vector, which is no data: nobody reads it but its index."""
        found: StorageObjectQuerySet = super().get_queryset().defer("search_vector")
        return found

    def for_tenant(self, tenant: Tenant, effective: Any = None, actor: object = None, request: Any = None) -> Files:
        """The handle on what a tenant has stored: see storage_meta.handle.Files.

        effective: what `Policy.objects.effective` gave; each call asks its `decide_storage` first. None: the caller is trusted
        within the tenant. actor, request: whom the access log names, else what `audit_context` says.
        """
        return self.handle.of(tenant, effective=effective, actor=actor, request=request)

    def reconcile(self, **options: Any) -> Report:
        """Compare blobs with rows: see storage_meta.reconciling.reconcile."""
        return reconcile(**options)


class StorageObject(Content):
    """A head: what a key of a bucket holds now. One row per key, while any version of it is left.

    Written by `storage_meta.writing` alone, together with the version it points at, which has the highest seq; its content is
    copied from there. Under a delete marker the head stays, with is_delete_marker set. The last version removed takes it along.
    """

    id = id_field()
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False, related_name="+", db_comment="Whose it is")
    bucket = models.ForeignKey(
        Bucket, models.PROTECT, db_index=False, db_constraint=False, related_name="+", db_comment="Where it lies"
    )
    object_key = models.TextField(db_collation="C", db_comment="S3's key, byte for byte; 1 to 1,024 bytes of UTF-8")
    current_version = models.ForeignKey(
        "StorageVersion",
        models.PROTECT,
        db_index=False,
        db_constraint=False,
        related_name="+",
        db_comment="Its version with the highest seq",
    )
    next_seq = models.BigIntegerField(default=1, db_comment="The seq that the next version gets")
    change_seq = models.BigIntegerField(
        default=0, db_comment="Rises with each change, also after the key was gone; 16 hex digits: the sequencer"
    )
    is_delete_marker = models.BooleanField(default=False, db_comment="Whether the current version is a delete marker")
    last_modified = models.DateTimeField(db_comment="When the current version came")
    created_at = created_at_field()
    search_vector = models.GeneratedField(
        expression=models.Func(
            models.F("object_key"), models.F("content_type"), models.F("metadata"), function="cp_storage_tsv"
        ),
        output_field=SearchVectorField(),
        db_persist=True,
        editable=False,
        db_comment="Words of key (A), content type (B) and metadata (C)",
    )

    keyset = ("last_modified", "id")
    objects = StorageObjectManager()

    class Meta:
        verbose_name = "object"
        db_table_comment = "What a key of a bucket holds now"
        constraints = [
            # what composite foreign keys point at
            models.UniqueConstraint(fields=["tenant", "id"], name="cp_storage_meta_storageobject_tenant_id"),
            # get and put; the conflict that makes a put one statement
            models.UniqueConstraint(
                fields=["tenant", "bucket", "object_key"], name="cp_storage_meta_storageobject_key_once"
            ),
            TenantForeignKey(
                fields=("tenant", "bucket"),
                to="cp_storage_meta.Bucket",
                name="cp_storage_meta_storageobject_bucket_of_tenant",
            ),
            # deferred: head and version are written in one transaction, either first
            TenantForeignKey(
                fields=("tenant", "current_version"),
                to="cp_storage_meta.StorageVersion",
                name="cp_storage_meta_storageobject_version_of_tenant",
                deferred=True,
            ),
            models.CheckConstraint(
                condition=models.Q(
                    lookups.GreaterThanOrEqual(_OCTETS, 1),
                    lookups.LessThanOrEqual(_OCTETS, 1024),
                ),
                name="cp_storage_meta_storageobject_key_length",
                violation_error_message="A key has 1 to 1,024 bytes of UTF-8.",
            ),
            *content_constraints("storageobject"),
        ]
        indexes = [
            # the listing walk; markers are not in it, so 200,000 of them cost nothing. The operators are those of
            # text_pattern_ops, the same order under "C", so that the planner never takes the index of all heads for it
            models.Index(
                fields=["tenant", "bucket", "object_key"],
                opclasses=["uuid_ops", "uuid_ops", "text_pattern_ops"],
                condition=models.Q(is_delete_marker=False),
                name="storageobject_listing_idx",
            ),
            GinIndex(
                fields=["tenant", "search_vector"],
                condition=models.Q(is_delete_marker=False),
                name="storageobject_search_idx",
            ),
            GinIndex(
                fields=["tenant", "metadata", "tags"],
                opclasses=["uuid_ops", "jsonb_path_ops", "jsonb_path_ops"],
                condition=models.Q(is_delete_marker=False),
                name="storageobject_contains_idx",
            ),
            models.Index(
                models.F("tenant"),
                models.F("last_modified").desc(),
                models.F("id").desc(),
                condition=models.Q(is_delete_marker=False),
                name="storageobject_recent_idx",
            ),
            # statistics, from the index alone
            models.Index(
                fields=["tenant", "bucket", "storage_backend", "storage_class", "content_type"],
                include=["size"],
                condition=models.Q(is_delete_marker=False),
                name="storageobject_statistics_idx",
            ),
        ]

    def __str__(self) -> str:
        return self.object_key

    def get_absolute_url(self) -> str:
        return reverse("admin:cp_storage_meta_storageobject_change", args=[self.pk])

    @property
    def sequencer(self) -> str:
        """Place of its last change among all of this key: 16 hex digits that compare as text, as in S3's events."""
        return f"{self.change_seq:016x}"


class StorageVersionQuerySet(models.QuerySet["StorageVersion"]):
    def newest_first(self) -> Self:
        return self.order_by("-seq")

    def with_latest(self) -> Self:
        """Annotates `latest`: whether the head points at it."""
        return self.annotate(
            latest=models.Exists(
                StorageObject.objects.filter(tenant=models.OuterRef("tenant"), current_version=models.OuterRef("pk"))
            )
        )


class StorageVersion(Content):
    """One version of an object, or a delete marker. Written with its head by `storage_meta.writing`.

    Never changes but for tags, comment, legal_hold and retain_until, which a trigger sees to; while it is held it cannot go.
    Its blob is its own or that of the version it was copied from; blobs never change. Nothing may be assumed of ids and time:
    the order of versions is `seq`.
    """

    id = id_field()
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False, related_name="+", db_comment="Whose it is")
    object = models.ForeignKey(
        StorageObject,
        models.CASCADE,
        db_index=False,
        db_constraint=False,
        related_name="versions",
        db_comment="Its head",
    )
    bucket = models.ForeignKey(
        Bucket, models.PROTECT, db_index=False, db_constraint=False, related_name="+", db_comment="Where it lies"
    )
    seq = models.BigIntegerField(db_comment="1, 2, 3 … of the key: the order of its versions")
    null_version = models.BooleanField(
        default=False, db_comment="Whether its version id is null, as without versioning"
    )
    external_id = models.CharField(max_length=1024, blank=True, default="", db_comment="Its id elsewhere; '': none")
    is_delete_marker = models.BooleanField(default=False, db_comment="Whether it says that the key is deleted")
    blob_name = models.TextField(blank=True, default="", db_collation="C", db_comment="Name of its blob; '': none")
    created_by = models.CharField(max_length=255, blank=True, default="", db_comment="Who put it")
    comment = models.TextField(blank=True, default="", db_comment="What the caller said of it")
    legal_hold = models.BooleanField(default=False, db_comment="Whether it is kept until that is taken back")
    retain_until = models.DateTimeField(null=True, blank=True, db_comment="Until when it is kept; NULL: no such time")
    created_at = created_at_field()

    objects = StorageVersionQuerySet.as_manager()

    class Meta:
        verbose_name = "version"
        db_table_comment = "One version of an object, or a delete marker"
        constraints = [
            # what heads point at; with the size, sums of what came since the last count read this index alone
            models.UniqueConstraint(
                fields=["tenant", "id"], include=["size"], name="cp_storage_meta_storageversion_tenant_id"
            ),
            models.UniqueConstraint(fields=["tenant", "object", "seq"], name="cp_storage_meta_storageversion_seq_once"),
            models.UniqueConstraint(
                fields=["tenant", "object", "external_id"],
                condition=~models.Q(external_id=""),
                name="cp_storage_meta_storageversion_external_id_once",
            ),
            # S3 knows one version id null per key
            models.UniqueConstraint(
                fields=["tenant", "object"],
                condition=models.Q(null_version=True),
                name="cp_storage_meta_storageversion_null_once",
            ),
            TenantForeignKey(
                fields=("tenant", "object"),
                to="cp_storage_meta.StorageObject",
                name="cp_storage_meta_storageversion_object_of_tenant",
                deferred=True,
            ),
            TenantForeignKey(
                fields=("tenant", "bucket"),
                to="cp_storage_meta.Bucket",
                name="cp_storage_meta_storageversion_bucket_of_tenant",
            ),
            models.CheckConstraint(
                condition=models.Q(is_delete_marker=False) | models.Q(size=0, blob_name=""),
                name="cp_storage_meta_storageversion_marker_is_empty",
                violation_error_message="A delete marker has neither size nor blob.",
            ),
            *content_constraints("storageversion"),
        ]
        indexes = [
            # reconciling walks blobs and rows in one order
            models.Index(fields=["blob_name"], condition=~models.Q(blob_name=""), name="storageversion_blob_idx"),
        ]

    def __str__(self) -> str:
        return self.version_id

    @property
    def version_id(self) -> str:
        """Its id as callers know it: `null`, or 32 hex digits."""
        return "null" if self.null_version else self.id.hex

    @property
    def is_latest(self) -> bool:
        return self.object.current_version_id == self.id
