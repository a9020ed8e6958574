from __future__ import annotations

from django.db import migrations

from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("cp_auditing", "0009_close_months"),
    ]

    operations = [
        RunSQLFile(package="auditing", name="0011_retirement"),
    ]
