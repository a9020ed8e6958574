from __future__ import annotations

from django.db import migrations

from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("cp_catalog", "0004_guard_prices")]

    operations = [RunSQLFile("catalog", "0007_alike")]
