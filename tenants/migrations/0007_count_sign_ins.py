from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("cp_tenants", "0006_watch_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="SignInCount",
            fields=[
                (
                    "key",
                    models.CharField(
                        db_comment="HMAC of the name as typed, or of the address, with SECRET_KEY",
                        max_length=64,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "failures",
                    models.IntegerField(db_comment="Sign-ins that have not succeeded, those at work among them"),
                ),
                (
                    "began_at",
                    models.DateTimeField(db_comment="When the window began: at its first failure", db_index=True),
                ),
            ],
            options={
                "db_table_comment": "Failed sign-ins by name and by address; kept for a window",
            },
        ),
    ]
