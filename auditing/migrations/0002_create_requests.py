from __future__ import annotations

import django.db.models.functions.comparison
import django.db.models.functions.datetime
from django.db import migrations, models

import controlplane.core.constraints
import controlplane.core.ids
import controlplane.core.operations


class Migration(migrations.Migration):
    dependencies = [
        ("cp_auditing", "0001_create_auditlog"),
    ]

    operations = [
        controlplane.core.operations.RunSQLFile(
            package="auditing",
            name="0004_inferencerequest",
            state_operations=[
                migrations.CreateModel(
                    name="InferenceRequest",
                    fields=[
                        ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                        ("created_at", models.DateTimeField(help_text="When the call was accepted.")),
                        (
                            "booked_at",
                            models.DateTimeField(help_text="When it counts, if not when it was accepted.", null=True),
                        ),
                        ("request_id", models.CharField(max_length=200)),
                        ("tenant_id", models.UUIDField()),
                        ("app_id", models.UUIDField(null=True)),
                        ("branch_id", models.UUIDField(null=True)),
                        ("user_id", models.UUIDField(null=True)),
                        ("api_key_id", models.UUIDField(null=True)),
                        ("provider", models.CharField(max_length=64)),
                        ("model", models.CharField(max_length=265)),
                        ("requested_model", models.CharField(max_length=265, null=True)),
                        (
                            "status",
                            models.CharField(
                                choices=[
                                    ("completed", "Completed"),
                                    ("failed", "Failed"),
                                    ("cancelled", "Cancelled"),
                                    ("lost", "Lost"),
                                ],
                                max_length=9,
                            ),
                        ),
                        ("prompt_tokens", models.IntegerField(null=True)),
                        ("completion_tokens", models.IntegerField(null=True)),
                        ("cached_tokens", models.IntegerField(null=True)),
                        ("cache_write_tokens", models.IntegerField(null=True)),
                        ("reasoning_tokens", models.IntegerField(null=True)),
                        ("other_units", models.JSONField(null=True)),
                        (
                            "cost",
                            models.DecimalField(decimal_places=12, help_text="US dollars", max_digits=24, null=True),
                        ),
                        (
                            "pricing_status",
                            models.CharField(
                                choices=[
                                    ("priced", "Priced"),
                                    ("unpriced", "Unpriced"),
                                    ("estimated", "Estimated"),
                                    ("adjustment", "Adjustment"),
                                ],
                                max_length=10,
                            ),
                        ),
                        ("price_id", models.UUIDField(null=True)),
                        ("cost_breakdown", models.JSONField(null=True)),
                        ("latency_ms", models.IntegerField(null=True)),
                        (
                            "ttft_ms",
                            models.IntegerField(help_text="Time to the first token, in milliseconds.", null=True),
                        ),
                        ("stream", models.BooleanField(default=False)),
                        ("error_code", models.CharField(default="", max_length=64)),
                        ("error", models.CharField(default="", max_length=2000)),
                        ("adjusts", models.UUIDField(help_text="The request that this row corrects.", null=True)),
                        ("reason_code", models.CharField(default="", max_length=16)),
                        ("reason", models.TextField(default="")),
                        ("time_zone", models.CharField(max_length=64)),
                        (
                            "local_date",
                            models.DateField(help_text="Day of the booking in the tenant's time zone of that moment."),
                        ),
                        (
                            "source",
                            models.CharField(
                                choices=[
                                    ("gate", "Gate"),
                                    ("ingest", "Ingest"),
                                    ("import", "Import"),
                                    ("sweep", "Sweep"),
                                ],
                                max_length=8,
                            ),
                        ),
                        ("metadata", models.JSONField(null=True)),
                        ("schema", models.SmallIntegerField(default=1, editable=False)),
                        (
                            "xid",
                            models.BigIntegerField(
                                db_default=django.db.models.functions.comparison.Cast(
                                    django.db.models.functions.comparison.Cast(
                                        models.Func(function="pg_current_xact_id"), models.TextField()
                                    ),
                                    models.BigIntegerField(),
                                ),
                                editable=False,
                            ),
                        ),
                    ],
                    options={
                        "verbose_name": "request",
                        "db_table": "cp_auditing_inferencerequest",
                    },
                )
            ],
        ),
        migrations.CreateModel(
            name="InFlightRequest",
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
                ("created_at", models.DateTimeField()),
                ("request_id", models.CharField(max_length=200)),
                ("tenant_id", models.UUIDField()),
                ("app_id", models.UUIDField(null=True)),
                ("branch_id", models.UUIDField(null=True)),
                ("user_id", models.UUIDField(null=True)),
                ("api_key_id", models.UUIDField(null=True)),
                ("provider", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=265)),
                ("requested_model", models.CharField(max_length=265, null=True)),
                (
                    "status",
                    models.CharField(
                        choices=[("pending", "Pending"), ("running", "Running")], default="pending", max_length=7
                    ),
                ),
                (
                    "estimated_cost",
                    models.DecimalField(decimal_places=12, help_text="US dollars", max_digits=24, null=True),
                ),
                ("deadline", models.DateTimeField()),
                ("stream", models.BooleanField(default=False)),
                ("time_zone", models.CharField(max_length=64)),
                ("metadata", models.JSONField(null=True)),
            ],
            options={
                "verbose_name": "request in flight",
                "verbose_name_plural": "requests in flight",
                "db_table_comment": "A call that is not finished",
                "indexes": [models.Index(fields=["deadline"], name="inflight_deadline_idx")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant_id", "request_id"), name="cp_auditing_inflightrequest_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("request_id", ""), _negated=True),
                        name="cp_auditing_inflightrequest_request_id_given",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("metadata__isnull", True),
                            controlplane.core.constraints._IsJSONObject(models.F("metadata"), models.Value(4096)),
                            _connector="OR",
                        ),
                        name="cp_auditing_inflightrequest_metadata_is_small",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="DeadLetter",
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
                    "created_at",
                    models.DateTimeField(
                        db_comment="When the row was made",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                ("tenant_id", models.UUIDField(help_text="Nil: unknown.")),
                (
                    "source",
                    models.CharField(
                        help_text="Where the row came from: a file's name, or the caller.", max_length=300
                    ),
                ),
                ("row_number", models.BigIntegerField()),
                ("request_id", models.CharField(default="", max_length=200)),
                ("code", models.CharField(max_length=40)),
                ("field", models.CharField(default="", max_length=64)),
                ("message", models.TextField()),
                ("payload", models.BinaryField()),
                ("payload_bytes", models.BigIntegerField()),
                ("sha256", models.BinaryField(max_length=32)),
                ("resolved_at", models.DateTimeField(null=True)),
                (
                    "resolution",
                    models.CharField(
                        blank=True,
                        choices=[("retried", "Retried"), ("discarded", "Discarded")],
                        default="",
                        max_length=9,
                    ),
                ),
                ("resolved_by", models.TextField(default="")),
            ],
            options={
                "db_table_comment": "A row that a log refused, whole, with the reason",
                "indexes": [models.Index(fields=["tenant_id", "-created_at"], name="deadletter_tenant_idx")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant_id", "source", "row_number", "sha256"), name="cp_auditing_deadletter_once"
                    )
                ],
            },
        ),
        migrations.RunSQL(
            sql="SELECT cp_isolate('cp_auditing_inflightrequest')",
            reverse_sql="SELECT cp_unisolate('cp_auditing_inflightrequest')",
        ),
        migrations.RunSQL(
            sql="SELECT cp_isolate('cp_auditing_deadletter')",
            reverse_sql="SELECT cp_unisolate('cp_auditing_deadletter')",
        ),
        migrations.RunSQL(
            sql="SELECT cp_readable('cp_auditing_inflightrequest')",
            reverse_sql="SELECT cp_unreadable('cp_auditing_inflightrequest')",
        ),
        migrations.RunSQL(
            sql="SELECT cp_readable('cp_auditing_deadletter', '{payload}')",
            reverse_sql="SELECT cp_unreadable('cp_auditing_deadletter')",
        ),
    ]
