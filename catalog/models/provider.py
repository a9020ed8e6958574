from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models

from catalog.models.fields import money_field, percent_field, terms_check
from catalog.models.remembered import Remembered
from controlplane.core.constraints import json_object
from controlplane.core.fields import created_at_field, id_field, updated_at_field

PROVIDER_SLUG = r"^[a-z0-9][a-z0-9_.-]{0,63}$"


class Provider(Remembered):
    """Who serves models. Global: written by operators, read by everybody. Never deleted while it has models.

    Discount and margins are the defaults of new prices: a price keeps its own, so what was billed stays explained by it.
    """

    id = id_field()
    slug = models.CharField(
        max_length=64,
        unique=True,
        validators=[RegexValidator(PROVIDER_SLUG + r"(?<!\n)", "Lower-case letters, digits and _ . - inside.")],
        db_comment="First part of canonical ids",
    )
    name = models.CharField(max_length=200, db_comment="Name for people")
    family = models.CharField(
        max_length=32, blank=True, default="", help_text="Whose pricing rules it follows; empty: by its slug.",
        db_comment="Whose pricing rules it follows; empty: by its slug",
    )  # fmt: skip
    enabled = models.BooleanField(default=True, help_text="Off: none of its models can be used.", db_comment="In use")
    discount_percent = percent_field(
        "discount",
        help_text="Percent off the list price; for prices made from now on.",
        db_comment="Percent off the list price",
    )
    margin_percent = percent_field(
        "margin", help_text="Percent on top, after the discount.", db_comment="Percent on top, after the discount"
    )
    margin_fixed = money_field(
        "margin per call", help_text="US dollars on top of each call.", db_comment="US dollars on top of each call"
    )
    website = models.URLField(blank=True, default="", db_comment="Where it presents itself")
    doc_url = models.URLField("documentation", blank=True, default="", db_comment="Where its models are documented")
    notes = models.TextField(blank=True, default="", db_comment="For operators")
    metadata = models.JSONField(default=dict, blank=True, db_comment="Anything else")
    created_at = created_at_field()
    updated_at = updated_at_field()

    reference = "slug"

    class Meta:
        db_table_comment = "Who serves models"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(slug__regex=PROVIDER_SLUG),
                name="cp_catalog_provider_slug_is_plain",
                violation_error_message="A slug has lower-case letters, digits and _ . - inside.",
            ),
            json_object("metadata", "cp_catalog_provider_metadata_is_object"),
            terms_check("cp_catalog_provider_terms_are_sane"),
        ]

    def __str__(self) -> str:
        return self.name
