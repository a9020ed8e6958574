from __future__ import annotations

from django.db import migrations

from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("cp_storage_meta", "0003_create_access_log")]

    operations = [RunSQLFile("storage_meta", "0004_listing")]
