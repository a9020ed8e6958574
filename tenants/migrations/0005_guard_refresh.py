from __future__ import annotations

from django.db import migrations

from controlplane.core.operations import RunSQLFile

# digests stay out of cp_reader's sight, as those of keys do; the families' rows say all else
ISOLATED = ("cp_tenants_refreshfamily", "cp_tenants_refreshtoken")
FAMILY = ["cp_tenants_refreshfamily"]


class Migration(migrations.Migration):
    dependencies = [("cp_tenants", "0004_create_refresh"), ("cp_auditing", "0001_create_auditlog")]

    operations = [
        RunSQLFile("tenants", "0003_refresh"),
        *(
            migrations.RunSQL(
                [("SELECT cp_isolate(%s, 'tenant_id', 'SELECT, INSERT, UPDATE')", [table])],
                [("SELECT cp_unisolate(%s)", [table])],
            )
            for table in ISOLATED
        ),
        migrations.RunSQL([("SELECT cp_audit_watch(%s)", FAMILY)], [("SELECT cp_audit_unwatch(%s)", FAMILY)]),
        migrations.RunSQL([("SELECT cp_readable(%s)", FAMILY)], [("SELECT cp_unreadable(%s)", FAMILY)]),
    ]
