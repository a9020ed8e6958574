from __future__ import annotations

from django.apps import AppConfig


class ControlPlaneConfig(AppConfig):
    """The roof: settings, gate, pages and project-wide commands. It has no models."""

    name = "controlplane"
    label = "cp_controlplane"
    verbose_name = "Control plane"

    def ready(self) -> None:
        import controlplane.checks  # noqa: F401 - registers them
