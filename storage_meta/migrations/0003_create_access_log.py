from __future__ import annotations

from django.db import migrations, models

from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    dependencies = [("cp_storage_meta", "0002_join_storage")]

    operations = [
        RunSQLFile(
            "storage_meta",
            "0003_storageaudit",
            state_operations=[
                migrations.CreateModel(
                    name="StorageAudit",
                    fields=[
                        ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                        ("created_at", models.DateTimeField()),
                        ("tenant_id", models.UUIDField()),
                        ("action", models.CharField(help_text="As s3:PutObject.", max_length=64)),
                        (
                            "record_type",
                            models.CharField(
                                choices=[
                                    ("CREATE", "Create"),
                                    ("UPDATE_METADATA", "Update metadata"),
                                    ("DELETE", "Delete"),
                                    ("READ", "Read"),
                                    ("ADMIN", "Administer"),
                                ],
                                max_length=15,
                            ),
                        ),
                        (
                            "bucket",
                            models.CharField(
                                blank=True, default="", help_text="Its name then; empty: of all.", max_length=63
                            ),
                        ),
                        ("object_key", models.TextField(blank=True, db_collation="C", default="")),
                        ("version_id", models.CharField(blank=True, default="", max_length=1024)),
                        ("sequencer", models.CharField(blank=True, default="", max_length=16)),
                        ("size", models.BigIntegerField(blank=True, help_text="Bytes.", null=True)),
                        ("etag", models.CharField(blank=True, default="", max_length=255)),
                        ("is_delete_marker", models.BooleanField(default=False)),
                        (
                            "bytes_sent",
                            models.BigIntegerField(
                                blank=True, help_text="Of a download: bytes the caller took.", null=True
                            ),
                        ),
                        ("metadata", models.JSONField(blank=True, null=True)),
                        ("actor_type", models.CharField(max_length=16)),
                        ("actor_id", models.TextField(blank=True, default="")),
                        ("actor_name", models.TextField(blank=True, default="")),
                        ("source_ip", models.GenericIPAddressField(blank=True, null=True)),
                        ("user_agent", models.TextField(blank=True, default="")),
                        ("request_id", models.TextField(blank=True, default="")),
                        ("success", models.BooleanField(default=True)),
                        ("error_code", models.CharField(blank=True, default="", max_length=64)),
                        ("error_message", models.TextField(blank=True, default="")),
                    ],
                    options={
                        "verbose_name": "access",
                        "verbose_name_plural": "access log",
                        "db_table": "cp_storage_meta_storageaudit",
                        "default_permissions": ("view",),
                    },
                ),
            ],
        ),
    ]
