from __future__ import annotations

from django.db import models

from controlplane.core.constraints import json_object
from controlplane.core.fields import created_at_field, id_field


class PriceImport(models.Model):
    """One price file that was applied: where it came from, what it changed, and what was wrong in it.

    Written by the import in the transaction that changes the models and prices; never changed after.
    """

    id = id_field()
    source = models.CharField(max_length=500, db_comment="Path, address or name of the file")
    source_version = models.CharField(
        max_length=200, blank=True, default="", db_comment="What the source calls this state"
    )
    sha256 = models.CharField(max_length=64, db_comment="Of the bytes that were read")
    bytes = models.BigIntegerField(db_comment="Size of the file")
    started_at = models.DateTimeField(db_comment="When reading began")
    applied_at = created_at_field(db_comment="When it was applied")
    effective_from = models.DateTimeField(db_comment="From when its prices hold")
    actor = models.CharField(
        max_length=200, blank=True, default="", db_comment="Who applied it, as shown in the audit log"
    )
    reason = models.CharField(max_length=500, blank=True, default="", db_comment="Why")
    threshold = models.DecimalField(
        max_digits=8, decimal_places=2, db_comment="Percent from which a change of a rate was flagged"
    )
    counts = models.JSONField(default=dict, blank=True, db_comment="How many entries were added, changed, …")
    report = models.JSONField(default=dict, blank=True, db_comment="Faults and changes, entry by entry")
    meta = models.JSONField(default=dict, blank=True, db_comment="Entries of the file that are no models")

    class Meta:
        verbose_name = "price import"
        db_table_comment = "One price file that was applied: its source, its changes, its faults"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(sha256__regex="^[0-9a-f]{64}$"), name="cp_catalog_priceimport_sha256_is_hex"
            ),
            json_object("counts", "cp_catalog_priceimport_counts_is_object"),
            json_object("report", "cp_catalog_priceimport_report_is_object", max_bytes=64 * 1024 * 1024),
            json_object("meta", "cp_catalog_priceimport_meta_is_object", max_bytes=1024 * 1024),
        ]

    def __str__(self) -> str:
        return self.source
