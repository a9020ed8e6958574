from __future__ import annotations

import uuid

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.comparison
import django.db.models.functions.datetime
import django.db.models.lookups
from django.db import migrations, models

import controlplane.core.constraints
import controlplane.core.ids
import policies.columns
from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("cp_auditing", "0001_create_auditlog"),
        ("cp_tenants", "0002_guard_tenancy"),
    ]

    operations = [
        RunSQLFile("policies", "0001_schedule"),
        migrations.CreateModel(
            name="Policy",
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
                    "policy_type",
                    models.CharField(
                        choices=[
                            ("model_access", "Model Access"),
                            ("token_caps", "Token Caps"),
                            ("rate_limit", "Rate Limit"),
                            ("budget", "Budget"),
                            ("guardrail", "Guardrail"),
                            ("routing", "Routing"),
                            ("retention", "Retention"),
                            ("storage_access", "Storage Access"),
                        ],
                        db_comment="Which schema config follows",
                        help_text="Fixed once created.",
                        max_length=32,
                        verbose_name="type",
                    ),
                ),
                (
                    "config",
                    models.JSONField(
                        blank=True,
                        db_comment="What it says; a field that is absent or null says nothing",
                        default=dict,
                        help_text="What the policy says, as JSON; the fields depend on the type.",
                    ),
                ),
                (
                    "priority",
                    models.SmallIntegerField(
                        db_comment="Order within a layer, higher first",
                        default=0,
                        help_text="Within one scope the higher number comes first. A nearer scope always comes before.",
                    ),
                ),
                ("enabled", models.BooleanField(db_comment="Off: never applies", default=True)),
                (
                    "overridable",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(),
                        blank=True,
                        db_comment="Strict fields of config that a nearer layer may replace",
                        default=list,
                        help_text="Strict fields that a nearer policy may replace, separated by commas.",
                        size=None,
                    ),
                ),
                (
                    "final",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(),
                        blank=True,
                        db_comment="Preferences of config that no nearer layer may replace",
                        default=list,
                        help_text="Preferences that no nearer policy may replace, separated by commas.",
                        size=None,
                    ),
                ),
                (
                    "valid_from",
                    models.DateTimeField(
                        blank=True,
                        db_comment="First instant; NULL: none",
                        help_text="First instant. Empty: no beginning.",
                        null=True,
                    ),
                ),
                (
                    "valid_until",
                    models.DateTimeField(
                        blank=True,
                        db_comment="First instant after the end; NULL: none",
                        help_text="First instant at which it no longer applies. Empty: no end.",
                        null=True,
                    ),
                ),
                (
                    "schedule",
                    models.JSONField(
                        blank=True,
                        db_comment="Hours of the week {tz, days, start, end}; NULL: always",
                        help_text='As {"tz": "UTC", "days": ["mon"], "start": "22:00", "end": "06:00"}. Empty: always.',
                        null=True,
                    ),
                ),
                ("name", models.CharField(blank=True, db_comment="Name for people", default="", max_length=120)),
                ("description", models.TextField(blank=True, db_comment="Why it exists, for people", default="")),
                (
                    "message",
                    models.CharField(
                        blank=True,
                        db_comment="Words for a refused caller; empty: the usual ones",
                        default="",
                        help_text="Shown to a caller whom this policy refuses.",
                        max_length=500,
                    ),
                ),
                (
                    "version",
                    models.IntegerField(db_comment="Counts real changes; set by a trigger", default=1, editable=False),
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
                    "updated_at",
                    models.DateTimeField(
                        db_comment="When the row was last changed; set by a trigger",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "app_key",
                    models.GeneratedField(
                        db_comment="app_id, or nil for any",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Coalesce(
                            models.F("app"),
                            models.Value(uuid.UUID("00000000-0000-0000-0000-000000000000"), models.UUIDField()),
                        ),
                        output_field=models.UUIDField(),
                    ),
                ),
                (
                    "branch_key",
                    models.GeneratedField(
                        db_comment="branch_id, or nil for any",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Coalesce(
                            models.F("branch"),
                            models.Value(uuid.UUID("00000000-0000-0000-0000-000000000000"), models.UUIDField()),
                        ),
                        output_field=models.UUIDField(),
                    ),
                ),
                (
                    "user_key",
                    models.GeneratedField(
                        db_comment="user_id, or nil for any",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Coalesce(
                            models.F("user"),
                            models.Value(uuid.UUID("00000000-0000-0000-0000-000000000000"), models.UUIDField()),
                        ),
                        output_field=models.UUIDField(),
                    ),
                ),
                (
                    "key_key",
                    models.GeneratedField(
                        db_comment="key_id, or nil for any",
                        db_persist=True,
                        expression=django.db.models.functions.comparison.Coalesce(
                            models.F("key"),
                            models.Value(uuid.UUID("00000000-0000-0000-0000-000000000000"), models.UUIDField()),
                        ),
                        output_field=models.UUIDField(),
                    ),
                ),
                (
                    "layer",
                    models.GeneratedField(
                        db_comment="1 + 2 app + 4 branch + 8 user + 16 key",
                        db_persist=True,
                        expression=django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                django.db.models.expressions.CombinedExpression(
                                    django.db.models.expressions.CombinedExpression(
                                        models.Value(1),
                                        "+",
                                        models.Case(
                                            models.When(app__isnull=False, then=models.Value(2)),
                                            default=models.Value(0),
                                        ),
                                    ),
                                    "+",
                                    models.Case(
                                        models.When(branch__isnull=False, then=models.Value(4)), default=models.Value(0)
                                    ),
                                ),
                                "+",
                                models.Case(
                                    models.When(then=models.Value(8), user__isnull=False), default=models.Value(0)
                                ),
                            ),
                            "+",
                            models.Case(models.When(key__isnull=False, then=models.Value(16)), default=models.Value(0)),
                        ),
                        output_field=models.SmallIntegerField(),
                    ),
                ),
                (
                    "app",
                    models.ForeignKey(
                        blank=True,
                        db_comment="NULL: any app, or none",
                        db_constraint=False,
                        db_index=False,
                        help_text="Empty: any app, or none.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="policies",
                        to="cp_tenants.app",
                    ),
                ),
                (
                    "branch",
                    models.ForeignKey(
                        blank=True,
                        db_comment="NULL: any branch, or none",
                        db_constraint=False,
                        db_index=False,
                        help_text="Empty: any branch, or none.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="policies",
                        to="cp_tenants.branch",
                    ),
                ),
                (
                    "key",
                    models.ForeignKey(
                        blank=True,
                        db_comment="NULL: any key, or none",
                        db_constraint=False,
                        db_index=False,
                        help_text="Empty: any key, or none.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="policies",
                        to="cp_tenants.apikey",
                        verbose_name="API key",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_comment="Whose it is",
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="policies",
                        to="cp_tenants.tenant",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        db_comment="NULL: any user, or none",
                        db_constraint=False,
                        db_index=False,
                        help_text="Empty: any user, or none.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="policies",
                        to="cp_tenants.user",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "policies",
                "db_table_comment": "Rules on models, limits, routing, retention and storage, by scope",
                "indexes": [
                    models.Index(
                        condition=models.Q(("enabled", True)),
                        fields=["tenant", "app_key", "user_key", "branch_key", "key_key"],
                        name="cp_policy_scope_idx",
                    ),
                    models.Index(fields=["tenant", "policy_type", "id"], name="cp_policy_tenant_type_idx"),
                    models.Index(fields=["tenant", "updated_at"], name="cp_policy_tenant_updated_idx"),
                ],
                "constraints": [
                    controlplane.core.constraints.TenantForeignKey(
                        fields=("tenant", "app"),
                        name="cp_policies_policy_app_fk",
                        to="cp_tenants.App",
                        to_fields=("tenant", "id"),
                        violation_error_code="wrong_tenant",
                    ),
                    controlplane.core.constraints.TenantForeignKey(
                        fields=("tenant", "branch"),
                        name="cp_policies_policy_branch_fk",
                        to="cp_tenants.Branch",
                        to_fields=("tenant", "id"),
                        violation_error_code="wrong_tenant",
                    ),
                    controlplane.core.constraints.TenantForeignKey(
                        fields=("tenant", "user"),
                        name="cp_policies_policy_user_fk",
                        to="cp_tenants.User",
                        to_fields=("tenant", "id"),
                        violation_error_code="wrong_tenant",
                    ),
                    controlplane.core.constraints.TenantForeignKey(
                        fields=("tenant", "key"),
                        name="cp_policies_policy_key_fk",
                        to="cp_tenants.APIKey",
                        to_fields=("tenant", "id"),
                        violation_error_code="wrong_tenant",
                    ),
                    controlplane.core.constraints.TenantForeignKey(
                        fields=("tenant", "app", "branch"),
                        name="cp_policies_policy_branch_of_app_fk",
                        to="cp_tenants.Branch",
                        to_fields=("tenant", "app", "id"),
                        violation_error_code="wrong_tenant",
                    ),
                    controlplane.core.constraints.TenantForeignKey(
                        fields=("tenant", "app", "key"),
                        name="cp_policies_policy_key_of_app_fk",
                        to="cp_tenants.APIKey",
                        to_fields=("tenant", "app", "id"),
                        violation_error_code="wrong_tenant",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "policy_type__in",
                                [
                                    "model_access",
                                    "token_caps",
                                    "rate_limit",
                                    "budget",
                                    "guardrail",
                                    "routing",
                                    "retention",
                                    "storage_access",
                                ],
                            )
                        ),
                        name="cp_policies_policy_type_known",
                        violation_error_message="There is no such policy type.",
                    ),
                    policies.columns.DatabaseCheck(
                        condition=django.db.models.lookups.Exact(
                            models.Func(models.F("config"), function="jsonb_typeof", output_field=models.TextField()),
                            models.Value("object"),
                        ),
                        name="cp_policies_policy_config_object",
                        violation_error_message="The config is a JSON object.",
                    ),
                    policies.columns.DatabaseCheck(
                        condition=django.db.models.lookups.LessThanOrEqual(
                            models.Func(
                                django.db.models.functions.comparison.Cast("config", models.TextField()),
                                function="octet_length",
                                output_field=models.IntegerField(),
                            ),
                            models.Value(65536),
                        ),
                        name="cp_policies_policy_config_size",
                        violation_error_message="The config has at most 64 KiB.",
                    ),
                    policies.columns.DatabaseCheck(
                        condition=models.Q(
                            ("valid_from__isnull", True),
                            ("valid_until__isnull", True),
                            ("valid_until__gt", models.F("valid_from")),
                            _connector="OR",
                        ),
                        name="cp_policies_policy_ends_after_start",
                        violation_error_message="This ends before it begins.",
                    ),
                    policies.columns.DatabaseCheck(
                        condition=models.Q(("branch__isnull", True), ("app__isnull", False), _connector="OR"),
                        name="cp_policies_policy_branch_needs_app",
                        violation_error_message="A branch needs its app.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("app", uuid.UUID("00000000-0000-0000-0000-000000000000")), _negated=True),
                            models.Q(("branch", uuid.UUID("00000000-0000-0000-0000-000000000000")), _negated=True),
                            models.Q(("user", uuid.UUID("00000000-0000-0000-0000-000000000000")), _negated=True),
                            models.Q(("key", uuid.UUID("00000000-0000-0000-0000-000000000000")), _negated=True),
                        ),
                        name="cp_policies_policy_scope_not_nil",
                        violation_error_message="A scope id cannot be all zeros.",
                    ),
                    policies.columns.DatabaseCheck(
                        condition=policies.columns.ScheduleValid(models.F("schedule")),
                        name="cp_policies_policy_schedule_valid",
                        violation_error_message="The schedule is {tz, days, start, end} with an IANA zone.",
                    ),
                ],
            },
        ),
        RunSQLFile("policies", "0002_policy"),
    ]
