from __future__ import annotations

from django.db import migrations

from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("cp_auditing", "0008_roll_up_usage"),
    ]

    operations = [
        RunSQLFile(package="auditing", name="0010_closed_months"),
        migrations.AlterModelOptions(
            name="usagesummary",
            options={
                "default_permissions": ("view",),
                "permissions": [("close_usagesummary", "Can close and reopen months")],
                "verbose_name": "summary",
                "verbose_name_plural": "summaries",
            },
        ),
    ]
