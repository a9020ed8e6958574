from __future__ import annotations

from django.db import migrations, models

from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("cp_auditing", "0007_verify_logs"),
    ]

    operations = [
        migrations.CreateModel(
            name="UsageZone",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField()),
                ("time_zone", models.CharField(max_length=64)),
                ("first_on", models.DateField()),
                ("last_on", models.DateField()),
            ],
            options={
                "db_table_comment": "Time zones that usage was booked in",
                "default_permissions": ("view",),
                "indexes": [models.Index(fields=["tenant_id"], name="usagezone_tenant_idx")],
            },
        ),
        RunSQLFile(package="auditing", name="0009_rollups"),
    ]
