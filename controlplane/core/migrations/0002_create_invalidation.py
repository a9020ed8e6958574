from __future__ import annotations

from django.db import migrations

from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("cp_core", "0001_lay_ground")]

    operations = [
        RunSQLFile("controlplane.core", "0006_invalidation"),
        RunSQLFile("controlplane.core", "0007_processes"),
    ]
