from __future__ import annotations

from django.db import migrations

from controlplane.core.operations import RunSQLFile

TABLES = ("cp_catalog_provider", "cp_catalog_aimodel", "cp_catalog_modelalias")


class Migration(migrations.Migration):
    dependencies = [("cp_catalog", "0001_create_models"), ("cp_auditing", "0001_create_auditlog")]

    operations = [
        RunSQLFile("catalog", "0001_alias_security"),
        RunSQLFile("catalog", "0002_model_search"),
        RunSQLFile("catalog", "0003_alias_names"),
        *(
            migrations.RunSQL([(f"SELECT {do}(%s)", [table])], [(f"SELECT {undo}(%s)", [table])])
            for table in TABLES
            for do, undo in (
                ("cp_audit_watch", "cp_audit_unwatch"),
                ("cp_readable", "cp_unreadable"),
                ("cp_touch", "cp_untouch"),
            )
        ),
    ]
