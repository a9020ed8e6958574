from __future__ import annotations

from typing import Self

from django.core.exceptions import ValidationError
from django.core.files.storage import storages
from django.core.validators import RegexValidator
from django.db import models
from django.urls import reverse

from controlplane.core.fields import created_at_field, id_field, updated_at_field
from tenants.models import Tenant

NAME = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
ONE_AT_LEAST = "Days and versions are 1 or more; leave the field empty for never."


class BucketQuerySet(models.QuerySet["Bucket"]):
    def for_tenant(self, tenant: Tenant) -> Self:
        return self.filter(tenant=tenant)


class Bucket(models.Model):
    """A named room for objects of one tenant, and the rules that they live by. Made and changed by operators, by plain ORM.

    Its name and its versioning are S3's: `suspended` keeps what is there and gives new puts the version id `null`; once
    enabled it never becomes `unversioned` again. A bucket with objects cannot be deleted.
    """

    class Versioning(models.TextChoices):
        UNVERSIONED = "unversioned"
        ENABLED = "enabled"
        SUSPENDED = "suspended"

    class AuditReads(models.TextChoices):
        NONE = "none", "None"
        DATA = "data", "Downloads"
        ALL = "all", "Downloads, heads and lists"

    id = id_field()
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False, related_name="buckets", db_comment="Whose it is")
    name = models.CharField(
        max_length=63,
        validators=[
            RegexValidator(
                NAME + r"(?<!\n)",
                "A bucket's name has 3 to 63 of a-z, 0-9, dot and hyphen, and begins and ends with a letter or digit.",
                code="invalid_name",
            )
        ],
        db_comment="Name in URIs: s3://<name>/<key>",
    )
    versioning = models.CharField(
        max_length=11, choices=Versioning, default=Versioning.UNVERSIONED, db_comment="What a put and a delete do"
    )
    storage = models.CharField(
        max_length=64, blank=True, default="", db_comment="Alias in STORAGES for new blobs; empty: STORAGE_ALIAS"
    )
    audit_reads = models.CharField(
        max_length=4,
        choices=AuditReads,
        default=AuditReads.DATA,
        db_comment="Which reads leave a row in the access log",
    )
    expire_days = models.PositiveIntegerField(
        null=True, blank=True, db_comment="Days after which a current version expires; NULL: never"
    )
    noncurrent_days = models.PositiveIntegerField(
        null=True, blank=True, db_comment="Days that a version is kept after a newer one came; NULL: for ever"
    )
    keep_versions = models.PositiveIntegerField(
        null=True, blank=True, db_comment="Newest noncurrent versions that are kept whatever their age; NULL: none"
    )
    audit_days = models.PositiveIntegerField(
        null=True, blank=True, db_comment="Days that its access log is kept; NULL: as all others"
    )
    default_retain_days = models.PositiveIntegerField(
        null=True, blank=True, db_comment="Days that a new version is locked; NULL: not at all"
    )
    created_at = created_at_field()
    updated_at = updated_at_field()

    reference = "name"
    objects = BucketQuerySet.as_manager()

    class Meta:
        db_table_comment = "A named room for objects of a tenant, and the rules they live by"
        constraints = [
            # what composite foreign keys point at
            models.UniqueConstraint(fields=["tenant", "id"], name="cp_storage_meta_bucket_tenant_id"),
            models.UniqueConstraint(
                fields=["tenant", "name"],
                name="cp_storage_meta_bucket_name_once",
                violation_error_code="name_taken",
                violation_error_message="Another bucket of this tenant has this name.",
            ),
            models.CheckConstraint(
                condition=models.Q(name__regex=NAME),
                name="cp_storage_meta_bucket_name_is_plain",
                violation_error_message="A bucket's name has 3 to 63 of a-z, 0-9, dot and hyphen.",
            ),
            models.CheckConstraint(
                condition=models.Q(versioning__in=["unversioned", "enabled", "suspended"]),
                name="cp_storage_meta_bucket_versioning",
                violation_error_message="Versioning is unversioned, enabled or suspended.",
            ),
            models.CheckConstraint(
                condition=models.Q(audit_reads__in=["none", "data", "all"]),
                name="cp_storage_meta_bucket_audit_reads",
                violation_error_message="Reads that are recorded: none, data or all.",
            ),
            # a day at least: 0 would expire what has just been put
            models.CheckConstraint(
                condition=models.Q(
                    *(
                        models.Q(**{f"{field}__isnull": True}) | models.Q(**{f"{field}__gte": 1})
                        for field in (
                            "expire_days",
                            "noncurrent_days",
                            "keep_versions",
                            "audit_days",
                            "default_retain_days",
                        )
                    )
                ),
                name="cp_storage_meta_bucket_a_day_at_least",
                violation_error_message=ONE_AT_LEAST,
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("admin:cp_storage_meta_bucket_change", args=[self.pk])

    def clean(self) -> None:
        before = Bucket.objects.filter(pk=self.pk).values_list("versioning", flat=True).first()
        if self.versioning == self.Versioning.UNVERSIONED and before not in (None, self.Versioning.UNVERSIONED):
            text = "A bucket that was versioned keeps its versions. Suspend versioning instead."
            raise ValidationError({"versioning": ValidationError(text, code="was_versioned")})
        if self.storage and self.storage not in storages.backends:
            known = ", ".join(sorted(storages.backends))
            text = f"STORAGES has no alias {self.storage!r}. It has: {known}."
            raise ValidationError({"storage": ValidationError(text, code="unknown_storage")})
