from __future__ import annotations

import django.db.models.functions.comparison
from django.db import migrations, models

import controlplane.core.operations


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("cp_core", "0001_lay_ground"),
    ]

    operations = [
        controlplane.core.operations.RunSQLFile(
            package="auditing",
            name="0001_redaction",
        ),
        controlplane.core.operations.RunSQLFile(
            package="auditing",
            name="0002_auditlog",
            state_operations=[
                migrations.CreateModel(
                    name="AuditLog",
                    fields=[
                        ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                        ("created_at", models.DateTimeField()),
                        ("tenant_id", models.UUIDField(help_text="Nil: the platform itself.")),
                        ("app_id", models.UUIDField(null=True)),
                        ("branch_id", models.UUIDField(null=True)),
                        ("user_id", models.UUIDField(null=True)),
                        ("api_key_id", models.UUIDField(null=True)),
                        (
                            "actor_type",
                            models.CharField(
                                choices=[
                                    ("operator", "Operator"),
                                    ("user", "User"),
                                    ("api_key", "API key"),
                                    ("command", "Command"),
                                    ("system", "System"),
                                    ("database", "Database"),
                                    ("anonymous", "Anonymous"),
                                ],
                                max_length=16,
                            ),
                        ),
                        ("actor_id", models.TextField()),
                        ("actor_label", models.TextField(null=True)),
                        ("actor_role", models.TextField(default="")),
                        ("action", models.CharField(max_length=100)),
                        ("resource_type", models.CharField(default="", max_length=100)),
                        ("resource_id", models.TextField(default="")),
                        ("resource_label", models.TextField(default="")),
                        (
                            "outcome",
                            models.CharField(
                                choices=[("success", "Success"), ("denied", "Denied"), ("failure", "Failure")],
                                max_length=8,
                            ),
                        ),
                        ("before", models.JSONField(null=True)),
                        ("after", models.JSONField(null=True)),
                        ("details", models.JSONField(null=True)),
                        ("reason", models.TextField(default="")),
                        ("request_id", models.TextField(null=True)),
                        ("ip", models.GenericIPAddressField(null=True)),
                        ("user_agent", models.TextField(null=True)),
                        ("pii_salt", models.BinaryField(null=True)),
                        ("pii_commit", models.BinaryField(null=True)),
                        ("provider", models.CharField(default="", max_length=64)),
                        ("model", models.CharField(default="", max_length=265)),
                        ("prompt_tokens", models.IntegerField(null=True)),
                        ("completion_tokens", models.IntegerField(null=True)),
                        ("cost", models.DecimalField(decimal_places=12, max_digits=24, null=True)),
                        ("latency_ms", models.IntegerField(null=True)),
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
                        "verbose_name": "audit event",
                        "verbose_name_plural": "audit log",
                        "db_table": "cp_auditing_auditlog",
                    },
                )
            ],
        ),
        controlplane.core.operations.RunSQLFile(
            package="auditing",
            name="0003_watch",
        ),
    ]
