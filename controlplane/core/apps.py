from __future__ import annotations

from typing import ClassVar

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Ground floor: what two or more apps need, and the database's ground. Imports no app."""

    name = "controlplane.core"
    label = "cp_core"
    verbose_name = "Control plane core"
    default_auto_field = "django.db.models.BigAutoField"
    audit_exempt: ClassVar[dict[str, str]] = {"WorkerDuty": "written by the worker every few seconds, no configuration"}

    def ready(self) -> None:
        import controlplane.core.checks  # noqa: F401 - registers them
