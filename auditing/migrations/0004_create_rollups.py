from __future__ import annotations

import uuid

import django.contrib.postgres.fields
from django.db import migrations, models

from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("cp_auditing", "0003_name_reasons"),
        ("cp_core", "0005_name_instants"),
    ]

    operations = [
        migrations.CreateModel(
            name="IngestWatermark",
            fields=[
                ("name", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("xid", models.BigIntegerField()),
                ("system_identifier", models.BigIntegerField()),
                ("xid_offset", models.BigIntegerField(default=0)),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "db_table_comment": "How far a job has read the logs",
                "default_permissions": ("view",),
            },
        ),
        RunSQLFile(
            package="auditing",
            name="0006_usagehour",
            state_operations=[
                migrations.CreateModel(
                    name="UsageHour",
                    fields=[
                        ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                        ("tenant_id", models.UUIDField()),
                        ("requests", models.BigIntegerField()),
                        ("completed", models.BigIntegerField()),
                        ("failed", models.BigIntegerField()),
                        ("cancelled", models.BigIntegerField()),
                        ("lost", models.BigIntegerField()),
                        ("unpriced", models.BigIntegerField()),
                        ("estimated", models.BigIntegerField()),
                        ("adjustments", models.BigIntegerField()),
                        ("prompt_tokens", models.BigIntegerField()),
                        ("completion_tokens", models.BigIntegerField()),
                        ("cached_tokens", models.BigIntegerField()),
                        ("cache_write_tokens", models.BigIntegerField()),
                        ("reasoning_tokens", models.BigIntegerField()),
                        ("cost", models.DecimalField(decimal_places=12, help_text="US dollars", max_digits=38)),
                        (
                            "estimated_cost",
                            models.DecimalField(decimal_places=12, help_text="US dollars, within cost", max_digits=38),
                        ),
                        ("latency_n", models.BigIntegerField()),
                        ("latency_sum_ms", models.BigIntegerField()),
                        ("latency_max_ms", models.IntegerField(null=True)),
                        (
                            "latency_hist",
                            django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=24),
                        ),
                        ("hour", models.DateTimeField()),
                        ("provider", models.CharField(max_length=64)),
                        ("model", models.CharField(max_length=265)),
                    ],
                    options={
                        "verbose_name": "usage of an hour",
                        "verbose_name_plural": "usage by hour",
                        "db_table": "cp_auditing_usagehour",
                        "abstract": False,
                        "default_permissions": ("view",),
                    },
                ),
            ],
        ),
        migrations.CreateModel(
            name="UsageDay",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField()),
                ("requests", models.BigIntegerField()),
                ("completed", models.BigIntegerField()),
                ("failed", models.BigIntegerField()),
                ("cancelled", models.BigIntegerField()),
                ("lost", models.BigIntegerField()),
                ("unpriced", models.BigIntegerField()),
                ("estimated", models.BigIntegerField()),
                ("adjustments", models.BigIntegerField()),
                ("prompt_tokens", models.BigIntegerField()),
                ("completion_tokens", models.BigIntegerField()),
                ("cached_tokens", models.BigIntegerField()),
                ("cache_write_tokens", models.BigIntegerField()),
                ("reasoning_tokens", models.BigIntegerField()),
                ("cost", models.DecimalField(decimal_places=12, help_text="US dollars", max_digits=38)),
                (
                    "estimated_cost",
                    models.DecimalField(decimal_places=12, help_text="US dollars, within cost", max_digits=38),
                ),
                ("latency_n", models.BigIntegerField()),
                ("latency_sum_ms", models.BigIntegerField()),
                ("latency_max_ms", models.IntegerField(null=True)),
                (
                    "latency_hist",
                    django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=24),
                ),
                ("day", models.DateField()),
                ("app_id", models.UUIDField(default=uuid.UUID("00000000-0000-0000-0000-000000000000"))),
                ("branch_id", models.UUIDField(default=uuid.UUID("00000000-0000-0000-0000-000000000000"))),
                ("api_key_id", models.UUIDField(default=uuid.UUID("00000000-0000-0000-0000-000000000000"))),
                ("provider", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=265)),
            ],
            options={
                "verbose_name": "usage of a day",
                "verbose_name_plural": "usage by day",
                "db_table_comment": "Usage of a local day",
                "abstract": False,
                "default_permissions": ("view",),
                "indexes": [models.Index(fields=["tenant_id", "day"], name="usageday_tenant_idx")],
            },
        ),
        migrations.CreateModel(
            name="UsageSummary",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField()),
                ("requests", models.BigIntegerField()),
                ("completed", models.BigIntegerField()),
                ("failed", models.BigIntegerField()),
                ("cancelled", models.BigIntegerField()),
                ("lost", models.BigIntegerField()),
                ("unpriced", models.BigIntegerField()),
                ("estimated", models.BigIntegerField()),
                ("adjustments", models.BigIntegerField()),
                ("prompt_tokens", models.BigIntegerField()),
                ("completion_tokens", models.BigIntegerField()),
                ("cached_tokens", models.BigIntegerField()),
                ("cache_write_tokens", models.BigIntegerField()),
                ("reasoning_tokens", models.BigIntegerField()),
                ("cost", models.DecimalField(decimal_places=12, help_text="US dollars", max_digits=38)),
                (
                    "estimated_cost",
                    models.DecimalField(decimal_places=12, help_text="US dollars, within cost", max_digits=38),
                ),
                ("latency_n", models.BigIntegerField()),
                ("latency_sum_ms", models.BigIntegerField()),
                ("latency_max_ms", models.IntegerField(null=True)),
                (
                    "latency_hist",
                    django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=24),
                ),
                ("month", models.DateField(help_text="First day of the month.")),
                ("app_id", models.UUIDField(default=uuid.UUID("00000000-0000-0000-0000-000000000000"))),
                ("branch_id", models.UUIDField(default=uuid.UUID("00000000-0000-0000-0000-000000000000"))),
                ("api_key_id", models.UUIDField(default=uuid.UUID("00000000-0000-0000-0000-000000000000"))),
                ("user_id", models.UUIDField(default=uuid.UUID("00000000-0000-0000-0000-000000000000"))),
                ("provider", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=265)),
            ],
            options={
                "verbose_name": "summary",
                "verbose_name_plural": "summaries",
                "db_table_comment": "Usage of a local month",
                "abstract": False,
                "default_permissions": ("view",),
                "indexes": [models.Index(fields=["tenant_id", "month"], name="usagesummary_tenant_idx")],
            },
        ),
        migrations.RunSQL(
            sql="SELECT cp_isolate('cp_auditing_usageday', 'tenant_id', 'SELECT')",
            reverse_sql="SELECT cp_unisolate('cp_auditing_usageday')",
        ),
        migrations.RunSQL(
            sql="SELECT cp_readable('cp_auditing_usageday')",
            reverse_sql="SELECT cp_unreadable('cp_auditing_usageday')",
        ),
        migrations.RunSQL(
            sql="SELECT cp_isolate('cp_auditing_usagesummary', 'tenant_id', 'SELECT')",
            reverse_sql="SELECT cp_unisolate('cp_auditing_usagesummary')",
        ),
        migrations.RunSQL(
            sql="SELECT cp_readable('cp_auditing_usagesummary')",
            reverse_sql="SELECT cp_unreadable('cp_auditing_usagesummary')",
        ),
        migrations.RunSQL(
            sql="SELECT cp_readable('cp_auditing_ingestwatermark')",
            reverse_sql="SELECT cp_unreadable('cp_auditing_ingestwatermark')",
        ),
    ]
