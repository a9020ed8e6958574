from __future__ import annotations

from datetime import timedelta
from typing import Self

from django.db import models
from django.db.models.lookups import LessThanOrEqual

from controlplane.core.constraints import json_object
from controlplane.core.fields import created_at_field, id_field
from controlplane.core.ids import now

KEPT_FOR = timedelta(days=1)
MAX_BYTES = 64 * 1024 * 1024


class Octets(models.Func):
    """Bytes of a column."""

    function = "octet_length"
    output_field = models.IntegerField()


class PriceImportDraftQuerySet(models.QuerySet["PriceImportDraft"]):
    def of(self, person: str) -> Self:
        """Those of one person, by the text of the id: at most one, none that is too old."""
        return self.filter(uploaded_by=person, created_at__gt=now() - KEPT_FOR)

    def expired(self) -> Self:
        return self.filter(created_at__lte=now() - KEPT_FOR)


class PriceImportDraft(models.Model):
    """A price file that somebody has uploaded and looks at, until it is applied: one per person, for a day at most.

    A row, because the answer to the second form may come from another process. It decides nothing: what is applied is
    planned anew from `content`, and refused if that differs from what was shown (`digest`). Written by `catalog.drafts`.
    """

    id = id_field()
    uploaded_by = models.CharField(max_length=64, db_comment="Id of the person who looks at it")
    name = models.CharField(max_length=200, db_comment="Name of the file")
    content = models.BinaryField(db_comment="The file, compressed (zlib)")
    source = models.CharField(max_length=100, db_comment="Whose file it is")
    source_version = models.CharField(max_length=200, blank=True, default="", db_comment="What the source calls it")
    effective_from = models.DateTimeField(
        null=True, blank=True, db_comment="From when it is to hold; NULL: when applied"
    )
    threshold = models.DecimalField(max_digits=8, decimal_places=2, db_comment="Percent from which a move is flagged")
    owner = models.CharField(
        max_length=63,
        blank=True,
        default="",
        db_comment="Slug of the tenant whose prices these are; empty: list prices",
    )
    digest = models.CharField(max_length=64, db_comment="Of the diff that was shown last")
    diff = models.JSONField(default=dict, db_comment="The diff that was shown last")
    created_at = created_at_field()

    objects = PriceImportDraftQuerySet.as_manager()

    class Meta:
        verbose_name = "draft of a price import"
        verbose_name_plural = "drafts of price imports"
        db_table_comment = "A price file that somebody looks at before it is applied; one per person, for a day"
        constraints = [
            models.UniqueConstraint(fields=["uploaded_by"], name="cp_catalog_priceimportdraft_one_each"),
            models.CheckConstraint(
                condition=LessThanOrEqual(Octets("content"), models.Value(MAX_BYTES)),
                name="cp_catalog_priceimportdraft_content_fits",
            ),
            json_object("diff", "cp_catalog_priceimportdraft_diff_is_object", max_bytes=4 * MAX_BYTES),
        ]

    def __str__(self) -> str:
        return self.name
