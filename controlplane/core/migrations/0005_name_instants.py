from __future__ import annotations

from django.db import migrations

from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("cp_core", "0004_create_duties")]

    operations = [RunSQLFile(package="controlplane.core", name="0008_partition_instants")]
