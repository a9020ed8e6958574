from __future__ import annotations

import django.db.models.deletion
import django.db.models.functions.datetime
import django.db.models.lookups
from django.db import migrations, models

import controlplane.core.constraints
import controlplane.core.ids


class Migration(migrations.Migration):
    dependencies = [
        ("cp_tenants", "0003_create_last_use"),
    ]

    operations = [
        migrations.CreateModel(
            name="RefreshFamily",
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
                    "client",
                    models.CharField(blank=True, db_comment="What signed in, for people", default="", max_length=200),
                ),
                (
                    "absolute_expires_at",
                    models.DateTimeField(
                        db_comment="End that no rotation moves", editable=False, verbose_name="ends at the latest"
                    ),
                ),
                ("revoked_at", models.DateTimeField(db_comment="Set = revoked, for ever", editable=False, null=True)),
                (
                    "revoked_reason",
                    models.CharField(
                        choices=[
                            ("logout", "Logout"),
                            ("all", "All"),
                            ("limit", "Limit"),
                            ("reuse", "Reuse"),
                            ("user", "User"),
                        ],
                        db_comment="logout, all, limit, reuse, user",
                        default="",
                        editable=False,
                        max_length=6,
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
                    "user",
                    models.ForeignKey(
                        db_comment="Who signed in",
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="families",
                        to="cp_tenants.user",
                        swappable=False,
                    ),
                ),
            ],
            options={
                "verbose_name": "refresh token family",
                "verbose_name_plural": "refresh token families",
                "db_table_comment": "One sign-in of a user at one client: a chain of refresh tokens",
                "permissions": [("revoke_refreshfamily", "Can end refresh token families")],
            },
        ),
        migrations.CreateModel(
            name="RefreshToken",
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
                ("generation", models.IntegerField(db_comment="1, 2, 3 …: which of its family", editable=False)),
                (
                    "digest",
                    models.BinaryField(db_comment="SHA-256 of the token, or its HMAC with a pepper", max_length=32),
                ),
                (
                    "hash_version",
                    models.SmallIntegerField(
                        db_comment="0: no pepper, else the pepper's version", default=0, editable=False
                    ),
                ),
                (
                    "issued_at",
                    models.DateTimeField(
                        db_comment="When it was given out", default=controlplane.core.ids.now, editable=False
                    ),
                ),
                ("expires_at", models.DateTimeField(db_comment="Its end if it is not used", editable=False)),
                (
                    "used_at",
                    models.DateTimeField(db_comment="When it was spent for the next one", editable=False, null=True),
                ),
                (
                    "family",
                    models.ForeignKey(
                        db_comment="Sign-in it came of",
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="tokens",
                        to="cp_tenants.refreshfamily",
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
                "db_table_comment": "One token of a family, as a digest",
            },
        ),
        migrations.AddIndex(
            model_name="refreshfamily",
            index=models.Index(
                condition=models.Q(("revoked_at", None)), fields=["tenant", "user"], name="refreshfamily_user_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="refreshfamily",
            index=models.Index(fields=["absolute_expires_at"], name="refreshfamily_expires_idx"),
        ),
        migrations.AddConstraint(
            model_name="refreshfamily",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="cp_tenants_refreshfamily_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="refreshfamily",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "user"),
                name="cp_tenants_refreshfamily_user_of_tenant",
                to="cp_tenants.User",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="refreshfamily",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("revoked_at__isnull", True), ("revoked_reason", "")),
                    models.Q(
                        ("revoked_at__isnull", False),
                        ("revoked_reason__in", ("logout", "all", "limit", "reuse", "user")),
                    ),
                    _connector="OR",
                ),
                name="cp_tenants_refreshfamily_revoked_has_a_reason",
            ),
        ),
        migrations.AddConstraint(
            model_name="refreshfamily",
            constraint=models.CheckConstraint(
                condition=models.Q(("created_at__lt", models.F("absolute_expires_at"))),
                name="cp_tenants_refreshfamily_begins_before_it_ends",
            ),
        ),
        migrations.AddConstraint(
            model_name="refreshtoken",
            constraint=models.UniqueConstraint(fields=("digest",), name="cp_tenants_refreshtoken_digest_once"),
        ),
        migrations.AddConstraint(
            model_name="refreshtoken",
            constraint=models.UniqueConstraint(
                fields=("family", "generation"), name="cp_tenants_refreshtoken_generation_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="refreshtoken",
            constraint=models.UniqueConstraint(
                condition=models.Q(("used_at", None)), fields=("family",), name="cp_tenants_refreshtoken_one_unused"
            ),
        ),
        migrations.AddConstraint(
            model_name="refreshtoken",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "family"),
                name="cp_tenants_refreshtoken_family_of_tenant",
                to="cp_tenants.RefreshFamily",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="refreshtoken",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    django.db.models.lookups.Exact(
                        models.Func("digest", function="octet_length", output_field=models.IntegerField()), 32
                    )
                ),
                name="cp_tenants_refreshtoken_digest_is_32_bytes",
            ),
        ),
    ]
