from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import controlplane.core.ids
from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("cp_policies", "0001_create_policy"),
        ("cp_core", "0002_create_invalidation"),
        ("cp_auditing", "0001_create_auditlog"),
        ("cp_tenants", "0007_count_sign_ins"),
    ]

    operations = [
        migrations.CreateModel(
            name="PolicyEpoch",
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
                ("epoch", models.BigIntegerField(db_comment="Number of the last statement that changed policies")),
                (
                    "tenant",
                    models.ForeignKey(
                        db_comment="Whose policies",
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="policy_epochs",
                        to="cp_tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table_comment": "State of each tenant's policies as one number",
                "constraints": [
                    models.UniqueConstraint(fields=("tenant",), name="cp_policies_policyepoch_tenant_once"),
                    models.CheckConstraint(
                        condition=models.Q(("epoch__gte", 1)),
                        name="cp_policies_policyepoch_counted",
                        violation_error_message="Epochs begin with 1.",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="PolicyVersion",
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
                ("policy_id", models.UUIDField(db_comment="The policy; no foreign key: it may be gone")),
                ("version", models.IntegerField(db_comment="Number of the change, from 1 for each policy")),
                (
                    "op",
                    models.CharField(
                        choices=[("create", "Create"), ("update", "Update"), ("delete", "Delete")],
                        db_comment="create, update or delete",
                        max_length=6,
                        verbose_name="operation",
                    ),
                ),
                ("epoch", models.BigIntegerField(db_comment="Epoch of the tenant that the change began")),
                ("body", models.JSONField(db_comment="Every field after the change; of a deletion: before it")),
                ("actor", models.TextField(db_comment="Who: type and id, as in the audit log")),
                ("reason", models.TextField(blank=True, db_comment="Why, in the writer's words", default="")),
                (
                    "recorded_at",
                    models.DateTimeField(db_comment="When it was written; the transaction was committed later"),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_comment="Whose policy it is",
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="policy_versions",
                        to="cp_tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table_comment": "What each policy was after each change; append-only",
                "indexes": [models.Index(fields=["tenant", "epoch"], name="cp_policyversion_epoch_idx")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "policy_id", "version"),
                        name="cp_policies_policyversion_once",
                        violation_error_message="This version is recorded already.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("op__in", ["create", "update", "delete"])),
                        name="cp_policies_policyversion_op_known",
                        violation_error_message="The operation is create, update or delete.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("epoch__gte", 1), ("version__gte", 1)),
                        name="cp_policies_policyversion_counted",
                        violation_error_message="Versions and epochs begin with 1.",
                    ),
                ],
            },
        ),
        RunSQLFile("policies", "0003_history"),
    ]
