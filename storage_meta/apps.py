from __future__ import annotations

from django.apps import AppConfig


class StorageMetaConfig(AppConfig):
    name = "storage_meta"
    label = "cp_storage_meta"
    default_auto_field = "django.db.models.BigAutoField"
