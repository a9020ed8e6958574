from __future__ import annotations

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import controlplane.core.constraints
import controlplane.core.ids
from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("cp_policies", "0002_create_history"),
        ("cp_tenants", "0007_count_sign_ins"),
    ]

    operations = [
        migrations.CreateModel(
            name="LimitBucket",
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
                    "key",
                    models.TextField(
                        db_comment="kind|owner|metric|window|anchor|models|label: one counter", editable=False
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("rate", "Rate"), ("budget", "Budget")], db_comment="rate or budget", max_length=6
                    ),
                ),
                (
                    "owner_kind",
                    models.CharField(
                        db_comment="scope:<layer> of the policy, or per:<x> of the request", max_length=10
                    ),
                ),
                (
                    "app_id",
                    models.UUIDField(
                        blank=True, db_comment="App of the owner, NULL: not part of it", editable=False, null=True
                    ),
                ),
                (
                    "branch_id",
                    models.UUIDField(
                        blank=True, db_comment="Branch of the owner, NULL: not part of it", editable=False, null=True
                    ),
                ),
                (
                    "user_id",
                    models.UUIDField(
                        blank=True, db_comment="User of the owner, NULL: not part of it", editable=False, null=True
                    ),
                ),
                (
                    "key_id",
                    models.UUIDField(
                        blank=True, db_comment="API key of the owner, NULL: not part of it", editable=False, null=True
                    ),
                ),
                ("metric", models.CharField(db_comment="What is counted; cost: US dollars", max_length=13)),
                ("window", models.CharField(db_comment="Kind of window", max_length=5)),
                (
                    "label",
                    models.CharField(blank=True, db_comment="Which window; empty: it has no bounds", max_length=20),
                ),
                ("starts_at", models.DateTimeField(blank=True, db_comment="First instant; NULL: no bound", null=True)),
                (
                    "ends_at",
                    models.DateTimeField(blank=True, db_comment="First instant after it; NULL: no bound", null=True),
                ),
                ("spent", models.DecimalField(db_comment="Settled", decimal_places=12, default=0, max_digits=30)),
                (
                    "reserved",
                    models.DecimalField(
                        db_comment="Held by calls that run", decimal_places=12, default=0, max_digits=30
                    ),
                ),
                (
                    "last_limit",
                    models.DecimalField(
                        blank=True,
                        db_comment="Limit of the last call, for display",
                        decimal_places=12,
                        max_digits=30,
                        null=True,
                    ),
                ),
                (
                    "last_mode",
                    models.CharField(blank=True, db_comment="Its mode: hard, soft or shadow", default="", max_length=6),
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
                    "models",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(),
                        blank=True,
                        db_comment="Patterns of the calls that count; NULL: all calls",
                        null=True,
                        size=None,
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_comment="Whose it is",
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="cp_tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "limit counter",
                "db_table_comment": "What an owner spent and holds of one metric in one window",
            },
        ),
        migrations.CreateModel(
            name="LimitAlert",
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
                ("threshold", models.CharField(db_comment="alert:<level> or soft:<level>", max_length=60)),
                ("level", models.DecimalField(db_comment="US dollars, or a number", decimal_places=12, max_digits=30)),
                ("used", models.DecimalField(db_comment="What the counter stood at", decimal_places=12, max_digits=30)),
                ("policy_id", models.UUIDField(db_comment="The policy that said so")),
                ("policy_version", models.IntegerField(db_comment="Its version then")),
                ("told_at", models.DateTimeField(db_comment="When it was told")),
                (
                    "tenant",
                    models.ForeignKey(
                        db_comment="Whose it is",
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="cp_tenants.tenant",
                    ),
                ),
                (
                    "bucket",
                    models.ForeignKey(
                        db_comment="Which one",
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="alerts",
                        to="cp_policies.limitbucket",
                    ),
                ),
            ],
            options={
                "db_table_comment": "A threshold that a counter passed in its window",
            },
        ),
        migrations.CreateModel(
            name="Reservation",
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
                ("request_id", models.CharField(db_comment="The caller's name for the request", max_length=200)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("reserved", "Reserved"),
                            ("settled", "Settled"),
                            ("released", "Released"),
                            ("expired", "Expired"),
                        ],
                        db_comment="How it stands",
                        default="reserved",
                        max_length=8,
                    ),
                ),
                (
                    "bucket_ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.UUIDField(), blank=True, db_comment="Counters, by id", size=None
                    ),
                ),
                (
                    "amounts",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.DecimalField(decimal_places=12, max_digits=30),
                        blank=True,
                        db_comment="What is held of each",
                        size=None,
                    ),
                ),
                (
                    "actuals",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.DecimalField(decimal_places=12, max_digits=30),
                        blank=True,
                        db_comment="What was spent of each; NULL: not settled",
                        null=True,
                        size=None,
                    ),
                ),
                ("app_id", models.UUIDField(blank=True, db_comment="App that asked", null=True)),
                ("branch_id", models.UUIDField(blank=True, db_comment="Branch that asked", null=True)),
                ("user_id", models.UUIDField(blank=True, db_comment="User that asked", null=True)),
                ("key_id", models.UUIDField(blank=True, db_comment="API key that asked", null=True)),
                ("model", models.CharField(blank=True, db_comment="Canonical id", max_length=265)),
                (
                    "digest",
                    models.CharField(db_comment="SHA-256 of what was asked: the same id asks the same", max_length=64),
                ),
                (
                    "policy_ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.UUIDField(),
                        blank=True,
                        db_comment="Policies whose limits were asked",
                        size=None,
                    ),
                ),
                (
                    "policy_versions",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.IntegerField(), blank=True, db_comment="Their versions", size=None
                    ),
                ),
                ("overrun", models.BooleanField(db_comment="Spent more than was held", default=False)),
                (
                    "estimated",
                    models.BooleanField(
                        db_comment="Something is spent as held: what was used is not known", default=False
                    ),
                ),
                ("reserved_at", models.DateTimeField(db_comment="When it began")),
                ("expires_at", models.DateTimeField(db_comment="From then on its maker is taken for gone")),
                ("ended_at", models.DateTimeField(blank=True, db_comment="When it ended; NULL: open", null=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_comment="Whose it is",
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="cp_tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table_comment": "What one call holds of its counters, and in the end spent",
            },
        ),
        migrations.AddIndex(
            model_name="limitbucket",
            index=models.Index(
                condition=models.Q(("kind", "rate")), fields=["window", "ends_at"], name="limitbucket_rate_ends_idx"
            ),
        ),
        migrations.AddConstraint(
            model_name="limitbucket",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="cp_policies_limitbucket_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="limitbucket",
            constraint=models.UniqueConstraint(fields=("tenant", "key"), name="cp_policies_limitbucket_key_once"),
        ),
        migrations.AddConstraint(
            model_name="limitbucket",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "budget"), ("metric", "cost")),
                    models.Q(
                        ("kind", "rate"),
                        ("metric__in", ["requests", "input_tokens", "output_tokens", "total_tokens", "concurrent"]),
                    ),
                    _connector="OR",
                ),
                name="cp_policies_limitbucket_metric_of_kind",
                violation_error_message="Budgets count cost, rate limits count requests, tokens or calls at a time.",
            ),
        ),
        migrations.AddConstraint(
            model_name="limitbucket",
            constraint=models.CheckConstraint(
                condition=models.Q(("spent__gte", 0), ("spent__lt", 1000000000000000000)),
                name="cp_policies_limitbucket_spent_is_a_number",
                violation_error_message="spent is a number of at least 0.",
            ),
        ),
        migrations.AddConstraint(
            model_name="limitbucket",
            constraint=models.CheckConstraint(
                condition=models.Q(("reserved__gte", 0), ("reserved__lt", 1000000000000000000)),
                name="cp_policies_limitbucket_reserved_is_a_number",
                violation_error_message="reserved is a number of at least 0.",
            ),
        ),
        migrations.AddConstraint(
            model_name="limitbucket",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("ends_at__isnull", True), ("starts_at__isnull", True)),
                    models.Q(
                        ("ends_at__gt", models.F("starts_at")), ("ends_at__isnull", False), ("starts_at__isnull", False)
                    ),
                    _connector="OR",
                ),
                name="cp_policies_limitbucket_ends_after_start",
                violation_error_message="A window ends after it begins, or has no bounds.",
            ),
        ),
        migrations.AddConstraint(
            model_name="limitalert",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "bucket"),
                name="cp_policies_limitalert_bucket_of_tenant",
                to="cp_policies.LimitBucket",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="limitalert",
            constraint=models.UniqueConstraint(fields=("bucket", "threshold"), name="cp_policies_limitalert_once"),
        ),
        migrations.AddConstraint(
            model_name="reservation",
            constraint=models.UniqueConstraint(
                fields=("tenant", "request_id"), name="cp_policies_reservation_request_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="reservation",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["reserved", "settled", "released", "expired"])),
                name="cp_policies_reservation_state_known",
                violation_error_message="There is no such state.",
            ),
        ),
        migrations.AddConstraint(
            model_name="reservation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("ended_at__isnull", True), ("state", "reserved")),
                    models.Q(models.Q(("state", "reserved"), _negated=True), ("ended_at__isnull", False)),
                    _connector="OR",
                ),
                name="cp_policies_reservation_ended_with_state",
                violation_error_message="An open reservation has no end, any other has one.",
            ),
        ),
        migrations.AddConstraint(
            model_name="reservation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("actuals__isnull", False), ("state", "settled")),
                    models.Q(models.Q(("state", "settled"), _negated=True), ("actuals__isnull", True)),
                    _connector="OR",
                ),
                name="cp_policies_reservation_actuals_with_state",
                violation_error_message="A settled reservation says what was spent, and no other.",
            ),
        ),
        migrations.AddConstraint(
            model_name="reservation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("amounts__len", models.F("bucket_ids__len")),
                    models.Q(("actuals__isnull", True), ("actuals__len", models.F("bucket_ids__len")), _connector="OR"),
                ),
                name="cp_policies_reservation_amount_of_each",
                violation_error_message="There is one amount for each counter.",
            ),
        ),
        RunSQLFile("policies", "0004_limits"),
    ]
