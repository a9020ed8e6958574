from __future__ import annotations

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
import django.db.models.functions.text
import django.db.models.lookups
from django.db import migrations, models

import controlplane.core.constraints
import controlplane.core.fields
import controlplane.core.ids
import tenants.models.fields
import tenants.models.tenant


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("cp_core", "0001_lay_ground"),
    ]

    operations = [
        migrations.CreateModel(
            name="App",
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
                    "status",
                    models.CharField(
                        choices=[("active", "Active"), ("suspended", "Suspended"), ("deleted", "Deleted")],
                        db_comment="active, suspended, deleted (soft)",
                        default="active",
                        editable=False,
                        max_length=9,
                    ),
                ),
                (
                    "deleted_at",
                    models.DateTimeField(
                        db_comment="When it was deleted; its names stay taken", editable=False, null=True
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
                    "updated_at",
                    models.DateTimeField(
                        db_comment="When the row was last changed; set by a trigger",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "slug",
                    models.CharField(
                        db_comment="Name in URLs and commands",
                        max_length=63,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9](-?[a-z0-9])+$(?<!\\n)",
                                "A slug has 2 to 63 lower-case letters, digits and single hyphens inside, as acme or acme-eu.",
                                code="invalid_slug",
                            )
                        ],
                    ),
                ),
                ("name", models.CharField(db_comment="Name for people", max_length=200)),
                (
                    "app_type",
                    models.CharField(
                        choices=[
                            ("web", "Web"),
                            ("mobile", "Mobile"),
                            ("service", "Service"),
                            ("batch", "Batch"),
                            ("agent", "Agent"),
                            ("other", "Other"),
                        ],
                        db_comment="Kind of application",
                        default="other",
                        max_length=16,
                        verbose_name="type",
                    ),
                ),
                (
                    "config",
                    models.JSONField(
                        blank=True,
                        db_comment="Environment-independent settings",
                        default=dict,
                        help_text="Settings of the app, the same in every environment.",
                        validators=[tenants.models.fields.validate_object],
                    ),
                ),
                (
                    "metadata",
                    models.JSONField(
                        blank=True,
                        db_comment="Anything else, for the operator",
                        default=dict,
                        validators=[tenants.models.fields.validate_object],
                    ),
                ),
            ],
            options={
                "db_table_comment": "An application of a tenant: what calls models",
            },
        ),
        migrations.CreateModel(
            name="User",
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
                    "email",
                    models.EmailField(
                        db_comment="Unique in the tenant, in any case",
                        max_length=254,
                        validators=[
                            django.core.validators.RegexValidator("^[^/]*$", "An e-mail address here has no slash.")
                        ],
                        verbose_name="e-mail",
                    ),
                ),
                (
                    "username",
                    models.CharField(
                        blank=True,
                        db_comment="Unique in the tenant, in any case",
                        max_length=150,
                        null=True,
                        validators=[django.core.validators.RegexValidator("^[^/@]+$", "No / or @.")],
                        verbose_name="user name",
                    ),
                ),
                (
                    "display_name",
                    models.CharField(blank=True, db_comment="Name for people", default="", max_length=200),
                ),
                (
                    "role",
                    models.CharField(
                        choices=[
                            ("owner", "Owner"),
                            ("admin", "Admin"),
                            ("developer", "Developer"),
                            ("auditor", "Auditor"),
                            ("billing", "Billing"),
                            ("viewer", "Viewer"),
                            ("operator", "Operator"),
                        ],
                        db_comment="What it may do in its tenant",
                        default="viewer",
                        max_length=9,
                    ),
                ),
                ("password", models.CharField(db_comment="Hash, never the password", editable=False, max_length=128)),
                (
                    "is_active",
                    models.BooleanField(
                        db_comment="Whether it may sign in and its keys work", default=True, verbose_name="active"
                    ),
                ),
                (
                    "is_staff",
                    models.BooleanField(
                        db_comment="May open the admin",
                        default=False,
                        help_text="May open this admin.",
                        verbose_name="staff",
                    ),
                ),
                (
                    "is_superuser",
                    models.BooleanField(db_comment="May do everything", default=False, verbose_name="superuser"),
                ),
                (
                    "oidc_issuer",
                    models.CharField(
                        blank=True,
                        db_comment="Identity provider",
                        default="",
                        max_length=255,
                        verbose_name="OIDC issuer",
                    ),
                ),
                (
                    "oidc_sub",
                    models.CharField(
                        blank=True,
                        db_comment="Subject at the issuer",
                        default="",
                        max_length=255,
                        verbose_name="OIDC subject",
                    ),
                ),
                (
                    "tokens_valid_after",
                    models.DateTimeField(
                        blank=True,
                        db_comment="Refresh tokens from before are void; set by a trigger",
                        editable=False,
                        null=True,
                    ),
                ),
                (
                    "metadata",
                    models.JSONField(
                        blank=True,
                        db_comment="Anything else",
                        default=dict,
                        validators=[tenants.models.fields.validate_object],
                    ),
                ),
                (
                    "last_login",
                    models.DateTimeField(
                        blank=True, db_comment="Last sign-in with a password", editable=False, null=True
                    ),
                ),
                (
                    "deleted_at",
                    models.DateTimeField(
                        db_comment="When it was deleted; its names stay taken", editable=False, null=True
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
                    "updated_at",
                    models.DateTimeField(
                        db_comment="When the row was last changed; set by a trigger",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "groups",
                    models.ManyToManyField(
                        blank=True, db_table="cp_tenants_user_groups", related_name="+", to="auth.group"
                    ),
                ),
                (
                    "user_permissions",
                    models.ManyToManyField(
                        blank=True, db_table="cp_tenants_user_permissions", related_name="+", to="auth.permission"
                    ),
                ),
            ],
            options={
                "db_table_comment": "A person in one tenant, or an operator in none",
            },
        ),
        migrations.CreateModel(
            name="Branch",
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
                    "status",
                    models.CharField(
                        choices=[("active", "Active"), ("suspended", "Suspended"), ("deleted", "Deleted")],
                        db_comment="active, suspended, deleted (soft)",
                        default="active",
                        editable=False,
                        max_length=9,
                    ),
                ),
                (
                    "deleted_at",
                    models.DateTimeField(
                        db_comment="When it was deleted; its names stay taken", editable=False, null=True
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
                    "updated_at",
                    models.DateTimeField(
                        db_comment="When the row was last changed; set by a trigger",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "code",
                    models.CharField(
                        db_comment="Short name, unique in the app",
                        max_length=63,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[A-Za-z0-9][A-Za-z0-9._-]*(?<!\\n)$", "Letters, digits and . _ - only."
                            )
                        ],
                    ),
                ),
                ("name", models.CharField(db_comment="Name for people", max_length=200)),
                (
                    "branch_type",
                    models.CharField(
                        choices=[
                            ("headquarters", "Headquarters"),
                            ("region", "Region"),
                            ("site", "Site"),
                            ("store", "Store"),
                            ("department", "Department"),
                            ("other", "Other"),
                        ],
                        db_comment="Kind of branch",
                        default="other",
                        max_length=16,
                        verbose_name="type",
                    ),
                ),
                (
                    "address",
                    models.JSONField(
                        blank=True,
                        db_comment="lines, city, region, postal_code, country (ISO 3166-1)",
                        default=dict,
                        validators=[tenants.models.tenant.validate_address],
                    ),
                ),
                ("contact", models.CharField(blank=True, db_comment="Whom to ask", default="", max_length=200)),
                (
                    "metadata",
                    models.JSONField(
                        blank=True,
                        db_comment="Anything else, for the operator",
                        default=dict,
                        validators=[tenants.models.fields.validate_object],
                    ),
                ),
                (
                    "app",
                    models.ForeignKey(
                        db_comment="App it is part of",
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="branches",
                        to="cp_tenants.app",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "branches",
                "db_table_comment": "A location or sub-unit of an app",
            },
        ),
        migrations.CreateModel(
            name="APIKey",
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
                ("name", models.CharField(db_comment="Name for people", max_length=200)),
                (
                    "environment",
                    models.CharField(
                        choices=[("live", "Live"), ("test", "Test")],
                        db_comment="live, test",
                        default="live",
                        max_length=4,
                    ),
                ),
                (
                    "scopes",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            max_length=64,
                            validators=[django.core.validators.RegexValidator("^[a-z][a-z0-9_.:-]{0,63}$(?<!\\n)")],
                        ),
                        blank=True,
                        db_comment="What it may be used for",
                        default=list,
                        help_text="Separated by commas. Callers ask for a scope by its whole name.",
                        size=None,
                    ),
                ),
                (
                    "allowed_models",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=265),
                        blank=True,
                        db_comment="Canonical ids; NULL: no restriction, {}: no model at all",
                        help_text="Canonical ids (provider/name), separated by commas. Empty: the key restricts nothing.",
                        null=True,
                        size=None,
                    ),
                ),
                (
                    "enabled",
                    models.BooleanField(
                        db_comment="A pause", default=True, help_text="Off: a pause; the key can be enabled again."
                    ),
                ),
                ("not_before", models.DateTimeField(blank=True, db_comment="Valid from; NULL: at once", null=True)),
                ("expires_at", models.DateTimeField(blank=True, db_comment="Planned end; NULL: none", null=True)),
                ("revoked_at", models.DateTimeField(db_comment="Set = revoked, for ever", editable=False, null=True)),
                (
                    "revoked_by",
                    models.CharField(db_comment="Label of who revoked it", default="", editable=False, max_length=254),
                ),
                ("revoke_reason", models.TextField(db_comment="Why it was revoked", default="", editable=False)),
                (
                    "metadata",
                    models.JSONField(
                        blank=True,
                        db_comment="Anything else, 8 KiB",
                        default=dict,
                        validators=[tenants.models.fields.validate_object],
                    ),
                ),
                (
                    "tags",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=64),
                        blank=True,
                        db_comment="To find it by",
                        default=list,
                        help_text="Separated by commas.",
                        size=None,
                    ),
                ),
                ("rotation", models.IntegerField(db_comment="How often it was rotated", default=0, editable=False)),
                (
                    "created_by",
                    models.CharField(db_comment="Label of who issued it", default="", editable=False, max_length=254),
                ),
                ("created_by_id", models.UUIDField(db_comment="User who issued it", editable=False, null=True)),
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
                    "user",
                    models.ForeignKey(
                        blank=True,
                        db_comment="Whose personal key it is; NULL: the app's",
                        db_constraint=False,
                        db_index=False,
                        help_text="Empty: the app's own key.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="keys",
                        to="cp_tenants.User",
                    ),
                ),
                (
                    "app",
                    models.ForeignKey(
                        db_comment="App that calls with it",
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="keys",
                        to="cp_tenants.app",
                    ),
                ),
                (
                    "branch",
                    models.ForeignKey(
                        blank=True,
                        db_comment="Branch it is bound to; NULL: none",
                        db_constraint=False,
                        db_index=False,
                        help_text="Empty: of every branch.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="keys",
                        to="cp_tenants.branch",
                    ),
                ),
            ],
            options={
                "verbose_name": "API key",
                "db_table_comment": "The identity of a caller; its secrets come and go",
                "permissions": [
                    ("issue_apikey", "Can issue API keys"),
                    ("rotate_apikey", "Can rotate API keys"),
                    ("revoke_apikey", "Can revoke API keys"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Tenant",
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
                    "status",
                    models.CharField(
                        choices=[("active", "Active"), ("suspended", "Suspended"), ("deleted", "Deleted")],
                        db_comment="active, suspended, deleted (soft)",
                        default="active",
                        editable=False,
                        max_length=9,
                    ),
                ),
                (
                    "deleted_at",
                    models.DateTimeField(
                        db_comment="When it was deleted; its names stay taken", editable=False, null=True
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
                    "updated_at",
                    models.DateTimeField(
                        db_comment="When the row was last changed; set by a trigger",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "slug",
                    models.CharField(
                        db_comment="Name in URLs and commands",
                        max_length=63,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9](-?[a-z0-9])+$(?<!\\n)",
                                "A slug has 2 to 63 lower-case letters, digits and single hyphens inside, as acme or acme-eu.",
                                code="invalid_slug",
                            )
                        ],
                    ),
                ),
                ("name", models.CharField(db_comment="Name for people", max_length=200)),
                (
                    "domain",
                    models.CharField(
                        blank=True,
                        db_comment="E-mail or web domain, lower case; empty: none",
                        default="",
                        max_length=253,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$(?<!\\n)",
                                "Write a domain in lower case, as acme.example.",
                            )
                        ],
                    ),
                ),
                (
                    "time_zone",
                    models.CharField(
                        db_comment="IANA time zone of its days and budgets",
                        default="UTC",
                        help_text="IANA name, as Europe/Berlin. Budgets and days follow it.",
                        max_length=64,
                        validators=[tenants.models.tenant.validate_time_zone],
                    ),
                ),
                (
                    "settings",
                    models.JSONField(
                        blank=True,
                        db_comment="The tenant's own settings",
                        default=dict,
                        help_text="The tenant's own settings: a JSON object.",
                        validators=[tenants.models.fields.validate_object],
                    ),
                ),
                (
                    "metadata",
                    models.JSONField(
                        blank=True,
                        db_comment="Anything else, for the operator",
                        default=dict,
                        validators=[tenants.models.fields.validate_object],
                    ),
                ),
                (
                    "db_dsn",
                    controlplane.core.fields.EncryptedTextField(
                        blank=True,
                        db_comment="URL of its own database, encrypted",
                        default="",
                        help_text="Of its own database, if it has one. Stored encrypted.",
                        verbose_name="database URL",
                    ),
                ),
                (
                    "db_schema",
                    models.CharField(blank=True, db_comment="Schema in its own database", default="", max_length=63),
                ),
                (
                    "suspended_at",
                    models.DateTimeField(db_comment="Since when it is suspended", editable=False, null=True),
                ),
                ("suspended_reason", models.TextField(db_comment="Why it is suspended", default="", editable=False)),
            ],
            options={
                "db_table_comment": "An organisation: the border that nothing crosses",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["active", "suspended", "deleted"])),
                        name="cp_tenants_tenant_status",
                        violation_error_message="The status is active, suspended or deleted.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("deleted_at__isnull", False), ("status", "deleted")),
                            models.Q(models.Q(("status", "deleted"), _negated=True), ("deleted_at__isnull", True)),
                            _connector="OR",
                        ),
                        name="cp_tenants_tenant_deleted_has_a_time",
                        violation_error_message="What is deleted has deleted_at, and nothing else has.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("slug__regex", "^[a-z0-9](-?[a-z0-9])+$")),
                        name="cp_tenants_tenant_slug_is_plain",
                        violation_error_code="invalid_slug",
                        violation_error_message="A slug has 2 to 63 lower-case letters, digits and single hyphens inside, as acme or acme-eu.",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("domain", ""), _negated=True),
                        fields=("domain",),
                        name="cp_tenants_tenant_domain_once",
                        violation_error_message="Another tenant has this domain.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("domain", django.db.models.functions.text.Lower("domain"))),
                        name="cp_tenants_tenant_domain_in_lower_case",
                        violation_error_message="Write the domain in lower case.",
                    ),
                    models.CheckConstraint(
                        condition=models.Func(
                            "time_zone", function="cp_is_time_zone", output_field=models.BooleanField()
                        ),
                        name="cp_tenants_tenant_time_zone_is_known",
                        violation_error_code="unknown_time_zone",
                        violation_error_message="This is no IANA time zone. Use a name as Europe/Berlin or UTC.",
                    ),
                    models.CheckConstraint(
                        condition=controlplane.core.constraints._IsJSONObject(
                            models.F("settings"), models.Value(65536)
                        ),
                        name="cp_tenants_tenant_settings_is_object",
                        violation_error_message="settings is a JSON object of at most 64 KiB.",
                    ),
                    models.CheckConstraint(
                        condition=controlplane.core.constraints._IsJSONObject(
                            models.F("metadata"), models.Value(65536)
                        ),
                        name="cp_tenants_tenant_metadata_is_object",
                        violation_error_message="metadata is a JSON object of at most 64 KiB.",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="APIKeySecret",
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
                ("kid", models.CharField(db_comment="Public name, part of the token", editable=False, max_length=12)),
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
                    "hint",
                    models.CharField(
                        db_comment="Imported ones: what may be shown", default="", editable=False, max_length=32
                    ),
                ),
                (
                    "origin",
                    models.CharField(
                        db_comment="Where it came from; empty: issued here", default="", editable=False, max_length=32
                    ),
                ),
                (
                    "expires_at",
                    models.DateTimeField(db_comment="Its own end; NULL: the key's", editable=False, null=True),
                ),
                ("revoked_at", models.DateTimeField(db_comment="Set = revoked, for ever", editable=False, null=True)),
                (
                    "revoked_by",
                    models.CharField(db_comment="Label of who revoked it", default="", editable=False, max_length=254),
                ),
                ("revoke_reason", models.TextField(db_comment="Why it was revoked", default="", editable=False)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_comment="When the row was made",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "key",
                    models.ForeignKey(
                        db_comment="Key it opens",
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="secrets",
                        to="cp_tenants.apikey",
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
                "verbose_name": "secret",
                "db_table_comment": "What a caller holds, as a digest",
            },
        ),
        migrations.CreateModel(
            name="UserApp",
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
                    "role",
                    models.CharField(
                        choices=[("admin", "Admin"), ("developer", "Developer"), ("viewer", "Viewer")],
                        db_comment="admin, developer, viewer",
                        default="viewer",
                        max_length=9,
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[("active", "Active"), ("revoked", "Revoked")],
                        db_comment="active, revoked",
                        default="active",
                        editable=False,
                        max_length=7,
                    ),
                ),
                (
                    "granted_at",
                    models.DateTimeField(db_comment="Since when", default=controlplane.core.ids.now, editable=False),
                ),
                (
                    "granted_by",
                    models.CharField(db_comment="Label of who granted it", default="", editable=False, max_length=254),
                ),
                ("revoked_at", models.DateTimeField(db_comment="When it ended", editable=False, null=True)),
                (
                    "revoked_by",
                    models.CharField(db_comment="Label of who ended it", default="", editable=False, max_length=254),
                ),
                ("reason", models.TextField(db_comment="Why it ended", default="", editable=False)),
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
                    "app",
                    models.ForeignKey(
                        db_comment="To which app",
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="accesses",
                        to="cp_tenants.app",
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
                        db_comment="Who has access",
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="accesses",
                        to="cp_tenants.User",
                    ),
                ),
            ],
            options={
                "verbose_name": "app access",
                "verbose_name_plural": "app accesses",
                "db_table_comment": "A user's access to an app",
            },
        ),
        migrations.AddField(
            model_name="branch",
            name="tenant",
            field=models.ForeignKey(
                db_comment="Whose it is",
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="branches",
                to="cp_tenants.tenant",
            ),
        ),
        migrations.AddField(
            model_name="app",
            name="tenant",
            field=models.ForeignKey(
                db_comment="Whose app it is",
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="apps",
                to="cp_tenants.tenant",
            ),
        ),
        migrations.AddField(
            model_name="apikey",
            name="tenant",
            field=models.ForeignKey(
                db_comment="Whose it is",
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="keys",
                to="cp_tenants.tenant",
            ),
        ),
        migrations.AddField(
            model_name="user",
            name="tenant",
            field=models.ForeignKey(
                blank=True,
                db_comment="NULL: an operator of the platform",
                db_index=False,
                help_text="Empty: an operator of the platform.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="users",
                to="cp_tenants.tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="branch",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="cp_tenants_branch_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="branch",
            constraint=models.UniqueConstraint(fields=("tenant", "app", "id"), name="cp_tenants_branch_tenant_app_id"),
        ),
        migrations.AddConstraint(
            model_name="branch",
            constraint=models.UniqueConstraint(
                fields=("tenant", "app", "code"),
                name="cp_tenants_branch_code_once",
                violation_error_code="name_taken",
                violation_error_message="Another branch of this app has this code, a deleted one perhaps.",
            ),
        ),
        migrations.AddConstraint(
            model_name="app",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="cp_tenants_app_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="app",
            constraint=models.UniqueConstraint(
                fields=("tenant", "slug"),
                name="cp_tenants_app_slug_once",
                violation_error_code="slug_taken",
                violation_error_message="This slug is taken, also by what was deleted. Choose another.",
            ),
        ),
        migrations.AddConstraint(
            model_name="app",
            constraint=models.UniqueConstraint(
                models.F("tenant"),
                django.db.models.functions.text.Lower("name"),
                name="cp_tenants_app_name_once",
                violation_error_code="name_taken",
                violation_error_message="This name is taken. Choose another.",
            ),
        ),
        migrations.AddConstraint(
            model_name="apikeysecret",
            constraint=models.UniqueConstraint(fields=("kid",), name="cp_tenants_apikeysecret_kid_once"),
        ),
        migrations.AddConstraint(
            model_name="apikeysecret",
            constraint=models.UniqueConstraint(fields=("digest",), name="cp_tenants_apikeysecret_digest_once"),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="cp_tenants_apikey_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.UniqueConstraint(fields=("tenant", "app", "id"), name="cp_tenants_apikey_tenant_app_id"),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="cp_tenants_user_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(
                models.F("tenant"),
                django.db.models.functions.text.Lower("email"),
                name="cp_tenants_user_email_once",
                nulls_distinct=False,
                violation_error_code="name_taken",
                violation_error_message="Another user of this tenant has this e-mail.",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(
                models.F("tenant"),
                django.db.models.functions.text.Lower("username"),
                condition=models.Q(("username__isnull", False)),
                name="cp_tenants_user_username_once",
                nulls_distinct=False,
                violation_error_code="name_taken",
                violation_error_message="Another user of this tenant has this user name.",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(
                condition=models.Q(("oidc_sub", ""), _negated=True),
                fields=("oidc_issuer", "oidc_sub"),
                name="cp_tenants_user_oidc_once",
                violation_error_message="Another user has this identity.",
            ),
        ),
        migrations.AddConstraint(
            model_name="userapp",
            constraint=models.UniqueConstraint(
                fields=("tenant", "user", "app"),
                name="cp_tenants_userapp_once",
                violation_error_message="This user has a row for this app already. Change that one.",
            ),
        ),
        migrations.AddConstraint(
            model_name="branch",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["active", "suspended", "deleted"])),
                name="cp_tenants_branch_status",
                violation_error_message="The status is active, suspended or deleted.",
            ),
        ),
        migrations.AddConstraint(
            model_name="branch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("deleted_at__isnull", False), ("status", "deleted")),
                    models.Q(models.Q(("status", "deleted"), _negated=True), ("deleted_at__isnull", True)),
                    _connector="OR",
                ),
                name="cp_tenants_branch_deleted_has_a_time",
                violation_error_message="What is deleted has deleted_at, and nothing else has.",
            ),
        ),
        migrations.AddConstraint(
            model_name="branch",
            constraint=models.CheckConstraint(
                condition=controlplane.core.constraints._IsJSONObject(models.F("address"), models.Value(65536)),
                name="cp_tenants_branch_address_is_object",
                violation_error_message="address is a JSON object of at most 64 KiB.",
            ),
        ),
        migrations.AddConstraint(
            model_name="branch",
            constraint=models.CheckConstraint(
                condition=controlplane.core.constraints._IsJSONObject(models.F("metadata"), models.Value(65536)),
                name="cp_tenants_branch_metadata_is_object",
                violation_error_message="metadata is a JSON object of at most 64 KiB.",
            ),
        ),
        migrations.AddConstraint(
            model_name="app",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["active", "suspended", "deleted"])),
                name="cp_tenants_app_status",
                violation_error_message="The status is active, suspended or deleted.",
            ),
        ),
        migrations.AddConstraint(
            model_name="app",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("deleted_at__isnull", False), ("status", "deleted")),
                    models.Q(models.Q(("status", "deleted"), _negated=True), ("deleted_at__isnull", True)),
                    _connector="OR",
                ),
                name="cp_tenants_app_deleted_has_a_time",
                violation_error_message="What is deleted has deleted_at, and nothing else has.",
            ),
        ),
        migrations.AddConstraint(
            model_name="app",
            constraint=models.CheckConstraint(
                condition=models.Q(("slug__regex", "^[a-z0-9](-?[a-z0-9])+$")),
                name="cp_tenants_app_slug_is_plain",
                violation_error_code="invalid_slug",
                violation_error_message="A slug has 2 to 63 lower-case letters, digits and single hyphens inside, as acme or acme-eu.",
            ),
        ),
        migrations.AddConstraint(
            model_name="app",
            constraint=models.CheckConstraint(
                condition=controlplane.core.constraints._IsJSONObject(models.F("config"), models.Value(65536)),
                name="cp_tenants_app_config_is_object",
                violation_error_message="config is a JSON object of at most 64 KiB.",
            ),
        ),
        migrations.AddConstraint(
            model_name="app",
            constraint=models.CheckConstraint(
                condition=controlplane.core.constraints._IsJSONObject(models.F("metadata"), models.Value(65536)),
                name="cp_tenants_app_metadata_is_object",
                violation_error_message="metadata is a JSON object of at most 64 KiB.",
            ),
        ),
        migrations.AddConstraint(
            model_name="apikeysecret",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    django.db.models.lookups.Exact(
                        models.Func("digest", function="octet_length", output_field=models.IntegerField()), 32
                    )
                ),
                name="cp_tenants_apikeysecret_digest_is_32_bytes",
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(("environment__in", ("live", "test"))), name="cp_tenants_apikey_environment"
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(("name", ""), _negated=True), name="cp_tenants_apikey_has_a_name"
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("not_before__isnull", True),
                    ("expires_at__isnull", True),
                    ("not_before__lt", models.F("expires_at")),
                    _connector="OR",
                ),
                name="cp_tenants_apikey_begins_before_it_ends",
                violation_error_code="bad_expiry",
                violation_error_message="The key ends before it begins.",
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(("scopes__len__lte", 64)), name="cp_tenants_apikey_few_scopes"
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("allowed_models__isnull", True), ("allowed_models__len__lte", 1000), _connector="OR"
                ),
                name="cp_tenants_apikey_few_models",
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(("tags__len__lte", 32)), name="cp_tenants_apikey_few_tags"
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=controlplane.core.constraints._IsJSONObject(models.F("metadata"), models.Value(8192)),
                name="cp_tenants_apikey_metadata_is_object",
                violation_error_message="metadata is a JSON object of at most 8 KiB.",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("oidc_issuer", ""), ("oidc_sub", "")),
                    models.Q(models.Q(("oidc_issuer", ""), _negated=True), models.Q(("oidc_sub", ""), _negated=True)),
                    _connector="OR",
                ),
                name="cp_tenants_user_oidc_pair",
                violation_error_message="An issuer needs a subject, and a subject its issuer.",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(("email__contains", "/"), _negated=True),
                name="cp_tenants_user_email_without_slash",
                violation_error_message="An e-mail address here has no slash.",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("username__contains", "/"), _negated=True),
                    models.Q(("username__contains", "@"), _negated=True),
                ),
                name="cp_tenants_user_username_is_plain",
                violation_error_message="A user name has no / and no @.",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("role__in", ["owner", "admin", "developer", "auditor", "billing", "viewer", "operator"])
                ),
                name="cp_tenants_user_role",
                violation_error_code="unknown_role",
                violation_error_message="There is no such role.",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("role", "operator"), ("tenant__isnull", True)),
                    models.Q(("tenant__isnull", False), models.Q(("role", "operator"), _negated=True)),
                    _connector="OR",
                ),
                name="cp_tenants_user_operator_has_no_tenant",
                violation_error_message="An operator has no tenant, and everybody else has one.",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("tenant__isnull", True), models.Q(("is_staff", False), ("is_superuser", False)), _connector="OR"
                ),
                name="cp_tenants_user_staff_is_operator",
                violation_error_message="Staff and superusers are operators: they have no tenant.",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(("deleted_at__isnull", True), ("is_active", False), _connector="OR"),
                name="cp_tenants_user_deleted_is_inactive",
                violation_error_message="A deleted user is not active.",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=controlplane.core.constraints._IsJSONObject(models.F("metadata"), models.Value(65536)),
                name="cp_tenants_user_metadata_is_object",
                violation_error_message="metadata is a JSON object of at most 64 KiB.",
            ),
        ),
        migrations.AddConstraint(
            model_name="userapp",
            constraint=models.CheckConstraint(
                condition=models.Q(("role__in", ("admin", "developer", "viewer"))), name="cp_tenants_userapp_role"
            ),
        ),
        migrations.AddConstraint(
            model_name="userapp",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("revoked_at__isnull", True), ("status", "active")),
                    models.Q(("revoked_at__isnull", False), ("status", "revoked")),
                    _connector="OR",
                ),
                name="cp_tenants_userapp_revoked_has_a_time",
                violation_error_message="A revoked access has revoked_at, and an active one has not.",
            ),
        ),
        migrations.AddConstraint(
            model_name="branch",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "app"),
                name="cp_tenants_branch_app_of_tenant",
                to="cp_tenants.App",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="apikeysecret",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "key"),
                name="cp_tenants_apikeysecret_key_of_tenant",
                to="cp_tenants.APIKey",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "app"),
                name="cp_tenants_apikey_app_of_tenant",
                to="cp_tenants.App",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "user"),
                name="cp_tenants_apikey_user_of_tenant",
                to="cp_tenants.User",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "app", "branch"),
                name="cp_tenants_apikey_branch_of_app",
                to="cp_tenants.Branch",
                to_fields=("tenant", "app", "id"),
                violation_error_code="wrong_tenant",
                violation_error_message="This branch belongs to another app or tenant. Choose one of this app.",
            ),
        ),
        migrations.AddConstraint(
            model_name="userapp",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "user"),
                name="cp_tenants_userapp_user_of_tenant",
                to="cp_tenants.User",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="userapp",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "app"),
                name="cp_tenants_userapp_app_of_tenant",
                to="cp_tenants.App",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddIndex(
            model_name="apikeysecret",
            index=models.Index(fields=["key"], name="apikeysecret_key_idx"),
        ),
        migrations.AddIndex(
            model_name="apikeysecret",
            index=models.Index(
                condition=models.Q(("revoked_at", None)), fields=["expires_at"], name="apikeysecret_expires_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="apikey",
            index=models.Index(fields=["tenant", "-created_at"], name="apikey_tenant_idx"),
        ),
        migrations.AddIndex(
            model_name="apikey",
            index=models.Index(fields=["tenant", "app"], name="apikey_app_idx"),
        ),
        migrations.AddIndex(
            model_name="apikey",
            index=models.Index(fields=["tenant", "user"], name="apikey_user_idx"),
        ),
        migrations.AddIndex(
            model_name="apikey",
            index=models.Index(
                condition=models.Q(("revoked_at", None)), fields=["expires_at"], name="apikey_expires_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="apikey",
            index=django.contrib.postgres.indexes.GinIndex(fields=["tags"], name="apikey_tags_idx"),
        ),
        migrations.AddIndex(
            model_name="userapp",
            index=models.Index(fields=["tenant", "app", "user"], name="userapp_app_idx"),
        ),
    ]
