from __future__ import annotations

from django.db import migrations

from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("cp_storage_meta", "0005_search_objects")]

    operations = [RunSQLFile("storage_meta", "0006_hooks")]
