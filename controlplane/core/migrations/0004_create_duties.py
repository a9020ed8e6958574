from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("cp_core", "0003_name_processes"),
    ]

    operations = [
        migrations.CreateModel(
            name="WorkerDuty",
            fields=[
                ("name", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("started_at", models.DateTimeField()),
                (
                    "finished_at",
                    models.DateTimeField(
                        blank=True, help_text="Of the last run that ended; NULL: the first goes on.", null=True
                    ),
                ),
                ("failures", models.IntegerField(default=0)),
                ("error", models.TextField(blank=True, default="")),
            ],
            options={
                "verbose_name_plural": "worker duties",
                "db_table_comment": "When a duty was done last, and how it went",
                "default_permissions": ("view",),
            },
        ),
        migrations.RunSQL("SELECT cp_readable('cp_core_workerduty')", "SELECT cp_unreadable('cp_core_workerduty')"),
    ]
