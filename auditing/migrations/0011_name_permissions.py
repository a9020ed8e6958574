from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("cp_auditing", "0010_retire_months"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="auditlog",
            options={
                "permissions": [("export_auditlog", "Can export the audit log")],
                "verbose_name": "audit event",
                "verbose_name_plural": "audit log",
            },
        ),
        migrations.AlterModelOptions(
            name="deadletter",
            options={"permissions": [("resolve_deadletter", "Can retry and discard dead letters")]},
        ),
        migrations.AlterModelOptions(
            name="inferencerequest",
            options={
                "permissions": [("adjust_inferencerequest", "Can adjust finished requests")],
                "verbose_name": "request",
            },
        ),
        migrations.AlterModelOptions(
            name="usagesummary",
            options={
                "default_permissions": ("view",),
                "permissions": [("close_usagesummary", "Can close and reopen months")],
                "verbose_name": "summary",
                "verbose_name_plural": "summaries",
            },
        ),
    ]
