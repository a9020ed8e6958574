from __future__ import annotations

from django.db import migrations

from controlplane.core.operations import RunSQLFile


def joined(do: str, undo: str, table: str) -> migrations.RunSQL:
    return migrations.RunSQL([(f"SELECT {do}(%s)", [table])], [(f"SELECT {undo}(%s)", [table])])


class Migration(migrations.Migration):
    dependencies = [("cp_catalog", "0003_create_prices"), ("cp_auditing", "0001_create_auditlog")]

    operations = [
        RunSQLFile("catalog", "0005_price_security"),
        RunSQLFile("catalog", "0006_frozen_prices"),
        joined("cp_audit_watch", "cp_audit_unwatch", "cp_catalog_modelprice"),
        joined("cp_readable", "cp_unreadable", "cp_catalog_modelprice"),
        joined("cp_readable", "cp_unreadable", "cp_catalog_priceimport"),
        migrations.RunSQL(
            "SELECT cp_append_only('cp_catalog_priceimport')",
            "DROP TRIGGER cp_append_only ON cp_catalog_priceimport; DROP TRIGGER cp_no_truncate ON cp_catalog_priceimport",
        ),
    ]
