from __future__ import annotations

from django.apps import AppConfig


class AuditingConfig(AppConfig):
    name = "auditing"
    label = "cp_auditing"
    default_auto_field = "django.db.models.BigAutoField"
