from __future__ import annotations

from django.db import migrations

from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [
        ("cp_auditing", "0011_name_permissions"),
    ]

    operations = [
        RunSQLFile(package="auditing", name="0012_watch_at_once"),
    ]
