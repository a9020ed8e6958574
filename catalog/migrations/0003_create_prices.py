from __future__ import annotations

import datetime
from decimal import Decimal

import django.contrib.postgres.constraints
import django.contrib.postgres.fields.ranges
import django.core.validators
import django.db.models.deletion
import django.db.models.fields.json
import django.db.models.functions.comparison
import django.db.models.functions.datetime
from django.db import migrations, models

import catalog.models.fields
import controlplane.core.constraints
import controlplane.core.ids
from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("cp_catalog", "0002_guard_models"),
        ("cp_tenants", "0002_guard_tenancy"),
    ]

    operations = [
        RunSQLFile("catalog", "0004_plain_rates"),
        migrations.CreateModel(
            name="ModelPrice",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        db_comment="UUIDv7",
                        default=controlplane.core.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "effective_from",
                    models.DateTimeField(db_comment="From when it holds", default=controlplane.core.ids.now),
                ),
                (
                    "effective_to",
                    models.DateTimeField(
                        blank=True,
                        db_comment="Until when, exclusive; NULL: open",
                        help_text="Empty: until further notice.",
                        null=True,
                    ),
                ),
                (
                    "rates",
                    models.JSONField(
                        blank=True,
                        db_comment="The source's price fields, numbers as literal text, per unit",
                        default=dict,
                    ),
                ),
                (
                    "discount_percent",
                    models.DecimalField(
                        db_comment="Percent off",
                        decimal_places=4,
                        default=Decimal("0"),
                        db_default=Decimal("0"),
                        help_text="Percent off.",
                        max_digits=8,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                        verbose_name="discount",
                    ),
                ),
                (
                    "margin_percent",
                    models.DecimalField(
                        db_comment="Percent on top, after the discount",
                        decimal_places=4,
                        default=Decimal("0"),
                        db_default=Decimal("0"),
                        help_text="Percent on top, after the discount.",
                        max_digits=8,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                        verbose_name="margin",
                    ),
                ),
                (
                    "margin_fixed",
                    models.DecimalField(
                        db_comment="US dollars on top of each call",
                        decimal_places=12,
                        default=Decimal("0"),
                        db_default=Decimal("0"),
                        help_text="US dollars on top of each call.",
                        max_digits=24,
                        validators=[
                            django.core.validators.MinValueValidator(Decimal("0")),
                            django.core.validators.MaxValueValidator(Decimal("1000")),
                        ],
                        verbose_name="margin per call",
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        db_comment="manual, or where it was imported from", default="manual", max_length=500
                    ),
                ),
                (
                    "version",
                    models.CharField(
                        blank=True, db_comment="What the source calls this state", default="", max_length=200
                    ),
                ),
                (
                    "fingerprint",
                    models.CharField(db_comment="SHA-256 of the rates by value", editable=False, max_length=64),
                ),
                (
                    "reason",
                    models.CharField(blank=True, db_comment="Why it was set or ended", default="", max_length=500),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_comment="When the row was made",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "input_rate",
                    models.GeneratedField(
                        db_comment="US dollars per input token; NULL: no such rate",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Cast(
                            django.db.models.fields.json.KeyTextTransform("input_cost_per_token", "rates"),
                            models.DecimalField(decimal_places=30, max_digits=40),
                        ),
                        output_field=models.DecimalField(decimal_places=30, max_digits=40),
                    ),
                ),
                (
                    "output_rate",
                    models.GeneratedField(
                        db_comment="US dollars per output token; NULL: no such rate",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Cast(
                            django.db.models.fields.json.KeyTextTransform("output_cost_per_token", "rates"),
                            models.DecimalField(decimal_places=30, max_digits=40),
                        ),
                        output_field=models.DecimalField(decimal_places=30, max_digits=40),
                    ),
                ),
                (
                    "cache_read_rate",
                    models.GeneratedField(
                        db_comment="US dollars per token read from a cache; NULL: no such rate",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Cast(
                            django.db.models.fields.json.KeyTextTransform("cache_read_input_token_cost", "rates"),
                            models.DecimalField(decimal_places=30, max_digits=40),
                        ),
                        output_field=models.DecimalField(decimal_places=30, max_digits=40),
                    ),
                ),
                (
                    "cache_write_rate",
                    models.GeneratedField(
                        db_comment="US dollars per token written to a cache; NULL: no such rate",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Cast(
                            django.db.models.fields.json.KeyTextTransform("cache_creation_input_token_cost", "rates"),
                            models.DecimalField(decimal_places=30, max_digits=40),
                        ),
                        output_field=models.DecimalField(decimal_places=30, max_digits=40),
                    ),
                ),
                (
                    "reasoning_rate",
                    models.GeneratedField(
                        db_comment="US dollars per reasoning token; NULL: no such rate",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Cast(
                            django.db.models.fields.json.KeyTextTransform("output_cost_per_reasoning_token", "rates"),
                            models.DecimalField(decimal_places=30, max_digits=40),
                        ),
                        output_field=models.DecimalField(decimal_places=30, max_digits=40),
                    ),
                ),
                (
                    "batch_input_rate",
                    models.GeneratedField(
                        db_comment="US dollars per input token in a batch; NULL: no such rate",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Cast(
                            django.db.models.fields.json.KeyTextTransform("input_cost_per_token_batches", "rates"),
                            models.DecimalField(decimal_places=30, max_digits=40),
                        ),
                        output_field=models.DecimalField(decimal_places=30, max_digits=40),
                    ),
                ),
                (
                    "batch_output_rate",
                    models.GeneratedField(
                        db_comment="US dollars per output token in a batch; NULL: no such rate",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Cast(
                            django.db.models.fields.json.KeyTextTransform("output_cost_per_token_batches", "rates"),
                            models.DecimalField(decimal_places=30, max_digits=40),
                        ),
                        output_field=models.DecimalField(decimal_places=30, max_digits=40),
                    ),
                ),
                (
                    "image_rate",
                    models.GeneratedField(
                        db_comment="US dollars per image; NULL: no such rate",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Coalesce(
                            django.db.models.functions.comparison.Cast(
                                django.db.models.fields.json.KeyTextTransform("output_cost_per_image", "rates"),
                                models.DecimalField(decimal_places=30, max_digits=40),
                            ),
                            django.db.models.functions.comparison.Cast(
                                django.db.models.fields.json.KeyTextTransform("input_cost_per_image", "rates"),
                                models.DecimalField(decimal_places=30, max_digits=40),
                            ),
                        ),
                        output_field=models.DecimalField(decimal_places=30, max_digits=40),
                    ),
                ),
                (
                    "second_rate",
                    models.GeneratedField(
                        db_comment="US dollars per second; NULL: no such rate",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Coalesce(
                            django.db.models.functions.comparison.Cast(
                                django.db.models.fields.json.KeyTextTransform("output_cost_per_second", "rates"),
                                models.DecimalField(decimal_places=30, max_digits=40),
                            ),
                            django.db.models.functions.comparison.Cast(
                                django.db.models.fields.json.KeyTextTransform("input_cost_per_second", "rates"),
                                models.DecimalField(decimal_places=30, max_digits=40),
                            ),
                        ),
                        output_field=models.DecimalField(decimal_places=30, max_digits=40),
                    ),
                ),
                (
                    "character_rate",
                    models.GeneratedField(
                        db_comment="US dollars per character; NULL: no such rate",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Cast(
                            django.db.models.fields.json.KeyTextTransform("input_cost_per_character", "rates"),
                            models.DecimalField(decimal_places=30, max_digits=40),
                        ),
                        output_field=models.DecimalField(decimal_places=30, max_digits=40),
                    ),
                ),
                (
                    "query_rate",
                    models.GeneratedField(
                        db_comment="US dollars per query; NULL: no such rate",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Cast(
                            django.db.models.fields.json.KeyTextTransform("input_cost_per_query", "rates"),
                            models.DecimalField(decimal_places=30, max_digits=40),
                        ),
                        output_field=models.DecimalField(decimal_places=30, max_digits=40),
                    ),
                ),
                (
                    "page_rate",
                    models.GeneratedField(
                        db_comment="US dollars per page; NULL: no such rate",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Cast(
                            django.db.models.fields.json.KeyTextTransform("ocr_cost_per_page", "rates"),
                            models.DecimalField(decimal_places=30, max_digits=40),
                        ),
                        output_field=models.DecimalField(decimal_places=30, max_digits=40),
                    ),
                ),
            ],
            options={
                "verbose_name": "price",
                "db_table_comment": "What a model costs from one instant to another, for everybody or one tenant",
            },
        ),
        migrations.CreateModel(
            name="PriceImport",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        db_comment="UUIDv7",
                        default=controlplane.core.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("source", models.CharField(db_comment="Path, address or name of the file", max_length=500)),
                (
                    "source_version",
                    models.CharField(
                        blank=True, db_comment="What the source calls this state", default="", max_length=200
                    ),
                ),
                ("sha256", models.CharField(db_comment="Of the bytes that were read", max_length=64)),
                ("bytes", models.BigIntegerField(db_comment="Size of the file")),
                ("started_at", models.DateTimeField(db_comment="When reading began")),
                (
                    "applied_at",
                    models.DateTimeField(
                        db_comment="When it was applied",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                ("effective_from", models.DateTimeField(db_comment="From when its prices hold")),
                (
                    "actor",
                    models.CharField(
                        blank=True, db_comment="Who applied it, as shown in the audit log", default="", max_length=200
                    ),
                ),
                ("reason", models.CharField(blank=True, db_comment="Why", default="", max_length=500)),
                (
                    "threshold",
                    models.DecimalField(
                        db_comment="Percent from which a change of a rate was flagged", decimal_places=2, max_digits=8
                    ),
                ),
                (
                    "counts",
                    models.JSONField(blank=True, db_comment="How many entries were added, changed, …", default=dict),
                ),
                ("report", models.JSONField(blank=True, db_comment="Faults and changes, entry by entry", default=dict)),
                (
                    "meta",
                    models.JSONField(blank=True, db_comment="Entries of the file that are no models", default=dict),
                ),
            ],
            options={
                "verbose_name": "price import",
                "db_table_comment": "One price file that was applied: its source, its changes, its faults",
            },
        ),
        migrations.AddField(
            model_name="provider",
            name="discount_percent",
            field=models.DecimalField(
                db_comment="Percent off the list price",
                decimal_places=4,
                default=Decimal("0"),
                db_default=Decimal("0"),
                help_text="Percent off the list price; for prices made from now on.",
                max_digits=8,
                validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                verbose_name="discount",
            ),
        ),
        migrations.AddField(
            model_name="provider",
            name="margin_fixed",
            field=models.DecimalField(
                db_comment="US dollars on top of each call",
                decimal_places=12,
                default=Decimal("0"),
                db_default=Decimal("0"),
                help_text="US dollars on top of each call.",
                max_digits=24,
                validators=[
                    django.core.validators.MinValueValidator(Decimal("0")),
                    django.core.validators.MaxValueValidator(Decimal("1000")),
                ],
                verbose_name="margin per call",
            ),
        ),
        migrations.AddField(
            model_name="provider",
            name="margin_percent",
            field=models.DecimalField(
                db_comment="Percent on top, after the discount",
                decimal_places=4,
                default=Decimal("0"),
                db_default=Decimal("0"),
                help_text="Percent on top, after the discount.",
                max_digits=8,
                validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                verbose_name="margin",
            ),
        ),
        migrations.AddConstraint(
            model_name="provider",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("discount_percent__range", (Decimal("0"), Decimal("100"))),
                    ("margin_fixed__range", (Decimal("0"), Decimal("1000"))),
                    ("margin_percent__range", (Decimal("0"), Decimal("9999"))),
                ),
                name="cp_catalog_provider_terms_are_sane",
                violation_error_message="A discount is 0 to 100 percent, a margin 0 to 9,999 percent and 0 to 1,000 US dollars a call.",
            ),
        ),
        migrations.AddField(
            model_name="modelprice",
            name="model",
            field=models.ForeignKey(
                db_comment="Whose price",
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="prices",
                to="cp_catalog.aimodel",
            ),
        ),
        migrations.AddField(
            model_name="modelprice",
            name="tenant",
            field=models.ForeignKey(
                blank=True,
                db_comment="NULL: the list price",
                db_index=False,
                help_text="Empty: the list price, for everybody.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="cp_tenants.tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="priceimport",
            constraint=models.CheckConstraint(
                condition=models.Q(("sha256__regex", "^[0-9a-f]{64}$")), name="cp_catalog_priceimport_sha256_is_hex"
            ),
        ),
        migrations.AddConstraint(
            model_name="priceimport",
            constraint=models.CheckConstraint(
                condition=controlplane.core.constraints._IsJSONObject(models.F("counts"), models.Value(65536)),
                name="cp_catalog_priceimport_counts_is_object",
                violation_error_message="counts is a JSON object of at most 64 KiB.",
            ),
        ),
        migrations.AddConstraint(
            model_name="priceimport",
            constraint=models.CheckConstraint(
                condition=controlplane.core.constraints._IsJSONObject(models.F("report"), models.Value(67108864)),
                name="cp_catalog_priceimport_report_is_object",
                violation_error_message="report is a JSON object of at most 65536 KiB.",
            ),
        ),
        migrations.AddConstraint(
            model_name="priceimport",
            constraint=models.CheckConstraint(
                condition=controlplane.core.constraints._IsJSONObject(models.F("meta"), models.Value(1048576)),
                name="cp_catalog_priceimport_meta_is_object",
                violation_error_message="meta is a JSON object of at most 1024 KiB.",
            ),
        ),
        migrations.AddField(
            model_name="modelprice",
            name="price_import",
            field=models.ForeignKey(
                db_comment="The import that made it",
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="prices",
                to="cp_catalog.priceimport",
            ),
        ),
        migrations.AddField(
            model_name="aimodel",
            name="first_import",
            field=models.ForeignKey(
                db_comment="The import that made it",
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="cp_catalog.priceimport",
            ),
        ),
        migrations.AddField(
            model_name="aimodel",
            name="last_import",
            field=models.ForeignKey(
                db_comment="The last import that changed it",
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="cp_catalog.priceimport",
            ),
        ),
        migrations.AddIndex(
            model_name="modelprice",
            index=models.Index(fields=["model", "-effective_from"], name="modelprice_model_from_idx"),
        ),
        migrations.AddConstraint(
            model_name="modelprice",
            constraint=django.contrib.postgres.constraints.ExclusionConstraint(
                condition=models.Q(("tenant", None)),
                expressions=[
                    ("model", "="),
                    (
                        catalog.models.fields.Period(
                            "effective_from", "effective_to", django.contrib.postgres.fields.ranges.RangeBoundary()
                        ),
                        "&&",
                    ),
                ],
                name="cp_catalog_modelprice_one_list_price",
                violation_error_code="price_overlap",
                violation_error_message="Another price of this model holds in that time. End it first, or choose another time.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelprice",
            constraint=django.contrib.postgres.constraints.ExclusionConstraint(
                condition=models.Q(("tenant__isnull", False)),
                expressions=[
                    ("model", "="),
                    ("tenant", "="),
                    (
                        catalog.models.fields.Period(
                            "effective_from", "effective_to", django.contrib.postgres.fields.ranges.RangeBoundary()
                        ),
                        "&&",
                    ),
                ],
                name="cp_catalog_modelprice_one_tenant_price",
                violation_error_code="price_overlap",
                violation_error_message="Another price of this model holds in that time. End it first, or choose another time.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelprice",
            constraint=models.CheckConstraint(
                condition=models.Q(("effective_to__gte", models.F("effective_from"))),
                name="cp_catalog_modelprice_ends_after_start",
                violation_error_message="A price cannot end before it begins. Choose a later end, or the beginning to void it.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelprice",
            constraint=models.CheckConstraint(
                condition=models.Q(("fingerprint__regex", "^[0-9a-f]{64}$")),
                name="cp_catalog_modelprice_fingerprint_is_hex",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelprice",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("discount_percent__range", (Decimal("0"), Decimal("100"))),
                    ("margin_fixed__range", (Decimal("0"), Decimal("1000"))),
                    ("margin_percent__range", (Decimal("0"), Decimal("9999"))),
                ),
                name="cp_catalog_modelprice_terms_are_sane",
                violation_error_message="A discount is 0 to 100 percent, a margin 0 to 9,999 percent and 0 to 1,000 US dollars a call.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelprice",
            constraint=models.CheckConstraint(
                condition=controlplane.core.constraints._IsJSONObject(models.F("rates"), models.Value(65536)),
                name="cp_catalog_modelprice_rates_is_object",
                violation_error_message="rates is a JSON object of at most 64 KiB.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelprice",
            constraint=models.CheckConstraint(
                condition=models.Q(catalog.models.fields.PlainRates(models.F("rates"))),
                name="cp_catalog_modelprice_rates_are_plain",
                violation_error_message="A rate is a decimal number from 0, as text, in US dollars per unit.",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelprice",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "effective_from__range",
                        (
                            datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC),
                            datetime.datetime(2200, 1, 1, tzinfo=datetime.UTC),
                        ),
                    ),
                    models.Q(
                        ("effective_to", None),
                        (
                            "effective_to__range",
                            (
                                datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC),
                                datetime.datetime(2200, 1, 1, tzinfo=datetime.UTC),
                            ),
                        ),
                        _connector="OR",
                    ),
                ),
                name="cp_catalog_modelprice_in_our_time",
                violation_error_message="A price begins and ends between the years 2000 and 2200.",
            ),
        ),
    ]
