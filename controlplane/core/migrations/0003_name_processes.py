from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("cp_core", "0002_create_invalidation")]

    operations = [
        migrations.CreateModel(  # unmanaged: the table is there
            name="Process",
            fields=[
                ("process", models.UUIDField(primary_key=True, serialize=False)),
                ("host", models.TextField()),
                ("pid", models.IntegerField()),
                ("started_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
                ("lease_age_ms", models.BigIntegerField(null=True)),
                ("caches", models.JSONField(default=dict)),
            ],
            options={
                "db_table": "cp_core_process",
                "default_permissions": ("view",),
                "permissions": [("flush_process", "Can empty the caches of every process")],
                "managed": False,
            },
        ),
        # a login that only reads caches what it may read
        migrations.RunSQL("SELECT cp_readable('cp_core_invalidation')", "SELECT cp_unreadable('cp_core_invalidation')"),
    ]
