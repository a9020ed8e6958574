from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

from controlplane.core.conf import conf


class ControlPlaneRouter:
    """Sends our tables to CONTROLPLANE["DATABASE"], for the control plane and for every sibling project.

    Ours are the apps whose label begins with `cp_`. Only the project with CONTROLPLANE["MIGRATE"] migrates them, and
    only there. About other apps it has one opinion: a sibling with an alias for the control plane makes no table there.
    """

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return conf.DATABASE if _ours(model._meta.app_label) else None

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        return conf.DATABASE if _ours(model._meta.app_label) else None

    def allow_relation(self, obj1: Model, obj2: Model, **hints: Any) -> bool | None:
        """Within one database yes, across two never: no foreign key could hold it."""
        if not (_ours(obj1._meta.app_label) or _ours(obj2._meta.app_label)):
            return None
        return _alias(obj1) == _alias(obj2)

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        if _ours(app_label):
            return bool(conf.MIGRATE) and db == conf.DATABASE
        if db == conf.DATABASE != DEFAULT_DB_ALIAS and not conf.MIGRATE:
            return False  # a sibling's tables do not land in the control plane's database
        return None


def _ours(label: str) -> bool:
    return label.startswith("cp_")


def _alias(obj: Model) -> str:
    return conf.DATABASE if _ours(obj._meta.app_label) else obj._state.db or DEFAULT_DB_ALIAS
