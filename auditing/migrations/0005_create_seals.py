from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("cp_auditing", "0004_create_rollups"),
    ]

    operations = [
        migrations.CreateModel(
            name="AuditSeal",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("rows", "Rows"),
                            ("checkpoint", "Checkpoint"),
                            ("close", "Close"),
                            ("reopen", "Reopen"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "log",
                    models.CharField(
                        choices=[
                            ("auditlog", "Audit log"),
                            ("inferencerequest", "Requests"),
                            ("usagesummary", "Summaries"),
                            ("checkpoint", "Checkpoints"),
                        ],
                        max_length=16,
                    ),
                ),
                ("tenant_id", models.UUIDField(help_text="Nil: the platform.")),
                ("month", models.DateField(help_text="First day of the month: UTC of rows, local of summaries.")),
                ("seq", models.BigIntegerField(help_text="1, 2, 3 … of the log and tenant.")),
                ("run", models.UUIDField(help_text="Of the hash of the checkpoint before, the first 16 octets.")),
                ("xid_from", models.BigIntegerField()),
                ("xid_to", models.BigIntegerField()),
                ("id_from", models.UUIDField()),
                ("id_to", models.UUIDField()),
                ("n", models.BigIntegerField(help_text="Rows (of a checkpoint: seals) under the root.")),
                ("root", models.BinaryField(max_length=32)),
                ("prev", models.BinaryField(max_length=32)),
                ("hash", models.BinaryField(max_length=32)),
                ("schema", models.SmallIntegerField(default=1)),
                ("sealed_at", models.DateTimeField()),
            ],
            options={
                "verbose_name": "seal",
                "db_table_comment": "A hash over rows that nobody may change any more. Append-only.",
                "permissions": [("verify_auditlog", "Can verify the audit log")],
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["tenant_id", "log", "month", "seq"], name="auditseal_month_idx"),
                    models.Index(fields=["run"], name="auditseal_run_idx"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant_id", "log", "seq"), name="cp_auditing_auditseal_chain")
                ],
            },
        ),
        migrations.CreateModel(
            name="RetentionRecord",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField()),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("rule", "Rule"),
                            ("hold", "Hold"),
                            ("release", "Release"),
                            ("retired", "Retired"),
                            ("erased", "Erased"),
                        ],
                        max_length=7,
                    ),
                ),
                ("log", models.CharField(default="", max_length=16)),
                ("tenant_id", models.UUIDField(help_text="Nil: the platform, or every tenant.")),
                ("all_tenants", models.BooleanField(default=False)),
                ("months", models.IntegerField(help_text="Of a rule: months that rows are kept.", null=True)),
                ("month", models.DateField(help_text="Of what is retired: the UTC month.", null=True)),
                ("releases", models.UUIDField(help_text="Of a release: the hold that ends.", null=True)),
                (
                    "rows",
                    models.BigIntegerField(help_text="Rows that are gone, or whose personal columns are.", null=True),
                ),
                ("seals", models.BigIntegerField(help_text="Of what is retired: seals over its rows.", null=True)),
                (
                    "last_hash",
                    models.BinaryField(help_text="Hash of the last of these seals.", max_length=32, null=True),
                ),
                (
                    "archive",
                    models.TextField(default="", help_text="Of what is retired: where it is kept, if anywhere."),
                ),
                ("archive_sha256", models.BinaryField(max_length=32, null=True)),
                (
                    "subject",
                    models.TextField(
                        default="",
                        help_text="Of an erasure: the actor's id. Of a month that goes with its table: the table.",
                    ),
                ),
                ("reason", models.TextField()),
                ("actor", models.TextField(default="", help_text="Who decided it.")),
            ],
            options={
                "verbose_name": "retention record",
                "db_table_comment": "Decisions about how long records are kept, and what followed. Append-only.",
                "permissions": [("hold_retentionrecord", "Can hold and release records")],
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["tenant_id", "kind", "log", "month"], name="retentionrecord_kind_idx")
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("reason", ""), _negated=True),
                        name="cp_auditing_retentionrecord_reason_given",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("months__isnull", True), ("months__gte", 1), _connector="OR"),
                        name="cp_auditing_retentionrecord_a_month_at_least",
                    ),
                ],
            },
        ),
        migrations.RunSQL(
            sql="SELECT cp_append_only('cp_auditing_auditseal')",
            reverse_sql="DROP TRIGGER cp_append_only ON cp_auditing_auditseal; DROP TRIGGER cp_no_truncate ON cp_auditing_auditseal",
        ),
        migrations.RunSQL(
            sql="SELECT cp_isolate('cp_auditing_auditseal', 'tenant_id', 'SELECT')",
            reverse_sql="SELECT cp_unisolate('cp_auditing_auditseal')",
        ),
        migrations.RunSQL(
            sql="SELECT cp_readable('cp_auditing_auditseal')",
            reverse_sql="SELECT cp_unreadable('cp_auditing_auditseal')",
        ),
        migrations.RunSQL(
            sql="SELECT cp_append_only('cp_auditing_retentionrecord')",
            reverse_sql="DROP TRIGGER cp_append_only ON cp_auditing_retentionrecord; DROP TRIGGER cp_no_truncate ON cp_auditing_retentionrecord",
        ),
        migrations.RunSQL(
            sql="SELECT cp_isolate('cp_auditing_retentionrecord', 'tenant_id', 'SELECT')",
            reverse_sql="SELECT cp_unisolate('cp_auditing_retentionrecord')",
        ),
        migrations.RunSQL(
            sql="SELECT cp_readable('cp_auditing_retentionrecord')",
            reverse_sql="SELECT cp_unreadable('cp_auditing_retentionrecord')",
        ),
    ]
