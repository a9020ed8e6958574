from __future__ import annotations

from django.apps import AppConfig


class StorageMetaConfig(AppConfig):
    """Metadata of stored objects. No models yet: the label and the top floor are taken, so that what installs today's list
    of apps installs tomorrow's too, and every test over apps and floors counts it in."""

    name = "storage_meta"
    label = "cp_storage_meta"
    default_auto_field = "django.db.models.BigAutoField"
