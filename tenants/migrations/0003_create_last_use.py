from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import controlplane.core.constraints


class Migration(migrations.Migration):
    dependencies = [
        ("cp_tenants", "0002_guard_tenancy"),
    ]

    operations = [
        migrations.CreateModel(
            name="APIKeySecretUse",
            fields=[
                (
                    "secret",
                    models.OneToOneField(
                        db_comment="Which one",
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="use",
                        serialize=False,
                        to="cp_tenants.apikeysecret",
                    ),
                ),
                ("last_used_at", models.DateTimeField(db_comment="Newest use that was written down")),
            ],
            options={
                "verbose_name": "last use of a secret",
                "verbose_name_plural": "last uses of secrets",
                "db_table_comment": "When a secret was last used",
            },
        ),
        migrations.AddConstraint(
            model_name="apikeysecret",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="cp_tenants_apikeysecret_tenant_id"),
        ),
        migrations.AddField(
            model_name="apikeysecretuse",
            name="tenant",
            field=models.ForeignKey(
                db_comment="Whose it is",
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="cp_tenants.tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="apikeysecretuse",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "secret"),
                name="cp_tenants_apikeysecretuse_secret_of_tenant",
                to="cp_tenants.APIKeySecret",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.RunSQL(
            # changed in place again and again (HOT): room for it on each page
            "ALTER TABLE cp_tenants_apikeysecretuse SET (fillfactor = 70)",
            "ALTER TABLE cp_tenants_apikeysecretuse RESET (fillfactor)",
        ),
        migrations.RunSQL(
            "SELECT cp_isolate('cp_tenants_apikeysecretuse', 'tenant_id', 'SELECT')",
            "SELECT cp_unisolate('cp_tenants_apikeysecretuse')",
        ),
        migrations.RunSQL(
            "SELECT cp_readable('cp_tenants_apikeysecretuse')", "SELECT cp_unreadable('cp_tenants_apikeysecretuse')"
        ),
    ]
