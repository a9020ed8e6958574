from __future__ import annotations

from django.db import migrations

from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    initial = True
    dependencies: list[tuple[str, str]] = []

    operations = [
        RunSQLFile("controlplane.core", "0001_roles"),
        RunSQLFile("controlplane.core", "0002_row_security"),
        RunSQLFile("controlplane.core", "0003_values"),
        RunSQLFile("controlplane.core", "0004_append_only"),
        RunSQLFile("controlplane.core", "0005_partitions"),
    ]
