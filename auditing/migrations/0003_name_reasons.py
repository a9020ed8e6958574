from __future__ import annotations

from django.db import migrations

from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("cp_auditing", "0002_create_requests"),
    ]

    operations = [
        RunSQLFile(package="auditing", name="0005_reason_codes"),
    ]
